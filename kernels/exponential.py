"""Exponentials and logarithms in float32, by polynomials: every lane of a vector at once.

Formulas
--------
    e^x   = 2^k e^r             k = ⌊x/ln 2 + ½⌋, r = x − k ln 2, |r| ≤ ½ ln 2
    log x = k ln 2 + log m      x = 2^k m, √½ ≤ m < √2, both read off the bits of x
    log(1 + x) = log u + (x − (u − 1))/u       u = 1 + x rounded: the last term is what u lost

k ln 2 is subtracted in two parts, the first of which is exact (Cody & Waite 1980): a relative error
of x would be an absolute one of the exponent. log m = f P(f) with f = m − 1, so that nothing is
lost near x = 1; log(1 + x) = x Q(x) for 0 ≤ x ≤ 1 likewise. e^r, P and Q interpolate float64 values
at Chebyshev points when this module loads. (The library's functions take one lane at a time.)

Arguments occur several times in a result: pass elements of a tensor, not long expressions, which
TVM would write out again at each place.

Range
-----
Relative errors, with or without fused multiply-adds: e^x 2e-7 for −87 ≤ x ≤ 0, and 0 below −87.7;
log x 3e-7 for normal x > 0; log(1 + x) 4e-7 for 0 ≤ x ≤ 1e37, of `log1p_of_unit` for 0 ≤ x ≤ 1.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial
from tvm import tirx

from kernels.relu import _f32, _horner

_LN2 = float(np.log(2.0))
_LN2_HIGH = 355.0 / 512.0  # nine bits: its product with any exponent is exact
_ROOT_HALF = int(np.float32(np.sqrt(0.5)).view(np.int32))  # its bits


def _interpolate(f, degree: int, low: float, high: float) -> np.ndarray:
    """Monomial coefficients of the interpolant of f on [low, high], low to high."""
    series = Chebyshev.interpolate(f, degree, domain=[low, high])
    return series.convert(domain=[-1, 1], kind=Polynomial).coef


_EXP = _interpolate(np.exp, 6, -0.5 * _LN2, 0.5 * _LN2)  # to 3e-9
_LOG = _interpolate(lambda f: np.log1p(f) / f, 9, np.sqrt(0.5) - 1.0, np.sqrt(2.0) - 1.0)  # 5e-9
_LOG_UNIT = _interpolate(lambda x: np.log1p(x) / x, 9, 0.0, 1.0)  # 6e-9


def _int32(value: int):
    return tirx.const(value, "int32")


def exp(x):
    """e^x for x ≤ 0."""
    x = tirx.max(x, _f32(-90.0))
    k = tirx.floor(x * _f32(1.0 / _LN2) + _f32(0.5))
    r = x - k * _f32(_LN2_HIGH) - k * _f32(_LN2 - _LN2_HIGH)
    exponent = tirx.max(k.astype("int32") + _int32(127), _int32(0))
    return tirx.reinterpret("float32", tirx.shift_left(exponent, _int32(23))) * _horner(_EXP, r)


def log(x):
    """Log x for normal x > 0; any finite number for others, but no NaN of 0."""
    bits = tirx.reinterpret("int32", x)
    k = tirx.shift_right(bits - _int32(_ROOT_HALF), _int32(23))  # rounds down, negative or not
    m = tirx.reinterpret("float32", bits - tirx.shift_left(k, _int32(23)))
    f = m - _f32(1.0)
    k = k.astype("float32")
    return k * _f32(_LN2_HIGH) + (k * _f32(_LN2 - _LN2_HIGH) + f * _horner(_LOG, f))


def log1p(x, u):
    """log(1 + x) for x ≥ 0, given u = 1 + x as a tensor of its own.

    Of an expression 1 + x TVM would take u − 1 for x.
    """
    return log(u) + (x - (u - _f32(1.0))) / u


def log1p_of_unit(x):
    """log(1 + x) for 0 ≤ x ≤ 1."""
    return x * _horner(_LOG_UNIT, x)
