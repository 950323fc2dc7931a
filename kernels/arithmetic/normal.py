"""The standard normal density φ and the rectified moments h_n, in float32.

Formula
-------
For z ~ N(0, 1) and x ≥ 0: h_n(−x) = E[max(0, z − x)^n], n = 0, 1, 2, as in
`refbnn.numerics.normal`.

Float32 evaluation
------------------
1. The argument. x = m/√v to 24 bits is not enough: h_n falls like φ(x), so a relative error δ of x
   becomes x²δ in h_n, 100 times as large at x = 10. With s = √v, y = 1/s and q = my, all rounded,
   one fused multiply-add each gives the remainders r = m − qs and e = v − s² exactly, and

       x = q + d,      d = (r − qye/2) y        (to second order in the rounding errors).

2. The exponential. φ(x) = 2^{−z}/√(2π) with z = x²/(2 ln 2) = c(q² + 2qd), formed in two parts:
   its nearest integer k, and the rest, |r| ≤ ½, which takes up the remainders of q², of c and of
   the product. Then a polynomial gives 2^{−r}/√(2π), and the exponent bits 2^{−k}. From x = 13.25
   on φ leaves the normal float32 numbers (k = 127): φ and every h_n count as 0.

3. The rest. F_n = h_n/φ decays like n!/x^{n+1} (Laplace's method), so F_n = t^{n+1} P_n with
   t = c/(c + x), 0 < t ≤ 1, where P_n is smooth, positive and of order 1: at c = 4, over
   0 ≤ x ≤ 13.25, a polynomial of degree 10 follows P_2 to 2e-8, and one of degree 9 P_0. (t maps
   [0, ∞] to a finite interval; the same map with other constants is used for erfc by Shepherd &
   Laframboise 1981.) From h₂ the others follow, by integration by parts: h₂ = h₀ − xh₁ and
   h₁ = φ − xh₀, so

       F₁ = (1 − xF₂)/(1 + x²),      F₀ = F₂ + xF₁.

   Neither cancels: 0 ≤ xF₂ ≤ 0.32. (The other way, up from F₀, errors grow by x².)

v below 2⁻⁶⁰ is scaled by 2⁸⁰, and m by 2⁴⁰, so that no remainder underflows; from x = 16 on m is
cut, so that nothing overflows. At v = 0 the h_n are finite but meaningless, and all their factors
are 0.
"""

from __future__ import annotations

import numpy as np
from tvm import tirx

from kernels.arithmetic.polynomials import (
    POWER_REST,
    f32,
    fma,
    horner,
    interpolate,
    named,
    power_of_half,
)
from refbnn.numerics.normal import lower_rectified as lower_rectified_reference
from refbnn.numerics.normal import pdf as pdf_reference

_C = 4.0  # t = c/(c + x); among 2 … 8, a degree of 10 follows P_2 best at this c
_X_MAX = 13.25  # beyond, φ is no normal float32 number
_T_MIN = _C / (_C + _X_MAX)
_CUT = 16.0
_SMALL, _UP = 2.0**-60, 2.0**40
_LEAST = 2.0**-50  # below every scaled s but 0
_TO_POWER = 0.5 / np.log(2.0)
_TO_POWER_HIGH = float(np.float32(_TO_POWER))
_TO_POWER_LOW = _TO_POWER - _TO_POWER_HIGH


def _tail_polynomial(n: int, degree: int) -> np.ndarray:
    """P_n in a variable u that runs over [−1, 1] as t over [t_min, 1]."""

    def p(u):
        t = 0.5 * ((1.0 + _T_MIN) + (1.0 - _T_MIN) * u)
        x = _C / t - _C
        return lower_rectified_reference(x)[n] / pdf_reference(x) / t ** (n + 1)

    return interpolate(p, degree)


_P_0, _P_2 = _tail_polynomial(0, 9), _tail_polynomial(2, 10)
_POWER = POWER_REST / np.sqrt(2.0 * np.pi)


def _density(name, square, square_rest=None):
    """φ at x, from x² rounded and the rounding error of x²."""
    k = name(tirx.floor(square * f32(_TO_POWER_HIGH) + f32(0.5)))
    low = square * f32(_TO_POWER_LOW)
    if square_rest is not None:
        low = low + square_rest * f32(_TO_POWER)
    rest = name(fma(square, f32(_TO_POWER_HIGH), -k) + low)
    phi = power_of_half(k) * horner(_POWER, rest)
    return tirx.Select(square < f32(_X_MAX**2), phi, f32(0.0))


def _unit(t):
    """The variable u in [−1, 1] of the polynomials, for t."""
    return t * f32(2.0 / (1.0 - _T_MIN)) - f32((1.0 + _T_MIN) / (1.0 - _T_MIN))


def lower_rectified(name, m, v, m_rest=None, v_rest=None, exact_argument=True):
    """√v, and h₀, h₁, h₂ at −x, x = m/√v, of one element.

    Parameters
    ----------
    name : callable
        See `kernels.arithmetic.polynomials.named`.
    m, v : TVM expressions, at least 0
    m_rest, v_rest : TVM expressions, optional
        Rounding errors of m and v, where they are sums.
    exact_argument : bool
        Whether step 1 at the top of the file is done, a tenth of the work. Without it every h_n
        errs by 2e-7 x² more, relative.
    """
    tiny = v < f32(_SMALL)
    up = name(tirx.Select(tiny, f32(_UP), f32(1.0)))
    down = tirx.Select(tiny, f32(1.0 / _UP), f32(1.0))
    v = name(v * up * up)
    root = name(tirx.sqrt(v))
    s = name(tirx.max(root, f32(_LEAST)))
    y = name(f32(1.0) / s)
    m = name(tirx.min(f32(_CUT) * s, m * up))  # in this order NaN stays NaN
    q = name(m * y)
    if exact_argument:
        r, e = fma(-q, s, m), fma(-s, s, v)
        if m_rest is not None:
            r, e = r + m_rest * up, e + v_rest * up * up
        d = name((r - f32(0.5) * q * y * e) * y)

    square = name(q * q)
    rest = fma(q, q, -square) + f32(2.0) * q * d if exact_argument else None
    phi = name(_density(name, square, rest))
    # t = c/(c + q) and 1/(1 + q²), both from one reciprocal.
    sum_1, sum_2 = name(f32(_C) + q), name(f32(1.0) + square)
    over = name(f32(1.0) / (sum_1 * sum_2))
    t = name(f32(_C) * over * sum_2)
    F2 = name(t * t * t * horner(_P_2, name(_unit(t))))
    F1 = name(fma(-q, F2, f32(1.0)) * over * sum_1)
    F0 = fma(q, F1, F2)
    return root * down, phi * F0, name(phi * F1), phi * F2


def pdf(z):
    """φ(z) of one element; the rounding error of z makes one of 2⁻²⁴ z² relative in φ."""
    return named(lambda name: (_density(name, name(z * z)),), 1)[0]


def cdf(z, phi):
    """Φ(z) of one element from z and φ(z); in the lower tail relatively as accurate as φ."""

    def formula(name):
        x = tirx.min(tirx.max(z, -z), f32(_X_MAX))
        t = name(f32(_C) / (f32(_C) + x))
        upper = name(phi * (t * horner(_P_0, name(_unit(t)))))
        return (tirx.Select(z < f32(0.0), upper, f32(1.0) - upper),)

    return named(formula, 1)[0]
