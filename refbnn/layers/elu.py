"""ELU: y = x for x > 0, else α(eˣ − 1).

Formulas
--------
Forward: as above. Backward: ∂L/∂x = ∂L/∂y where x > 0, else α eˣ ∂L/∂y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from refbnn.errors import InputError
from refbnn.layers.layer import Arrays, Shape


def forward(x, alpha):
    """X where x > 0, else α(eˣ − 1); any shape."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def backward(x, grad_y, alpha):
    """∂L/∂x from x and g = ∂L/∂y; any shape."""
    return np.where(x > 0, grad_y, alpha * np.exp(np.minimum(x, 0)) * grad_y)


@dataclass(frozen=True)
class ELU:
    """ELU that falls to −α; see the formulas at the top of the file."""

    alpha: float = 1.0

    def __post_init__(self):
        if not math.isfinite(self.alpha):
            raise InputError(f"ELU({self.alpha}): expected a finite alpha")
        # A NumPy scalar would turn float32 activations into float64.
        object.__setattr__(self, "alpha", float(self.alpha))

    def parameter_shapes(self) -> dict[str, Shape]:
        """No weights."""
        return {}

    def output_shape(self, shape: Shape) -> Shape:
        """Any shape, kept."""
        return shape

    def forward(self, x: np.ndarray, weights: Arrays) -> np.ndarray:
        """See `forward` of this module."""
        return forward(x, self.alpha)

    def backward(
        self, x: np.ndarray, weights: Arrays, grad_y: np.ndarray, need_grad_x: bool = True
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """See `backward` of this module."""
        return backward(x, grad_y, self.alpha), {}
