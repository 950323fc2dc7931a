"""Arithmetic of kernels in float32: polynomials, logarithm, normal distribution, expectations."""
