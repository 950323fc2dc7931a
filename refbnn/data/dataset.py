"""One set of examples: inputs of a network, and the outputs that they should have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from refbnn.errors import InputError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples of one task; checked when made.

    Attributes
    ----------
    name : str
        Name that `refbnn.data.load` takes.
    x : (N, *shape) float32
        Inputs in [0, 1]; images as (N, channels, height, width).
    y : (N,) int64 in 0 ... n_outputs - 1, or (N, n_outputs) float32
        Classes, or targets of a regression.
    task : "classes" or "regression"
    n_outputs : int
        Number of classes, or of targets an example.
    source : str
        Where these examples came from, in words.

    Raises
    ------
    InputError
        If the arrays are not as stated.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    task: Literal["classes", "regression"]
    n_outputs: int
    source: str

    def __post_init__(self) -> None:
        x, y = self.x, self.y
        if x.dtype != np.float32 or x.ndim < 2 or x.size == 0:
            raise self._unlike("inputs are", x, "at least one example, float32 (N, *shape)")
        # Written so that NaN fails; reductions, because these arrays can be large.
        if not (x.min() >= 0.0 and x.max() <= 1.0):
            found = f"{x.min():g} ... {x.max():g}"
            raise InputError(f"{self.name}: inputs lie in {found}; expected finite, in [0, 1]")
        if self.task == "classes":
            if y.dtype != np.int64 or y.shape != (len(x),):
                raise self._unlike(
                    "labels are", y, f"one int64 label for each of {len(x)} examples"
                )
            if y.min() < 0 or y.max() >= self.n_outputs:
                raise InputError(
                    f"{self.name}: labels lie in {y.min()} ... {y.max()}; "
                    f"expected 0 ... {self.n_outputs - 1}"
                )
        else:
            if y.dtype != np.float32 or y.shape != (len(x), self.n_outputs):
                wanted = f"float32 of shape {(len(x), self.n_outputs)}"
                raise self._unlike("targets are", y, wanted)
            if not np.isfinite(y).all():
                raise InputError(f"{self.name}: targets hold NaN or infinity; expected finite ones")

    def __len__(self) -> int:
        return len(self.x)

    def _unlike(self, found: str, array: np.ndarray, expected: str) -> InputError:
        return InputError(
            f"{self.name}: {found} {array.dtype} of shape {array.shape}; expected {expected}"
        )
