"""Tanh: y = tanh x.

Formulas
--------
Forward: as above. Backward: ∂L/∂x = (1 − y²) ∂L/∂y, with 1 − y² = 4e²/(1 + e²)², e = exp(−|x|):
relative accuracy in both tails.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refbnn.layers.layer import Arrays, Shape


def forward(x):
    """Tanh x; any shape."""
    return np.tanh(x)


def backward(x, grad_y):
    """∂L/∂x from x and g = ∂L/∂y; any shape."""
    e2 = np.square(np.exp(-np.abs(x)))
    return grad_y * (4 * e2 / np.square(1 + e2))


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
