"""Files: what is read and written, atomically and without executing anything from outside."""
