"""Kernels against the float64 reference."""
