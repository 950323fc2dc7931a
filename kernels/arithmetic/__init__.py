"""Arithmetic of kernels in float32: polynomials, logarithm, normal distribution, expectations.

Start with `polynomials`, whose constants and named terms all formulas use.
"""
