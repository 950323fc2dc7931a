"""Flatten: images (..., C, H, W) as rows (..., C·H·W), channel after channel, row after row.

The last three axes are those of an image, whatever sample and batch axes lead. An input that is
flat already is refused. Means and variances are flattened alike; nothing is approximated.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from refbnn.errors import InputError
from refbnn.layers.layer import Shape
from refbnn.layers.moments import Moments
from refbnn.layers.weightless import Weightless


@dataclass(frozen=True, repr=False)
class Flatten(Weightless):
    """Flattening layer; see the top of the file.

    Examples
    --------
    >>> from refbnn.layers import Flatten
    >>> Flatten().forward(np.zeros((5, 3, 28, 28)), {}).shape
    (5, 2352)
    """

    def output_shape(self, shape: Shape) -> Shape:
        """(C, H, W) -> (C·H·W,)."""
        if len(shape) != 3:
            raise InputError(f"{self}: input has shape {shape}; expected (channels, height, width)")
        return (prod(shape),)

    def value(self, x: np.ndarray) -> np.ndarray:
        """(..., C, H, W) -> (..., C·H·W)."""
        return x.reshape(*x.shape[:-3], prod(x.shape[-3:]))

    def grad_input(self, x: np.ndarray, grad_y: np.ndarray) -> np.ndarray:
        """∂L/∂x (..., C, H, W) from g = ∂L/∂y (..., C·H·W)."""
        return grad_y.reshape(*grad_y.shape[:-1], *x.shape[-3:])

    def propagated(self, x: Moments) -> Moments:
        """Mean and variance, each flattened."""
        return Moments(self.value(x.mean), self.value(x.var))
