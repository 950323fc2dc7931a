"""The Laplace prior, whose most likely weights are zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refbnn.prior.prior import require_positive


@dataclass(frozen=True)
class LaplacePrior:
    """Laplace: log p(θ) = −|θ|/b − log 2b; its standard deviation is √2·b."""

    scale: float = 1.0

    def __post_init__(self):
        require_positive("LaplacePrior: scale", self.scale)

    def log_pdf(self, theta: np.ndarray) -> np.ndarray:
        """Log p(θ)."""
        return -np.abs(theta) / self.scale - np.log(2.0 * self.scale)

    def score(self, theta: np.ndarray) -> np.ndarray:
        """−sign(θ)/b; 0 at the kink θ = 0."""
        return -np.sign(theta) / self.scale
