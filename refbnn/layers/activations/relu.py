"""ReLU: y = max(0, x).

Formulas
--------
Forward: max(0, x). Backward: ∂L/∂x = ∂L/∂y where x > 0, else 0 (the subgradient 0 at x = 0).
Moments: those of a rectified Gaussian, `refbnn.numerics.normal.rectified_moments`; exact when x is
Gaussian, an approximation otherwise (a sum of n independent terms approaches a Gaussian with n).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from refbnn.layers.layer import Arrays, Shape
from refbnn.layers.moments import Moments, deterministic
from refbnn.layers.posterior import Posterior
from refbnn.numerics.normal import rectified_moments


def forward(x):
    """max(0, x); any shape."""
    return np.maximum(x, 0)


def backward(x, grad_y):
    """∂L/∂x from x and g = ∂L/∂y; any shape."""
    return grad_y * (x > 0)  # np.where branches at every entry, and takes ten times as long


def moments(x: Moments) -> Moments:
    """Moments of max(0, x) for Gaussian x; any shape."""
    return Moments(*rectified_moments(x.mean, x.var))


@dataclass(frozen=True)
class ReLU:
    """ReLU layer; see the formulas at the top of the file."""

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
