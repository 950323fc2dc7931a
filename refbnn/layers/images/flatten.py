"""Flatten: images (..., C, H, W) as rows (..., C·H·W), channel after channel, row after row.

The last three axes are those of an image, whatever sample and batch axes lead. Rows are refused
where shapes are checked: what is flat already needs no such layer. Moments are flattened alike;
nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from refbnn.errors import InputError
from refbnn.layers.layer import Arrays, Shape
from refbnn.layers.moments import Moments, deterministic
from refbnn.layers.posterior import Posterior


def forward(x):
    """(..., C, H, W) -> (..., C·H·W)."""
    return x.reshape(*x.shape[:-3], prod(x.shape[-3:]))


def backward(grad_y, image: Shape):
    """∂L/∂x (..., C, H, W) from g = ∂L/∂y (..., C·H·W), for images of shape (C, H, W)."""
    return grad_y.reshape(*grad_y.shape[:-1], *image)


@dataclass(frozen=True)
class Flatten:
    """Flattening layer; see the top of the file."""

    def parameter_shapes(self) -> dict[str, Shape]:
        """No weights."""
        return {}

    def output_shape(self, shape: Shape) -> Shape:
        """(C, H, W) -> (C·H·W,)."""
        if len(shape) != 3:
            raise InputError(
                f"Flatten(): input has shape {shape}; expected (channels, height, width)"
            )
        return (prod(shape),)

    def forward(self, x: np.ndarray, weights: Arrays) -> np.ndarray:
        """See `forward` of this module."""
        return forward(x)

    def backward(
        self, x: np.ndarray, weights: Arrays, grad_y: np.ndarray, need_grad_x: bool = True
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """See `backward` of this module."""
        return backward(grad_y, x.shape[-3:]), {}

    def moments(self, x: np.ndarray | Moments, posteriors: Mapping[str, Posterior]) -> Moments:
        """Mean and variance, each flattened."""
        x = x if isinstance(x, Moments) else deterministic(x)
        return Moments(forward(x.mean), forward(x.var))
