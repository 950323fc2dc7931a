"""Sigmoid, y = 1/(1 + e⁻ˣ): moments by quadrature, in float32.

Formulas
--------
With q = e^{−|x|}: y = 1/(1 + q) for x ≥ 0, else q/(1 + q). The moments come from the difference

    y(m + t) − y(m) = y(m) y(−m − t) (eᵗ − 1),

for m ≤ 0 (`refbnn.layers.activations.sigmoid`), on the panels of
`kernels.arithmetic.gaussian_panels`. The right-hand side is used for |t| ≤ 1, the left-hand side
beyond. Knots lie where y is e⁻¹⁷ away from 0 or 1.
"""

from __future__ import annotations

from tvm import tirx

from kernels.arithmetic.gaussian_panels import Quadrature
from kernels.arithmetic.polynomials import exp_minus, exp_minus_one, f32, named
from refbnn.layers import Sigmoid

KNOTS = (-17.0, 0.0, 17.0)


def _shares(name, x):
    """y(x) and y(−x)."""
    q = exp_minus(name, tirx.max(x, -x))
    large = name(f32(1.0) / (f32(1.0) + q))
    small = name(q * large)
    below = x < f32(0.0)
    return tirx.Select(below, small, large), tirx.Select(below, large, small)


def value(x):
    """y of one element of known value."""
    return named(lambda name: _shares(name, x), 2)[0]


def difference(m, t):
    """y(m + t) − y(m) for m ≤ 0, of one element."""

    def formula(name):
        at_m = name(_shares(name, m)[0])
        y, other = _shares(name, name(m + t))
        near = at_m * other * exp_minus_one(tirx.max(tirx.min(t, f32(1.0)), f32(-1.0)))
        return (tirx.Select(tirx.max(t, -t) <= f32(1.0), near, y - at_m),)

    return named(formula, 1)[0]


def function(layer: Sigmoid) -> Quadrature:
    """Describe the layer."""
    return Quadrature("sigmoid", value, difference, KNOTS[:1], KNOTS, odd=True)
