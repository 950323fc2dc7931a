"""f and f′ of log p = c₀ + c₂θ² + f(θ), in float32, for priors at one weight and node.

Formulas
--------
The decomposition and its parameters are those of `refbnn.training.kl.loops`:

*Student's t*: t = θ/a, f = −½(ν+1) log(1 + t²), f′ = −(ν+1) t/(a(1 + t²)).

*Scale mixture*: ℓ = L − ½Dθ², e = e^−|ℓ|; f = max(ℓ, 0) + log(1 + e), f′ = −Dθ (1 or e)/(1 + e),
1 for ℓ ≥ 0: nothing overflows.

*Device*: f = α log(1 + y) + β log(1 − y) + g(y), f′ = y′(α/(1 + y) − β/(1 − y) + g′(y)). At
θ = µ + σz the distances from the ends are 1 + y = y′(µ − low) + y′σz and 1 − y likewise, where
µ − low is formed in float64: near an end, θ in float32 would have lost them.

*Laplace* and the Gaussian law, in closed form, with x = |µ|/σ and h_n of
`kernels.arithmetic.normal`, where h₀ = Φ(−x) and φ(x) = h₁ + x h₀:

    E|θ| = |µ| + 2σh₁,      ∂/∂µ = sign(µ)(1 − 2h₀),      ∂/∂σ = 2φ(x).

*Laplace* and other laws, by the table of `kernels.kl.table`, its coefficients times −1/b: its B
becomes E[f′], its S becomes E[z f′], and E[f] = µE[f′] + σE[z f′].
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import chebyshev, polynomial
from tvm import te, tirx

from kernels.arithmetic.logarithm import log, log1p, log1p_of_unit
from kernels.arithmetic.normal import lower_rectified
from kernels.arithmetic.polynomials import MANTISSA, exp_minus, f32, horner, named
from kernels.kl.table import Table
from refbnn.training.kl.loops import DEVICE, MIXTURE, STUDENT, Form

_FAR = 16.0  # from here on 1 − 2Φ(−x) is 1 and φ(x) is 0


def integrand(form: Form, mean, scale, z):
    """f and f′ at θ = µ + σz: TVM expressions in and out."""
    formula = {STUDENT: _student, MIXTURE: _mixture, DEVICE: _device}[form.kind]
    return named(lambda name: formula(name, form.parameters, mean, scale, z), 2)


def _student(name, parameters, mean, scale, z):
    a, half = parameters  # half of ν + 1
    t = name((mean + scale * z) * f32(1.0 / a))
    square = name(t * t)
    slope = f32(-2.0 * half / a) * t / (f32(1.0) + square)
    return f32(-half) * log1p(name, square), slope


def _mixture(name, parameters, mean, scale, z):
    L, D, *_ = parameters
    theta = name(mean + scale * z)
    ell = name(f32(L) - f32(0.5 * D) * theta * theta)
    e = exp_minus(name, tirx.abs(ell))
    above = ell >= f32(0.0)
    logistic = tirx.Select(above, f32(1.0), e) / (f32(1.0) + e)
    value = tirx.max(ell, f32(0.0)) + log1p_of_unit(e)
    return value, f32(-D) * theta * logistic


def _device(name, parameters, mean, scale, z):
    low, high, slope, alpha, beta, *g = parameters
    # Monomials: a law's polynomial is of low degree, and |y| ≤ 1.
    g = chebyshev.cheb2poly(np.array(g))
    double = mean.astype("float64")
    to_low = (_f64(slope) * (double - _f64(low))).astype("float32")
    to_high = (_f64(slope) * (_f64(high) - double)).astype("float32")
    step = name(f32(slope) * scale * z)
    lower, upper = name(to_low + step), name(to_high - step)
    y = name(f32(0.5) * (lower - upper))
    value, score = horner(g, y), horner(polynomial.polyder(g), y)
    for exponent, sign, x in ((alpha, 1.0, lower), (beta, -1.0, upper)):
        if exponent != 0.0:
            value = value + f32(exponent) * log(name, x)
            score = score + f32(sign * exponent) / x
    return value, f32(slope) * score


def laplace(b: float, mean, scale):
    """E[f], E[f′] and E[z f′] of f = −|θ|/b for the Gaussian law: TVM expressions in and out."""

    def formula(name):
        size = name(tirx.max(mean, -mean))
        x = name(tirx.min(size / scale, f32(_FAR)))
        _, h0, h1, _ = lower_rectified(name, x, f32(1.0))
        sign = tirx.Select(mean >= f32(0.0), f32(-1.0 / b), f32(1.0 / b))
        return (
            f32(-1.0 / b) * (size + f32(2.0) * scale * h1),
            sign * (f32(1.0) - f32(2.0) * h0),
            f32(-2.0 / b) * (h1 + x * h0),
        )

    return named(formula, 3)


def entry_and_place(table: Table, mean, scale):
    """Index of the part that t = −µ/σ is on, int32, and τ on it, float32: TVM expressions.

    NaN, which the padding gives as 0/0, is on the last part.
    """

    def formula(name):
        t = name(-mean.astype("float64") / scale.astype("float64"))
        cut, first = _f64(table.cuts[0]), _i32(-table.first)
        for j, (c, middle) in enumerate(zip(table.cuts[1:], table.middles, strict=True), start=1):
            cut = tirx.Select(t >= _f64(middle), _f64(c), cut)
            first = tirx.Select(t >= _f64(middle), _i32(2 * j * table.entries - table.first), first)
        e = name(t - cut)
        below = e < _f64(0.0)
        shifted = name(tirx.Select(below, -e, e) + _f64(table.h))
        inside = tirx.Select(shifted < _f64(table.last), shifted, _f64(table.last))
        bits = name(tirx.reinterpret("int32", inside.astype("float32")))
        shift = MANTISSA - table.m
        index = tirx.shift_right(bits, _i32(shift)) + (
            first + tirx.Select(below, _i32(table.entries), _i32(0))
        )
        rest = (bits & _i32((1 << shift) - 1)) | _i32(int(np.float32(1.0).view(np.int32)))
        return index, tirx.reinterpret("float32", rest) - f32(1.0)

    return named(formula, 2)


def scores_of_table(coefficients: te.Tensor, index, tau):
    """E[f′] and E[z f′] at a place τ of a part: TVM expressions in and out."""

    def cubic(first):
        a = [coefficients[index, first + k] for k in range(4)]
        return ((a[3] * tau + a[2]) * tau + a[1]) * tau + a[0]

    return cubic(0), cubic(4)


def _f64(value: float):
    return tirx.const(float(value), "float64")


def _i32(value: int):
    return tirx.const(int(value), "int32")
