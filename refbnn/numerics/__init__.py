"""Numerical methods that know no networks: quadrature, densities, quantile functions, moments.

Start with `quadrature` and `normal`; a law of noise rests on `piecewise_density` and `inverse_cdf`.
"""
