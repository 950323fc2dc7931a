"""Numerics: normal distribution, quadrature, piecewise densities, inverse CDFs, expectations."""
