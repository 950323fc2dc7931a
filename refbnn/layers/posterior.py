"""Posterior: the mean and scale of every weight in one array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from refbnn.errors import InputError
from refbnn.layers.moments import real_arrays
from refbnn.numerics.arguments import real_number


@dataclass(frozen=True, eq=False)
class Posterior:
    """Mean-field posterior of an array of weights, θ = µ + σ z with z from a standardised law.

    Parameters
    ----------
    mean : array_like, any shape
        µ.
    scale : array_like, same shape
        σ ≥ 0, the standard deviation of the weight whatever the law; zero for a known weight.

    Raises
    ------
    InputError
        If the shapes differ, a scale is negative, or an entry is NaN or infinite.

    Examples
    --------
    >>> from refbnn import Posterior
    >>> weights = Posterior([[1.0, -2.0]], [[0.1, 0.3]])
    >>> weights.shape, weights.var.round(4)
    ((1, 2), array([[0.01, 0.09]]))
    """

    mean: np.ndarray
    scale: np.ndarray

    if TYPE_CHECKING:  # lists become arrays

        def __init__(self, mean: ArrayLike, scale: ArrayLike) -> None: ...

    def __post_init__(self):
        mean, scale = real_arrays(self, "mean", "scale", "posterior")
        if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
            raise InputError("posterior: NaN or infinity in mean or scale; expected finite numbers")
        if (scale < 0.0).any():
            raise InputError("posterior: negative scale; expected numbers of at least 0")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the mean, and of the scale."""
        return self.mean.shape

    @property
    def var(self) -> np.ndarray:
        """σ², the variance of every weight."""
        return self.scale**2

    def moved(self, shift: float, ratio: float) -> Posterior:
        """Posterior of θ = µ + σ (shift + ratio·z): what drifting devices make of the weights.

        Parameters
        ----------
        shift, ratio : float
            The numbers that `refbnn.noise.DriftingLaw.change` returns.
        """
        a, r = real_number(shift, "shift"), real_number(ratio, "ratio")
        return Posterior(self.mean + a * self.scale, r * self.scale)
