"""Pictures of a user's own results, drawn by `refbnn reproduce`, `noise show` and `data show`."""
