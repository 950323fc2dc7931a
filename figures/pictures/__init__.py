"""Pictures of a user's own results: `--plot` of the commands, `show` of `noise` and `data`."""
