"""Elementwise layers: each output depends on one input, by the same function everywhere.

A new activation is one short file beside this one: its formulas, and a subclass of `Elementwise`
with `value`, `grad_input` and `propagated` (`refbnn.layers.weightless`), for arrays of any shape.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from refbnn.layers.layer import Shape
from refbnn.layers.weightless import Weightless
from refbnn.numerics.arguments import real_number


@dataclass(frozen=True, repr=False)
class Elementwise(Weightless):
    """A layer that applies one function to every entry; its fields are finite numbers."""

    def __post_init__(self):
        for field in fields(self):
            # A NumPy scalar would turn float32 activations into float64.
            value = real_number(getattr(self, field.name), f"{type(self).__name__}: {field.name}")
            object.__setattr__(self, field.name, value)

    def output_shape(self, shape: Shape) -> Shape:
        """Any shape, kept."""
        return shape
