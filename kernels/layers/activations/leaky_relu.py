"""Leaky ReLU, y = x for x > 0, else λx: moments from rectified ones, in float32.

Formula
-------
With s = √v, x = |m|/s, h_n = h_n(−x) of `kernels.arithmetic.normal`, and near = s h₁, the mean of
the side on which m does not lie, the moments of max(0, x) and max(0, −x) are, for m > 0,

    E₊ = m + near,  V₊ = v (h₂ − h₁² + 1 − 2h₀),      E₋ = near,  V₋ = v (h₂ − h₁²),

and for m ≤ 0 with + and − exchanged. As derived in `refbnn.layers.activations.leaky_relu`,

    E = y(m) + (1 − λ) near,      Var = V₊ + λ²V₋ + 2λE₊E₋,      E[f′] = λ + (1 − λ) Φ(m/s).

For λ ≥ 0 every term of the variance is positive; for λ < 0 the last is at most 0.47 of the sum of
the others. The moments are exact at v = 0.

Range
-----
The range of `kernels.layers.activations.relu`, and any slope whose square float32 holds: the
variance to 3e-6 relative, or four times that for λ < 0; the mean to 2e-6 of |y(m)| + |1 − λ| near
(for 0 < λ it has a zero). Observed: 1.3e-6 and 7e-7.
"""

from __future__ import annotations

from functools import partial

from tvm import tirx

from kernels.arithmetic.normal import lower_rectified
from kernels.arithmetic.polynomials import f32, named
from kernels.layers.activations.elementwise import ClosedForm
from refbnn.layers import LeakyReLU

RELATIVE_ERROR = 3e-6  # of the variance for λ ≥ 0, see the range above


def value(x, slope: float):
    """y of one element of known value."""
    return tirx.Select(x > f32(0.0), x, f32(slope) * x)


def moments(mean, var, slope: float):
    """Moments of y, x ~ N(mean, var), for one element: TVM expressions in and out."""
    return named(lambda name: _moments(name, mean, var, slope)[:2], 2)


def _moments(name, mean, var, slope: float):
    """Moments, and h₀."""
    m = name(tirx.max(mean, -mean))
    s, h0, h1, h2 = lower_rectified(name, m, var)
    near = name(s * h1)
    far = name(h2 - h1 * h1)
    above = mean > f32(0.0)
    # Squared slopes of the side on which m lies, and of the other side.
    own = tirx.Select(above, f32(1.0), f32(slope**2))
    other = tirx.Select(above, f32(slope**2), f32(1.0))
    spread = own * (far + (f32(1.0) - f32(2.0) * h0)) + other * far
    shift = f32(1.0 - slope) * near
    moment = var * spread + f32(2.0 * slope) * (near * (m + near))
    return value(mean, slope) + shift, moment, h0


def linearised(mean, var, slope: float):
    """Moments, own variance and gain of one element."""

    def formula(name):
        m, v, h0 = _moments(name, mean, var, slope)
        return with_gain(name, m, v, h0, mean, var, slope)

    return named(formula, 4)


def with_gain(name, m, v, h0, mean, var, slope: float):
    """Moments m and v of y, own variance and gain, by h₀ of x ~ N(mean, var)."""
    v, g = name(v), name(_gain(name, h0, mean, var, slope))
    return m, v, tirx.max(f32(0.0), v - g * g * var), g


def _gain(name, h0, mean, var, slope: float):
    tail = name(tirx.Select(var > f32(0.0), h0, f32(0.0)))
    right = tirx.Select(mean > f32(0.0), f32(1.0) - tail, tail)
    return f32(slope) + f32(1.0 - slope) * right


def gain(mean, var, slope: float):
    """λ + (1 − λ) Φ(m/√v) of one element; at v = 0 the slope at m."""

    def formula(name):
        _, h0, *_ = lower_rectified(name, tirx.max(mean, -mean), var)
        return (_gain(name, h0, mean, var, slope),)

    return named(formula, 1)[0]


def function(layer: LeakyReLU) -> ClosedForm:
    """Describe the layer."""
    formulas = [partial(formula, slope=layer.slope) for formula in (value, moments, linearised)]
    return ClosedForm("leaky_relu", *formulas)
