"""GELU, y = xΦ(x): moments by quadrature, in float32.

Formulas
--------
The moments come from differences on the panels of `kernels.arithmetic.gaussian_panels`, as in
`refbnn.layers.activations.gelu`. By y(x) = x + y(−x), for m > 0

    y(m + t) − y(m) = t + y(−m − t) − y(−m).

Where |t|(1 + |m|) ≤ 1, by Φ(m + t) − Φ(m) = tφ(m) I,

    y(m + t) − y(m) = t (Φ(m) + (m + t)φ(m) I),      I = ∫₀¹ exp(−mθt − θ²t²/2) dθ,

with three Gauss–Legendre nodes: the exponent is at most 1, and I is right to 1e-7. Knots lie at 0,
and where Φ is 1e-9 away from 0 or 1.
"""

from __future__ import annotations

from numpy.polynomial import legendre
from tvm import tirx

from kernels.arithmetic.gaussian_panels import Quadrature
from kernels.arithmetic.normal import cdf, pdf
from kernels.arithmetic.polynomials import exp_minus_one, f32, named
from refbnn.layers import GELU

KNOTS = (-6.0, 0.0, 6.0)
_THETA, _WEIGHTS = legendre.leggauss(3)


def _of(name, x):
    """φ, Φ and y at x; beyond ±14, where φ is 0, Φ is 0 or 1."""
    cut = name(tirx.max(tirx.min(x, f32(14.0)), f32(-14.0)))
    phi = name(pdf(cut))
    total = name(cdf(cut, phi))
    return phi, total, name(x * total)


def value(x):
    """y of one element of known value."""
    return named(lambda name: (_of(name, x)[2],), 1)[0]


def difference(m, t):
    """y(m + t) − y(m), of one element."""

    def formula(name):
        zero, one = f32(0.0), f32(1.0)
        x = name(m + t)
        phi, total, _ = _of(name, m)
        right = m > zero
        _, _, low_m = _of(name, -tirx.max(m, -m))
        _, _, low_x = _of(name, tirx.Select(right, -x, x))
        far = tirx.Select(right, t, zero) + (low_x - low_m)

        integral = one
        for theta, weight in zip(0.5 * (1.0 + _THETA), 0.5 * _WEIGHTS, strict=True):
            u = f32(theta) * t
            w = tirx.max(tirx.min(-u * (m + f32(0.5) * u), one), -one)
            integral = integral + f32(weight) * exp_minus_one(name(w))
        near = t * (total + x * phi * integral)
        close = tirx.max(t, -t) * (one + tirx.max(m, -m)) <= one
        return (tirx.Select(close, near, far),)

    return named(formula, 1)[0]


def function(layer: GELU) -> Quadrature:
    """Describe the layer."""
    return Quadrature("gelu", value, difference, KNOTS, KNOTS)
