"""The interface of a layer, and what all of them do with their sizes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from operator import index
from typing import Any, Protocol

import numpy as np

from refbnn.errors import InputError, quoted
from refbnn.layers.moments import Moments
from refbnn.layers.posterior import Posterior

Shape = tuple[int, ...]
Arrays = Mapping[str, np.ndarray]


class Layer(Protocol):
    """The interface of a layer: sampled forward and backward passes, and moments.

    A layer holds sizes only; its weights live in the network. Sampled weights and activations may
    carry leading sample axes, which broadcast. Arrays keep their type: float32 in, float32 out.

    Examples
    --------
    >>> from refbnn.layers import Dense, Layer
    >>> layer: Layer = Dense(3, 2)
    >>> layer.parameter_shapes()
    {'weight': (2, 3), 'bias': (2,)}
    >>> layer.output_shape((3,))
    (2,)
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


def whole_number(value: Any, least: int, name: str) -> int:
    """The value as an int, NumPy's integers included.

    Raises
    ------
    InputError
        If it is no whole number of at least `least`; the message opens with `name`.
    """
    try:
        number = least - 1 if isinstance(value, bool) else index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise InputError(f"{name} is {quoted(value)}; expected a whole number of at least {least}")
    return number


def short_repr(layer: Any, omitted: Collection[str] = ()) -> str:
    """One line that makes the layer again, such as `Conv2d(1, 6, 5, padding=2)`.

    Fields without a default come by position, others by name where they differ from their default;
    a pair of equal numbers is one number.
    """
    parts = []
    for field in fields(layer):
        value = getattr(layer, field.name)
        if isinstance(value, tuple) and len(value) == 2 and value[0] == value[1]:
            value = value[0]
        if field.default is MISSING:
            parts.append(repr(value))
        elif field.name not in omitted and value != field.default:
            parts.append(f"{field.name}={value!r}")
    return f"{type(layer).__name__}({', '.join(parts)})"
