"""Moments: the one thing that propagation hands from layer to layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from refbnn.errors import InputError


@dataclass(frozen=True)
class Moments:
    """Mean and variance of every entry of an array of independent random variables.

    Parameters
    ----------
    mean : ndarray, any shape
        E[x].
    var : ndarray, same shape
        E[(x − E[x])²]; zero where an entry is deterministic.

    Raises
    ------
    InputError
        If the shapes differ, a variance is negative, or an entry is NaN or infinite.
    """

    mean: np.ndarray
    var: np.ndarray

    def __post_init__(self):
        for part in (self.mean, self.var):
            if not isinstance(part, np.ndarray | np.generic) or part.dtype.kind not in "fiu":
                raise InputError(
                    f"moments: {getattr(part, 'dtype', type(part).__name__)}; expected arrays of "
                    "real numbers"
                )
        if self.mean.shape != self.var.shape:
            raise InputError(
                f"moments: mean has shape {self.mean.shape} and variance {self.var.shape}; "
                "expected the same shape"
            )
        if not all_finite(self.mean):
            raise InputError("moments: the mean holds NaN or infinity; expected finite numbers")
        if self.var.size and not (all_finite(self.var) and self.var.min() >= 0.0):
            raise InputError(
                "moments: the variance holds a negative, NaN or infinite entry; "
                "expected finite numbers of at least 0"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the mean, and of the variance."""
        return self.mean.shape


def all_finite(x: np.ndarray) -> bool:
    """Whether no entry is NaN or infinite.

    Σx² is finite unless an entry is not or the sum overflows: one fast pass, rarely two. It counts
    because the moments of a compiled network, made in some microseconds, are checked as well.
    """
    return math.isfinite(np.vdot(x, x)) or bool(np.isfinite(x).all())


def deterministic(x: np.ndarray) -> Moments:
    """View known values as moments of variance zero; shape kept."""
    return Moments(x, np.zeros_like(x))
