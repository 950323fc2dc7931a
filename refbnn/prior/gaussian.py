"""The Gaussian prior N(0, s²)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refbnn.prior.prior import make_positive


@dataclass(frozen=True)
class GaussianPrior:
    """N(0, s²): log p(θ) = −θ²/(2s²) − log s − ½ log 2π.

    Examples
    --------
    >>> GaussianPrior(0.5).score(np.array([1.0]))
    array([-4.])
    """

    scale: float = 1.0

    def __post_init__(self):
        make_positive(self, "scale")

    def log_pdf(self, theta: np.ndarray) -> np.ndarray:
        """Log p(θ)."""
        return -0.5 * np.square(theta / self.scale) - np.log(self.scale * np.sqrt(2.0 * np.pi))

    def score(self, theta: np.ndarray) -> np.ndarray:
        """−θ/s²."""
        return -theta / self.scale**2
