"""Leaky ReLU: y = x for x > 0, else λx, with slope λ.

Formulas
--------
Forward: as above. Backward: ∂L/∂x = ∂L/∂y where x > 0, else λ ∂L/∂y (λ also at x = 0).

Moments for x ~ N(m, v): y = r₊ − λr₋ with r₊ = max(0, x), r₋ = max(0, −x), of which one is always
0, so Cov(r₊, r₋) = −E[r₊]E[r₋] and

    E = λm + (1 − λ)E[r₊] = m + (1 − λ)E[r₋] = y(m) + (1 − λ) min(E[r₊], E[r₋]),
    Var = Var[r₊] + λ²Var[r₋] + 2λE[r₊]E[r₋],

all from `refbnn.numerics.normal.rectified_moments`. For λ ≥ 0 every term of the variance is
positive; for λ < 0 the last is at most 0.47 of the others together (at m = 0, λ = −1), so nothing
is lost.

Range: variance to 2e-12 relative for m/√v in [−35, 35], and the mean to that of its larger term;
the mean itself has a zero for 0 < λ, at m < 0. Exact at v = 0 and for λ = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refbnn.layers.activations.elementwise import Elementwise
from refbnn.layers.moments import Moments
from refbnn.numerics.normal import probability_above_0, rectified_moments


@dataclass(frozen=True, repr=False)
class LeakyReLU(Elementwise):
    """Leaky ReLU of the given slope λ for x < 0; see the formulas at the top of the file.

    Examples
    --------
    >>> from refbnn.layers import LeakyReLU
    >>> LeakyReLU(0.25).forward(np.array([-8.0, 3.0]), {})
    array([-2.,  3.])
    """

    slope: float = 0.01

    def value(self, x):
        """The input x where x > 0, else λx."""
        return np.where(x > 0, x, self.slope * x)

    def grad_input(self, x, grad_y):
        """∂L/∂y where x > 0, else λ ∂L/∂y."""
        return np.where(x > 0, grad_y, self.slope * grad_y)

    def propagated(self, x: Moments) -> Moments:
        """Moments of y for Gaussian x."""
        slope = self.slope
        right, var_right = rectified_moments(x.mean, x.var)
        left, var_left = rectified_moments(-x.mean, x.var)
        mean = self.value(x.mean) + (1 - slope) * np.minimum(right, left)
        return Moments(mean, var_right + slope**2 * var_left + 2 * slope * (right * left))

    def gain(self, x: Moments) -> np.ndarray:
        """E[f′(x)] = λ + (1 − λ) Φ(m/√v); of a known x the slope that `grad_input` uses."""
        return self.slope + (1.0 - self.slope) * probability_above_0(x.mean, x.var)

    @property
    def monotone(self) -> bool:
        """See `refbnn.layers.activations.elementwise`."""
        return self.slope >= 0.0
