"""Layout: all weight arrays of a network in one flat array, so that a step passes over few."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from math import prod

import numpy as np

from refbnn.layers.layer import Shape


@dataclass(frozen=True)
class Layout:
    """Names and shapes of weight arrays, in the order in which a flat array holds them."""

    shapes: Mapping[str, Shape]

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each array lies."""
        ends = accumulate((prod(shape) for shape in self.shapes.values()), initial=0)
        return {name: slice(*p) for name, p in zip(self.shapes, pairwise(ends), strict=True)}

    @property
    def size(self) -> int:
        """P, the number of weights."""
        return sum(prod(shape) for shape in self.shapes.values())

    def views(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays by name, (..., *shape), that share memory with a flat one, (..., P)."""
        lead = flat.shape[:-1]
        return {
            name: flat[..., part].reshape((*lead, *self.shapes[name]))
            for name, part in self.slices.items()
        }

    def flatten(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """One flat array (..., P) of arrays (..., *shape) by name."""
        parts = []
        for name, shape in self.shapes.items():
            array = arrays[name]
            parts.append(array.reshape(*array.shape[: array.ndim - len(shape)], -1))
        return np.concatenate(parts, axis=-1)
