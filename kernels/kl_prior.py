"""log p of priors but for constant and parabola, f and f′, in float32, at one weight and node.

Formulas
--------
log p = c₀ + c₂θ² + f(θ) as `refbnn.kl_loops` has it, with its parameters:

*Student's t*: t = θ/a, f = −½(ν+1) log(1 + t²), f′ = −(ν+1) t/(a(1 + t²)).

*Scale mixture*: ℓ = L − ½Dθ², e = e^−|ℓ|; f = max(ℓ, 0) + log(1 + e), f′ = −Dθ (1 or e)/(1 + e),
1 for ℓ ≥ 0: nothing overflows.

*Device*: f = α log(1 + y) + β log(1 − y) + g(y), f′ = y′(α/(1 + y) − β/(1 − y) + g′(y)). At
θ = µ + σz the distances from the ends are 1 + y = y′(µ − low) + y′σz and 1 − y likewise, where
µ − low is formed in float64: near an end θ would have lost them.

*Laplace* and the Gaussian law, in closed form, with x = |µ|/σ and h_n of `kernels.normal`, where
h₀ = Φ(−x) and φ(x) = h₁ + x h₀:

    E|θ| = |µ| + 2σh₁,      ∂/∂µ = sign(µ)(1 − 2h₀),      ∂/∂σ = 2φ(x).

"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import chebyshev, polynomial
from tvm import tirx

from kernels.logarithm import log, log1p, log1p_of_unit
from kernels.normal import lower_rectified
from kernels.polynomials import exp_minus, f32, horner, named
from refbnn.kl_loops import DEVICE, MIXTURE, STUDENT, Form

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
    to_low = (tirx.const(slope, "float64") * (double - tirx.const(low, "float64"))).astype(
        "float32"
    )
    to_high = (tirx.const(slope, "float64") * (tirx.const(high, "float64") - double)).astype(
        "float32"
    )
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
