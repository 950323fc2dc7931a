"""Posterior: mean and scale of every weight of one array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refbnn.errors import InputError


@dataclass(frozen=True)
class Posterior:
    """Mean-field posterior of an array of weights, θ = µ + σ z with z from a standardised law.

    Parameters
    ----------
    mean : ndarray, any shape
        µ.
    scale : ndarray, same shape
        σ ≥ 0, the standard deviation of the weight whatever the law; zero for a known weight.

    Raises
    ------
    InputError
        If the shapes differ, a scale is negative, or an entry is NaN or infinite.
    """

    mean: np.ndarray
    scale: np.ndarray

    def __post_init__(self):
        if self.mean.shape != self.scale.shape:
            raise InputError(
                f"posterior: mean has shape {self.mean.shape} and scale {self.scale.shape}; "
                "expected the same shape"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.scale).all()):
            raise InputError("posterior: NaN or infinity in mean or scale; expected finite numbers")
        if (self.scale < 0.0).any():
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
            As `refbnn.noise.DriftingLaw.change` gives them.
        """
        return Posterior(self.mean + shift * self.scale, ratio * self.scale)
