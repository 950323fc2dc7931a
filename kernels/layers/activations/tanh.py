"""Tanh, y = tanh x: moments by quadrature, in float32.

Formulas
--------
tanh x = 2σ(2x) − 1 with σ the sigmoid, so differences are 2(σ(2m + 2t) − σ(2m)), as in
`kernels.layers.activations.sigmoid`, on the panels of `kernels.arithmetic.gaussian_panels`. The
value itself is odd: with e = e^{−2|x|}, |y| = (1 − e)/(1 + e), where a polynomial gives 1 − e
without cancellation.
"""

from __future__ import annotations

from tvm import tirx

from kernels.arithmetic.gaussian_panels import Quadrature
from kernels.arithmetic.polynomials import exp_minus, exp_minus_one, f32, named
from kernels.layers.activations import sigmoid
from refbnn.layers import Tanh

KNOTS = tuple([0.5 * x for x in sigmoid.KNOTS])


def value(x):
    """Tanh x of one element of known value."""

    def formula(name):
        a = name(f32(2.0) * tirx.max(x, -x))
        e = exp_minus(name, a)
        rise = tirx.Select(a < f32(1.0), -exp_minus_one(tirx.max(-a, f32(-1.0))), f32(1.0) - e)
        y = name(rise / (f32(1.0) + e))
        return (tirx.Select(x < f32(0.0), -y, y),)

    return named(formula, 1)[0]


def difference(m, t):
    """Tanh(m + t) − tanh m for m ≤ 0, of one element."""
    return f32(2.0) * sigmoid.difference(f32(2.0) * m, f32(2.0) * t)


def function(layer: Tanh) -> Quadrature:
    """Describe the layer."""
    return Quadrature("tanh", value, difference, KNOTS[:1], KNOTS, odd=True)
