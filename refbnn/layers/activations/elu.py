"""ELU: y = x for x > 0, else α(eˣ − 1).

Formulas
--------
Forward: as above. Backward: ∂L/∂x = ∂L/∂y where x > 0, else α eˣ ∂L/∂y.

Moments for x ~ N(m, v): in closed form from E[e^{kx}; x < 0] = exp(km + k²v/2)Φ(−(m + kv)/√v),
k = 0, 1, 2, and the moments of max(0, x); but these cancel for small v and in the left tail.
So panels (`refbnn.numerics.gaussian_expectation`) of the difference of y at m + t and m, αeᵐ(eᵗ −
1) where both lie left of 0, with a knot at the kink.

Range: mean to rounding times max(α, √v), variance to 1e-12 relative (measured 5e-14 for m/√v in
[−35, 35], v from 1e-6 to 1e4). 5 µs an entry.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refbnn.layers.activations.elementwise import Elementwise
from refbnn.layers.moments import Moments
from refbnn.numerics import gaussian_expectation as gaussian_panels

_KNOTS = np.array([-40.0, -28.0, -18.0, -10.0, -4.0, 0.0])


def _difference(m, t, alpha):
    """y(m + t) − y(m), each case without cancellation."""
    x = m + t
    from_right = np.where(x > 0, t, alpha * np.expm1(x) - m)
    near = alpha * np.exp(m) * np.expm1(t)
    far = np.where(x > 0, x - alpha * np.expm1(m), alpha * (np.exp(x) - np.exp(m)))
    return np.where(m > 0, from_right, np.where((x > 0) | (t >= 1), far, near))


@dataclass(frozen=True, repr=False)
class ELU(Elementwise):
    """ELU that falls to −α; see the formulas at the top of the file.

    Examples
    --------
    >>> from refbnn.layers import ELU
    >>> ELU(2.0).forward(np.array([-np.inf, 0.0, 3.0]), {})
    array([-2.,  0.,  3.])
    """

    alpha: float = 1.0

    def value(self, x):
        """The input x where x > 0, else α(eˣ − 1)."""
        return np.where(x > 0, x, self.alpha * np.expm1(np.minimum(x, 0)))

    def grad_input(self, x, grad_y):
        """∂L/∂y where x > 0, else α eˣ ∂L/∂y."""
        return np.where(x > 0, grad_y, self.alpha * np.exp(np.minimum(x, 0)) * grad_y)

    def propagated(self, x: Moments) -> Moments:
        """Moments of y for Gaussian x."""
        shift, var = gaussian_panels.shift_and_variance(
            x.mean, x.var, lambda m, t: _difference(m, t, self.alpha), _KNOTS
        )
        return Moments(self.value(x.mean.astype(float)) + shift, var)

    @property
    def knots(self) -> np.ndarray:
        """See `refbnn.layers.activations.elementwise`."""
        return _KNOTS

    @property
    def monotone(self) -> bool:
        """See `refbnn.layers.activations.elementwise`."""
        return self.alpha >= 0.0
