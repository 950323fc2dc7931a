"""The Gaussian law, q₀(x) = exp(−x²/2)/√(2π): what mean-field inference assumes by custom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from refbnn import normal
from refbnn.errors import InputError
from refbnn.quadrature import Rule, golub_welsch


@dataclass(frozen=True)
class Gaussian:
    """The standard normal law; the methods are those of `refbnn.noise.law.Law`."""

    @property
    def support(self) -> tuple[float, float]:
        """The whole line."""
        return (-np.inf, np.inf)

    @property
    def entropy(self) -> float:
        """H = ½ log(2πe)."""
        return 0.5 * float(np.log(2.0 * np.pi * np.e))

    def log_pdf(self, x: np.ndarray) -> np.ndarray:
        """−x²/2 − ½ log 2π."""
        return -0.5 * np.square(x) - 0.5 * np.log(2.0 * np.pi)

    def score(self, x: np.ndarray) -> np.ndarray:
        """−x."""
        return -np.asarray(x)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Φ(x)."""
        return normal.cdf(x)

    def icdf(self, u: np.ndarray) -> np.ndarray:
        """Φ⁻¹(u), ∓∞ at 0 and 1."""
        return ndtri(u)

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draw by NumPy's ziggurat, which is exact and faster than inversion."""
        return rng.standard_normal(shape)

    def quadrature(self, n: int) -> Rule:
        """Gauss–Hermite rule for the normal weight: a_k = 0, b_k = k; n up to 64."""
        if not 1 <= n <= 64:
            raise InputError(f"Gaussian.quadrature: n is {n}; expected 1 to 64")
        return golub_welsch(np.zeros(n), np.sqrt(np.arange(1.0, n)))
