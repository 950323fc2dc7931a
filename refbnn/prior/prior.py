"""A prior: log p of one weight and its derivative, in NumPy, written to be read.

`refbnn.training.kl.loops` holds the same functions as scalars for the loops over millions of
weights.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from refbnn.errors import InputError


class Prior(Protocol):
    """The interface; θ of any shape."""

    def log_pdf(self, theta: np.ndarray) -> np.ndarray:
        """Log p(θ)."""

    def score(self, theta: np.ndarray) -> np.ndarray:
        """(log p)′(θ)."""


def require_positive(name: str, value: float) -> None:
    """Raise InputError unless the value is a finite number above 0."""
    if not (np.isfinite(value) and value > 0.0):
        raise InputError(f"{name} is {value}; expected a finite number above 0")
