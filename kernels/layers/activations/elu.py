"""ELU, y = x for x > 0, else α(eˣ − 1): moments by quadrature, in float32.

Formulas
--------
The moments come from differences on the panels of `kernels.arithmetic.gaussian_panels`, as in
`refbnn.layers.activations.elu`, each case without cancellation:

    y(m + t) − y(m) = αeᵐ(eᵗ − 1)           for m ≤ 0 and m + t ≤ 0
                      m + t − α(eᵐ − 1)     for m ≤ 0 < m + t
                      t                     for m > 0 and m + t > 0
                      α(eᵐ⁺ᵗ − 1) − m       for m + t ≤ 0 < m

where eᵗ − 1 is a polynomial for |t| ≤ 1; beyond, the difference is e^{m+t} − eᵐ itself. Knots lie
at the kink, and where y is αe⁻¹⁷ away from −α.
"""

from __future__ import annotations

from functools import partial

from tvm import tirx

from kernels.arithmetic.gaussian_panels import Quadrature
from kernels.arithmetic.polynomials import exp_minus, exp_minus_one, f32, named
from refbnn.layers import ELU

KNOTS = (-17.0, 0.0)


def _left(name, x):
    """eˣ and eˣ − 1 for x ≤ 0; positive x count as 0."""
    x = name(tirx.min(x, f32(0.0)))
    e = exp_minus(name, -x)
    near = exp_minus_one(tirx.max(x, f32(-1.0)))
    return e, name(tirx.Select(x > f32(-1.0), near, e - f32(1.0)))


def value(x, alpha: float):
    """y of one element of known value."""

    def formula(name):
        return (tirx.Select(x > f32(0.0), x, f32(alpha) * _left(name, x)[1]),)

    return named(formula, 1)[0]


def difference(m, t, alpha: float):
    """y(m + t) − y(m), of one element."""

    def formula(name):
        zero, one, a = f32(0.0), f32(1.0), f32(alpha)
        x = name(m + t)
        e_m, below_m = _left(name, m)
        e_x, below_x = _left(name, x)
        near = e_m * exp_minus_one(tirx.max(tirx.min(t, one), -one))
        left = a * tirx.Select(tirx.max(t, -t) <= one, near, e_x - e_m)
        of_left = tirx.Select(x > zero, x - a * below_m, left)
        of_right = tirx.Select(x > zero, t, a * below_x - m)
        return (tirx.Select(m > zero, of_right, of_left),)

    return named(formula, 1)[0]


def function(layer: ELU) -> Quadrature:
    """Describe the layer."""
    formulas = partial(value, alpha=layer.alpha), partial(difference, alpha=layer.alpha)
    return Quadrature("elu", *formulas, KNOTS, KNOTS)
