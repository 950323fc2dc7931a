"""Sigmoid: y = 1/(1 + e⁻ˣ).

Formulas
--------
Forward: as above (SciPy's `expit`, stable in both tails). Backward: ∂L/∂x = y(1 − y) ∂L/∂y, with
y(1 − y) = e/(1 + e)², e = exp(−|x|): relative accuracy in both tails.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from refbnn.layers.layer import Arrays, Shape


def forward(x):
    """1/(1 + e⁻ˣ); any shape."""
    return expit(x)


def backward(x, grad_y):
    """∂L/∂x from x and g = ∂L/∂y; any shape."""
    e = np.exp(-np.abs(x))
    return grad_y * (e / np.square(1 + e))


@dataclass(frozen=True)
class Sigmoid:
    """Sigmoid layer; see the formulas at the top of the file."""

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
