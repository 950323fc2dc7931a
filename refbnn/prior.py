"""Priors of one weight: log p, its derivative, and where a closed form exists, its expectation.

Both are symmetric about 0 and independent over weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import gammaln

from refbnn.errors import InputError


class Prior(Protocol):
    """The interface; θ of any shape."""

    def log_pdf(self, theta: np.ndarray) -> np.ndarray:
        """Log p(θ)."""

    def score(self, theta: np.ndarray) -> np.ndarray:
        """(log p)′(θ)."""


def _require_positive(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0.0):
        raise InputError(f"{name} is {value}; expected a finite number above 0")


@dataclass(frozen=True)
class GaussianPrior:
    """N(0, s²): log p(θ) = −θ²/(2s²) − log s − ½ log 2π."""

    scale: float = 1.0

    def __post_init__(self):
        _require_positive("GaussianPrior: scale", self.scale)

    def log_pdf(self, theta: np.ndarray) -> np.ndarray:
        """Log p(θ)."""
        return -0.5 * np.square(theta / self.scale) - np.log(self.scale * np.sqrt(2.0 * np.pi))

    def score(self, theta: np.ndarray) -> np.ndarray:
        """−θ/s²."""
        return -theta / self.scale**2


@dataclass(frozen=True)
class StudentTPrior:
    """Student's t, ν degrees of freedom, scale s: log p = C − (ν+1)/2 · log(1 + θ²/(νs²))."""

    dof: float = 3.0
    scale: float = 1.0

    def __post_init__(self):
        _require_positive("StudentTPrior: dof", self.dof)
        _require_positive("StudentTPrior: scale", self.scale)

    def log_pdf(self, theta: np.ndarray) -> np.ndarray:
        """Log p(θ), C = log Γ((ν+1)/2) − log Γ(ν/2) − ½ log(νπ) − log s."""
        nu = self.dof
        constant = gammaln(0.5 * (nu + 1.0)) - gammaln(0.5 * nu)
        constant -= 0.5 * np.log(nu * np.pi) + np.log(self.scale)
        return constant - 0.5 * (nu + 1.0) * np.log1p(np.square(theta / self.scale) / nu)

    def score(self, theta: np.ndarray) -> np.ndarray:
        """−(ν+1) θ/(νs² + θ²)."""
        return -(self.dof + 1.0) * theta / (self.dof * self.scale**2 + np.square(theta))
