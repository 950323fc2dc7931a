"""Programs: how operators are put together, compiled, recorded and called."""
