"""GELU: y = xΦ(x), Φ the standard normal distribution function (Hendrycks & Gimpel 2016).

Formulas
--------
Forward: as above, exact, not the tanh approximation. Backward: ∂L/∂x = (Φ(x) + xφ(x)) ∂L/∂y.

Moments for x ~ N(m, v), with s₁ = √(1 + v), s₂ = √(1 + 2v), h = m/s₁, by Stein's lemma from
E[Φ(x)] = Φ(h):

    E[y] = mΦ(h) + (v/s₁)φ(h) = s₁h₁(h) − φ(h)/s₁,

with h₁(h) = φ(h) + hΦ(h) of `refbnn.numerics.normal`. The first form has positive terms for m > 0;
left of h = −1 the second is taken, whose terms cancel only where the mean is zero. The variance
comes from panels (`refbnn.numerics.gaussian_expectation`) of y(m + t) − y(m); for small t through
Φ(m + t) − Φ(m) = φ(m)∫₀ᵗ exp(−mu − u²/2) du. Its closed form by Owen's T cancels for small v and in
the left tail; tests hold the panels to it in between.

Range: variance to 1e-12 relative (measured 1e-13 for m/s₁ in [−35, 35], v from 1e-6 to 1e4, but
for the point m = −0.7518, v → 0, where y′ = 0), the mean to the same of its larger term; 0 where
they underflow. 8 µs an entry.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre

from refbnn.layers.activations.elementwise import Elementwise
from refbnn.layers.moments import Moments
from refbnn.numerics import gaussian_expectation as gaussian_panels
from refbnn.numerics.normal import cdf, lower_rectified, pdf

_REACH = 40.0  # φ(x) is 0 beyond, also in double precision
_KNOTS = np.array([-12.0, -9.0, -6.0, -3.0, 0.0, 3.0, 9.0])
_CLOSE = 0.1
_NODES, _WEIGHTS = legendre.leggauss(5)


def _gelu(x):
    return x * cdf(x)


def _difference(m, t):
    """y(m + t) − y(m), for m > 0 from y(x) = x + y(−x)."""
    x = m + t
    right = m > 0
    d = np.where(right, t, 0.0) + _gelu(np.where(right, -x, x)) - _gelu(-np.abs(m))
    close = np.abs(t) * (1.0 + np.abs(m)) < _CLOSE
    m, t, x = m[close], t[close], x[close]
    u = 0.5 * t * (1.0 + _NODES[:, np.newaxis])
    step = pdf(m) * (0.5 * _WEIGHTS @ np.exp(-u * (m + 0.5 * u)))
    d[close] = t * (cdf(m) + x * step)
    return d


@dataclass(frozen=True, repr=False)
class GELU(Elementwise):
    """GELU layer; see the formulas at the top of the file.

    Examples
    --------
    >>> from refbnn.layers import GELU
    >>> GELU().forward(np.array([-1.0, 0.0, 1.0]), {}).round(4)
    array([-0.1587,  0.    ,  0.8413])
    """

    def value(self, x):
        """xΦ(x)."""
        return _gelu(x)

    def grad_input(self, x, grad_y):
        """(Φ(x) + xφ(x)) ∂L/∂y."""
        t = np.clip(x, -_REACH, _REACH)  # no square overflows
        return grad_y * (cdf(t) + t * pdf(t)).astype(x.dtype, copy=False)

    def propagated(self, x: Moments) -> Moments:
        """Moments of xΦ(x) for Gaussian x."""
        m, v = x.mean.astype(float), x.var.astype(float)
        s1 = np.sqrt(1.0 + v)
        h = m / s1
        phi = pdf(np.clip(h, -_REACH, _REACH))
        with np.errstate(over="ignore", under="ignore"):
            left = s1 * lower_rectified(np.maximum(-h, 0.0))[1] - phi / s1
        mean = np.where(h < -1.0, left, m * cdf(h) + v / s1 * phi)
        var = gaussian_panels.shift_and_variance(m, v, _difference, _KNOTS)[1]
        return Moments(mean, var)

    @property
    def knots(self) -> np.ndarray:
        """See `refbnn.layers.activations.elementwise`."""
        return _KNOTS
