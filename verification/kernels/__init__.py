"""Checks of kernels against the float64 reference; start with `compare`."""
