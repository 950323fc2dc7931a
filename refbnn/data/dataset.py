"""One set of examples: inputs of a network, and the outputs that they should have."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from refbnn.errors import InputError

_FLOATS = (np.float32, np.float64)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples of one task; checked when made.

    Attributes
    ----------
    name : str
        Name that `refbnn.data.load` takes.
    x : (N, *shape) float32 or float64
        Finite inputs; images as (N, channels, height, width). Those of named data sets are float32
        in [0, 1].
    y : (N,) int64 in 0 ... n_outputs - 1, or (N, n_outputs) float32 or float64
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
        if x.dtype not in _FLOATS or x.ndim < 2 or x.size == 0:
            raise self._unlike("inputs are", x, "at least one example, floats (N, *shape)")
        if not (np.isfinite(x.min()) and np.isfinite(x.max())):  # fast, and NaN fails
            raise InputError(f"{self.name}: inputs hold NaN or infinity; expected finite numbers")
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
            if y.dtype not in _FLOATS or y.shape != (len(x), self.n_outputs):
                wanted = f"floats of shape {(len(x), self.n_outputs)}"
                raise self._unlike("targets are", y, wanted)
            if not np.isfinite(y).all():
                raise InputError(f"{self.name}: targets hold NaN or infinity; expected finite ones")

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of inputs and answers, in hexadecimal digits."""
        digest = hashlib.sha256()
        for array in (self.x, self.y):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def _unlike(self, found: str, array: np.ndarray, expected: str) -> InputError:
        return InputError(
            f"{self.name}: {found} {array.dtype} of shape {array.shape}; expected {expected}"
        )
