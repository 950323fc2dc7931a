"""Leaky ReLU: y = x for x > 0, else λx, with slope λ.

Formulas
--------
Forward: as above. Backward: ∂L/∂x = ∂L/∂y where x > 0, else λ ∂L/∂y (λ also at x = 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from refbnn.errors import InputError
from refbnn.layers.layer import Arrays, Shape


def forward(x, slope):
    """X where x > 0, else λx; any shape."""
    return np.where(x > 0, x, slope * x)


def backward(x, grad_y, slope):
    """∂L/∂x from x and g = ∂L/∂y; any shape."""
    return np.where(x > 0, grad_y, slope * grad_y)


@dataclass(frozen=True)
class LeakyReLU:
    """Leaky ReLU of the given slope λ for x < 0; see the formulas at the top of the file."""

    slope: float = 0.01

    def __post_init__(self):
        if not math.isfinite(self.slope):
            raise InputError(f"LeakyReLU({self.slope}): expected a finite slope")
        # A NumPy scalar would turn float32 activations into float64.
        object.__setattr__(self, "slope", float(self.slope))

    def parameter_shapes(self) -> dict[str, Shape]:
        """No weights."""
        return {}

    def output_shape(self, shape: Shape) -> Shape:
        """Any shape, kept."""
        return shape

    def forward(self, x: np.ndarray, weights: Arrays) -> np.ndarray:
        """See `forward` of this module."""
        return forward(x, self.slope)

    def backward(
        self, x: np.ndarray, weights: Arrays, grad_y: np.ndarray, need_grad_x: bool = True
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """See `backward` of this module."""
        return backward(x, grad_y, self.slope), {}
