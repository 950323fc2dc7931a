"""ReLU, y = max(0, x): moments of a rectified Gaussian, in float32.

Formula
-------
With s = √v, x = |m|/s, φ the standard normal density and h_n(−x) = E[max(0, z − x)^n] (derived in
`refbnn.normal`):

    E   = max(0, m) + s h₁
    Var = v (h₂ − h₁² + [m > 0] (1 − 2h₀))

No term cancels another: h₁² ≤ h₂/2, and 1 − 2h₀ ≥ 0.

Float32 evaluation
------------------
1. The exponential. h_n = φ(x) F_n(x), and φ(x) = 2^{−z}/√(2π) with z = x²/(2 ln 2). A relative
   error δ of z is an absolute one of zδ in the exponent: at x = 10 float32 would lose 50 roundings.
   So z = m²/v · 1/(2 ln 2) is formed in float64, where m² neither overflows nor underflows either,
   and split there, exactly, into its nearest integer k and the rest r, |r| ≤ ½. In float32 follow
   2^{−r}/√(2π), a polynomial, and 2^{−k}, written into the exponent bits. From k = 127, x > 13.2,
   these bits are 0, and with them every h_n, where φ leaves the normal float32 numbers.

2. The rest. F_n decays like n!/x^{n+1} (h_n ≈ n! φ/x^{n+1}, Laplace's method), so F_n = t^{n+1} P_n
   with t = c/(c + x), 0 < t ≤ 1, where P_n is smooth, positive and of order 1: a polynomial of
   degree 10 follows it to 2e-8 over 0 ≤ x ≤ 13.25, at c = 4. (t maps [0, ∞] to a finite interval;
   the same map with other constants is used for erfc by Shepherd & Laframboise 1981.)

Both polynomials interpolate float64 values at Chebyshev points when this module loads, and are
summed by Horner's rule in a variable that runs over [−1, 1], where their coefficients fall.

At v = 0 no limit is needed: z is finite or infinite but never NaN (v is kept above 1e-300, which no
float32 but 0 is below), s and v are 0, and E = max(0, m), Var = 0 exactly.

Range
-----
For m/√v in [−10, 10] and any v, subnormal or up to the largest float32: a first-order bound that
lets all roundings conspire is 2e-6 relative for the mean and 8e-6 for the variance (at x = 0, by
1 − 2h₀). Observed at 10⁷ random points: no error above 1e-6, with or without fused multiply-add;
tests hold both moments to 2e-6, and half of 2⁻¹⁴⁹ more where a result is subnormal itself. Below
m/√v = −13.25 both moments are 0.
The variance is never negative and neither moment is NaN, for any finite m and v ≥ 0.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import chebyshev
from tvm import tirx

from kernels import elementwise
from kernels.kernel import Kernel
from refbnn.normal import lower_rectified, pdf

RELATIVE_ERROR = 2e-6  # twice what is observed for |m/√v| ≤ 10: see the range above
_C = 4.0  # t = c/(c + x); of 1 … 6 the one at which a degree of 10 suffices for all three n
_X_MAX = 13.25  # beyond, 2^{−k} is 0
_T_MIN = _C / (_C + _X_MAX)
_DEGREE = 10
_K_MAX = 127  # 2^{−k} has exponent bits 127 − k


def _interpolate(f, degree: int) -> np.ndarray:
    """Monomial coefficients of the interpolant of f on [−1, 1] in Chebyshev points, low to high."""
    return chebyshev.cheb2poly(chebyshev.chebinterpolate(f, degree))


def _t_of(u):
    """t in [t_min, 1] of the local variable u in [−1, 1]."""
    return 0.5 * ((1.0 + _T_MIN) + (1.0 - _T_MIN) * u)


def _tail_polynomial(n: int) -> np.ndarray:
    """P_n in the local variable u."""

    def p(u):
        t = _t_of(u)
        x = _C / t - _C
        return lower_rectified(x)[n] / pdf(x) / t ** (n + 1)

    return _interpolate(p, _DEGREE)


_TAIL = [_tail_polynomial(n) for n in range(3)]
_POWER = _interpolate(lambda u: 2.0 ** (-0.5 * u) / np.sqrt(2.0 * np.pi), 6)  # u = 2r; to 1e-9


def _f32(value: float):
    return tirx.const(float(value), "float32")


def _f64(value: float):
    return tirx.const(float(value), "float64")


def _horner(coefficients: np.ndarray, u):
    total = _f32(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * u + _f32(coefficient)
    return total


def _density(x2):
    """φ(x) in float32 of x² in float64."""
    z = tirx.min(x2 * _f64(0.5 / np.log(2.0)), _f64(_K_MAX))
    k = tirx.floor(z + _f64(0.5))
    exponent = tirx.const(_K_MAX, "int32") - k.astype("int32")
    power = tirx.reinterpret("float32", tirx.shift_left(exponent, tirx.const(23, "int32")))
    return power * _horner(_POWER, _f32(2.0) * (z - k).astype("float32"))


def moments(mean, var):
    """Moments of max(0, x) for x ~ N(mean, var), of one element: TVM expressions in and out."""
    m64 = mean.astype("float64")
    x2 = m64 * m64 / tirx.max(var.astype("float64"), _f64(1e-300))
    phi = _density(x2)
    t = _f32(_C) / (_f32(_C) + tirx.sqrt(x2.astype("float32")))
    u = t * _f32(2.0 / (1.0 - _T_MIN)) - _f32((1.0 + _T_MIN) / (1.0 - _T_MIN))
    h0, h1, h2 = (
        phi * (decay * _horner(p, u)) for p, decay in zip(_TAIL, (t, t * t, t * t * t), strict=True)
    )
    one, zero = _f32(1.0), _f32(0.0)
    above = tirx.Select(mean > zero, one - _f32(2.0) * h0, zero)
    return tirx.max(mean, zero) + tirx.sqrt(var) * h1, var * (h2 - h1 * h1 + above)


def value(x):
    """max(0, x), of one element of known value."""
    return tirx.max(x, _f32(0.0))


def build(batch: int, n: int, target: str = "host", schedule: str = "hand") -> Kernel:
    """Compile the layer alone.

    Parameters
    ----------
    batch, n : int
    target, schedule : str
        As in `kernels.compile_network`.

    Returns
    -------
    Kernel
        Called with mean and variance, (batch, n) each; gives mean and variance of that shape.
    """
    return elementwise.build("relu", value, moments, batch, n, target, schedule)
