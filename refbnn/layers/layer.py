"""What every layer offers: sampled forward and backward, and moments, without a base class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from refbnn.layers.moments import Moments
from refbnn.layers.posterior import Posterior

Shape = tuple[int, ...]
Arrays = Mapping[str, np.ndarray]


class Layer(Protocol):
    """The interface; a layer holds sizes only, its weights live in the network.

    Sampled weights and activations may carry leading sample axes, which broadcast. Arrays keep
    their type: float32 in, float32 out.
    """

    def parameter_shapes(self) -> dict[str, Shape]:
        """Name and shape of each weight array; empty for a layer without weights."""

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of one output for one input of this shape; InputError if it does not fit."""

    def forward(self, x: np.ndarray, weights: Arrays) -> np.ndarray:
        """Outputs for inputs x and sampled weights."""

    def backward(
        self, x: np.ndarray, weights: Arrays, grad_y: np.ndarray, need_grad_x: bool = True
    ) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
        """∂L/∂x and ∂L/∂(each weight array), from the inputs x of forward and grad_y = ∂L/∂y.

        Without need_grad_x, ∂L/∂x may be None: nothing trainable lies before a first layer.
        """

    def moments(self, x: np.ndarray | Moments, posteriors: Mapping[str, Posterior]) -> Moments:
        """Moments of the outputs for known inputs (an array) or for random ones (Moments)."""
