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

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from refbnn.layers.activations.sigmoid import shift_and_variance
from refbnn.layers.layer import Arrays, Shape
from refbnn.layers.moments import Moments, deterministic
from refbnn.layers.posterior import Posterior


def forward(x):
    """Tanh x; any shape."""
    return np.tanh(x)


def backward(x, grad_y):
    """∂L/∂x from x and g = ∂L/∂y; any shape."""
    e2 = np.square(np.exp(-np.abs(x)))
    return grad_y * (4 * e2 / np.square(1 + e2))


def moments(x: Moments) -> Moments:
    """Moments of tanh x for Gaussian x; any shape."""
    shift, var = shift_and_variance(x, 2.0)
    return Moments(np.tanh(x.mean.astype(float)) + 2 * shift, 4 * var)


@dataclass(frozen=True)
class Tanh:
    """Tanh layer; see the formulas at the top of the file."""

    def parameter_shapes(self) -> dict[str, Shape]:
        """No weights."""
        return {}

    def output_shape(self, shape: Shape) -> Shape:
        """Any shape, kept."""
        return shape

    def forward(self, x: np.ndarray, weights: Arrays) -> np.ndarray:
        """See `forward` of this module."""
        return forward(x)

    def backward(
        self, x: np.ndarray, weights: Arrays, grad_y: np.ndarray, need_grad_x: bool = True
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """See `backward` of this module."""
        return backward(x, grad_y), {}

    def moments(self, x: np.ndarray | Moments, posteriors: Mapping[str, Posterior]) -> Moments:
        """See `moments` of this module."""
        return moments(x if isinstance(x, Moments) else deterministic(x))
