"""Logarithms in float32, by polynomials, for all lanes of a vector at once.

Formulas
--------
    log x = k ln 2 + log m      x = 2^k m, √½ ≤ m < √2, both read off the bits of x
    log(1 + x) = log u + (x − (u − 1))/u       u = 1 + x rounded; the last term corrects u

log m = f P(f) with f = m − 1, so that nothing is lost near x = 1, and k ln 2 in two parts, the
first of which is exact; log(1 + x) = x Q(x) for 0 ≤ x ≤ 1. P and Q interpolate float64 values at
Chebyshev points when this module loads.

The functions take the `name` of `kernels.arithmetic.polynomials.named` for intermediate results.

Range
-----
Relative errors, with or without fused multiply-adds: 3e-7 of log x for normal x > 0; 4e-7 of
log(1 + x) for 0 ≤ x ≤ 1e37 by `log1p`, and for 0 ≤ x ≤ 1 by `log1p_of_unit`.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial
from tvm import tirx

from kernels.arithmetic.polynomials import MANTISSA, f32, fma, horner

_LN2 = float(np.log(2.0))
_LN2_HIGH = 355.0 / 512.0  # nine bits: its product with any exponent is exact
_LN2_LOW = _LN2 - _LN2_HIGH
_ROOT_HALF = int(np.float32(np.sqrt(0.5)).view(np.int32))  # its bits


def _interpolate(f, degree: int, low: float, high: float) -> np.ndarray:
    """Monomial coefficients in x itself of the interpolant of f on [low, high], low to high."""
    series = Chebyshev.interpolate(f, degree, domain=[low, high])
    return series.convert(domain=[-1, 1], kind=Polynomial).coef


_LOG = _interpolate(lambda f: np.log1p(f) / f, 9, np.sqrt(0.5) - 1.0, np.sqrt(2.0) - 1.0)  # 5e-9
_LOG_UNIT = _interpolate(lambda x: np.log1p(x) / x, 9, 0.0, 1.0)  # 6e-9


def log(name, x):
    """Log x for normal x > 0; a finite number without meaning for 0 and subnormal x."""
    mantissa = tirx.const(MANTISSA, "int32")
    bits = name(tirx.reinterpret("int32", x))
    exponent = name(
        tirx.shift_right(bits - tirx.const(_ROOT_HALF, "int32"), mantissa)
    )  # rounds down
    f = name(tirx.reinterpret("float32", bits - tirx.shift_left(exponent, mantissa)) - f32(1.0))
    k = name(exponent.astype("float32"))
    return k * f32(_LN2_HIGH) + (k * f32(_LN2_LOW) + f * horner(_LOG, f))


def log1p(name, x):
    """log(1 + x) for x ≥ 0."""
    u = name(f32(1.0) + x)
    rounded_off = x - fma(u, f32(1.0), f32(-1.0))  # TVM would simplify (1 + x) − 1 to x
    return log(name, u) + rounded_off / u


def log1p_of_unit(x):
    """log(1 + x) for 0 ≤ x ≤ 1."""
    return x * horner(_LOG_UNIT, x)
