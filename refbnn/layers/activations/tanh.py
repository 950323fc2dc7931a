"""Tanh: y = tanh x.

Formulas
--------
Forward: as above. Backward: ∂L/∂x = (1 − y²) ∂L/∂y, with 1 − y² = 4e²/(1 + e²)², e = exp(−|x|):
relative accuracy in both tails.

Moments: tanh x = 2σ(2x) − 1 with σ the sigmoid, so for x ~ N(m, v)

    E[tanh x] = tanh m + 2(E[σ(2x)] − σ(2m)),      Var[tanh x] = 4 Var[σ(2x)],

with the shift in brackets as such from `refbnn.layers.activations.sigmoid`: near m = 0 no ½ is
subtracted. Range: as there, for 1 + E[tanh x] at m ≤ 0; near m = 0 the mean to rounding times √v.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refbnn.layers.activations.elementwise import Elementwise
from refbnn.layers.activations.sigmoid import KNOTS, shift_and_variance
from refbnn.layers.moments import Moments


@dataclass(frozen=True, repr=False)
class Tanh(Elementwise):
    """Tanh layer; see the formulas at the top of the file.

    Examples
    --------
    >>> from refbnn.layers import Tanh
    >>> Tanh().forward(np.array([-1.0, 0.0, 1.0]), {}).round(4)
    array([-0.7616,  0.    ,  0.7616])
    """

    def value(self, x):
        """Tanh x."""
        return np.tanh(x)

    def grad_input(self, x, grad_y):
        """(1 − y²) ∂L/∂y."""
        e2 = np.square(np.exp(-np.abs(x)))
        return grad_y * (4 * e2 / np.square(1 + e2))

    def propagated(self, x: Moments) -> Moments:
        """Moments of tanh x for Gaussian x."""
        shift, var = shift_and_variance(x, 2.0)
        return Moments(np.tanh(x.mean.astype(float)) + 2 * shift, 4 * var)

    @property
    def knots(self) -> np.ndarray:
        """Half of those of the sigmoid: tanh x = 2σ(2x) − 1."""
        return KNOTS / 2

    @property
    def monotone(self) -> bool:
        """See `refbnn.layers.activations.elementwise`."""
        return True
