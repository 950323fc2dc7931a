"""Moments: the one thing that propagation hands from layer to layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from refbnn.errors import InputError

_ARRAYS = (np.ndarray, np.generic)
MEAN_NOT_FINITE = "moments: the mean holds NaN or infinity; expected finite numbers"
NO_VARIANCE = (
    "moments: the variance holds a negative, NaN or infinite entry; "
    "expected finite numbers of at least 0"
)


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
        mean, var = self.mean, self.var
        for part in (mean, var):
            if not isinstance(part, _ARRAYS) or part.dtype.kind not in "fiu":
                raise InputError(
                    f"moments: {getattr(part, 'dtype', type(part).__name__)}; expected arrays of "
                    "real numbers"
                )
        if mean.shape != var.shape:
            raise InputError(
                f"moments: mean has shape {mean.shape} and variance {var.shape}; "
                "expected the same shape"
            )
        if not all_finite(mean):
            raise InputError(MEAN_NOT_FINITE)
        if var.size and not (all_finite(var) and var.min() >= 0.0):
            raise InputError(NO_VARIANCE)

    @classmethod
    def checked(cls, mean: np.ndarray, var: np.ndarray) -> Moments:
        """Moments of arrays that whoever made them has checked, as a compiled network does.

        Checking them again would take as long as a small network.
        """
        moments = object.__new__(cls)
        moments.__dict__.update(mean=mean, var=var)
        return moments

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the mean, and of the variance."""
        return self.mean.shape


def all_finite(x: np.ndarray) -> bool:
    """Whether no entry is NaN or infinite.

    Σx² is finite unless an entry is not or the sum overflows: one fast pass, rarely two.
    """
    return math.isfinite(np.vdot(x, x)) or bool(np.isfinite(x).all())


def deterministic(x: np.ndarray) -> Moments:
    """View known values as moments of variance zero; shape kept."""
    return Moments(x, np.zeros_like(x))
