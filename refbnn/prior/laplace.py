"""The Laplace prior, which favours weights of exactly zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refbnn.prior.prior import make_positive


@dataclass(frozen=True)
class LaplacePrior:
    """Laplace: log p(θ) = −|θ|/b − log 2b, with b the scale; its standard deviation is √2·b.

    Examples
    --------
    >>> np.round(np.exp(LaplacePrior(0.5).log_pdf(np.array([0.0, 1.0]))), 6)
    array([1.      , 0.135335])
    """

    scale: float = 1.0

    def __post_init__(self):
        make_positive(self, "scale")

    def log_pdf(self, theta: np.ndarray) -> np.ndarray:
        """Log p(θ)."""
        return -np.abs(theta) / self.scale - np.log(2.0 * self.scale)

    def score(self, theta: np.ndarray) -> np.ndarray:
        """−sign(θ)/b; 0 at the kink θ = 0."""
        return -np.sign(theta) / self.scale
