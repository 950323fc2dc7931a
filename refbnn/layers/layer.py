"""The interface of a layer, and what all of them do with their sizes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any, Protocol

import numpy as np

from refbnn.errors import InputError
from refbnn.layers.moments import Moments
from refbnn.layers.posterior import Posterior
from refbnn.numerics.arguments import row_of, shown, whole_number

Shape = tuple[int, ...]
Arrays = Mapping[str, np.ndarray]


class Layer(Protocol):
    """The interface of a layer: sampled forward and backward passes, and moments.

    A layer holds sizes only; its weights live in the network. Sampled weights and activations may
    carry leading sample axes, which broadcast. Arrays keep their type: float32 in, float32 out.
    A layer with a rule of linearised propagation has a method more, that of
    `refbnn.layers.linearisation.LinearisedLayer`; all layers of refbnn have.

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


def layers_in_a_row(layers: Iterable[Layer], name: str) -> tuple[Layer, ...]:
    """The layers of a network or a block.

    Raises
    ------
    InputError
        If there is none, or one is no layer, which would tell the shapes of its weights; the
        message opens with `name`. A network asks for the other methods too, a block that is only
        stated does not (`refbnn.network.layers_text`).
    """
    row = row_of(layers, f"{name}: layers", "a list of layers")
    if not row:
        raise InputError(f"{name}: no layers; expected at least one")
    for number, layer in enumerate(row):
        if isinstance(layer, type) or not hasattr(layer, "parameter_shapes"):
            raise InputError(
                f"{name}: layer {number} is {shown(layer)}; expected a Layer, such as Dense(3, 2)"
            )
    return row


def shape_of(value: Iterable[int], name: str) -> Shape:
    """A shape as a tuple of ints; InputError unless it is a row of whole numbers from 1."""
    row = row_of(value, name, "whole numbers, such as (784,)")
    return tuple(whole_number(size, 1, f"{name}: a size") for size in row)


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
