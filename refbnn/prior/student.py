"""Student's t prior, whose heavy tails shrink large weights little."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaln

from refbnn.prior.prior import make_positive


@dataclass(frozen=True)
class StudentTPrior:
    """Student's t, ν degrees of freedom, scale s: log p = C − (ν+1)/2 · log(1 + θ²/(νs²)).

    Examples
    --------
    >>> StudentTPrior(dof=3.0).score(np.array([1.0, 3.0]))
    array([-1., -1.])
    """

    dof: float = 3.0
    scale: float = 1.0

    def __post_init__(self):
        make_positive(self, "dof", "scale")

    @property
    def log_peak(self) -> float:
        """C = log p(0) = log Γ((ν+1)/2) − log Γ(ν/2) − ½ log(νπ) − log s.

        Computed as −log B(ν/2, ½) − ½ log ν − log s, since the gammas of a large ν would cancel.
        """
        nu = self.dof
        return float(-betaln(0.5 * nu, 0.5) - 0.5 * np.log(nu) - np.log(self.scale))

    def log_pdf(self, theta: np.ndarray) -> np.ndarray:
        """Log p(θ)."""
        tail = np.log1p(np.square(theta / self.scale) / self.dof)
        return self.log_peak - 0.5 * (self.dof + 1.0) * tail

    def score(self, theta: np.ndarray) -> np.ndarray:
        """−(ν+1) θ/(νs² + θ²)."""
        return -(self.dof + 1.0) * theta / (self.dof * self.scale**2 + np.square(theta))
