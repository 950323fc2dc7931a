"""The Gaussian law, q₀(x) = exp(−x²/2)/√(2π), the usual assumption of mean-field inference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike
from scipy.special import ndtri

from refbnn.noise.numerical import CUT, WholeLineLaw, check_nodes
from refbnn.numerics import normal
from refbnn.numerics.arrays import float_type
from refbnn.numerics.inverse_cdf import check_probabilities
from refbnn.numerics.quadrature import Rule, golub_welsch


@dataclass(frozen=True)
class Gaussian(WholeLineLaw):
    """The standard normal law; the methods are those of `refbnn.noise.law.Law`.

    All but `rules_between` has a closed form. `inverse` is the interpolated Φ⁻¹ that kernels use.

    Examples
    --------
    >>> law = Gaussian()
    >>> np.round(law.cdf([-1.0, 0.0, 1.0]), 6)
    array([0.158655, 0.5     , 0.841345])
    >>> law.sample(np.random.default_rng(0), (2, 3)).shape
    (2, 3)
    """

    @property
    def entropy(self) -> float:
        """H = ½ log(2πe)."""
        return 0.5 * float(np.log(2.0 * np.pi * np.e))

    @property
    def _ends(self) -> tuple[float, float]:
        return (-CUT, CUT)

    def log_pdf(self, x: np.ndarray) -> np.ndarray:
        """−x²/2 − ½ log 2π."""
        return -0.5 * np.square(self._real(x)) - 0.5 * np.log(2.0 * np.pi)

    def score(self, x: np.ndarray) -> np.ndarray:
        """−x."""
        return -self._real(x)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Φ(x)."""
        return normal.cdf(self._real(x))

    def partial_mean(self, x: np.ndarray) -> np.ndarray:
        """E[z; z ≤ x] = −φ(x)."""
        return -normal.pdf(self._real(x))

    def icdf(self, u: np.ndarray) -> np.ndarray:
        """Φ⁻¹(u), ∓∞ at 0 and 1."""
        return ndtri(check_probabilities(self._real(u)))

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], dtype: DTypeLike = float
    ) -> np.ndarray:
        """Draw by NumPy's exact ziggurat; in float32 by inversion, which takes half the time."""
        if float_type(dtype, "Gaussian.sample") == np.float32:
            return super().sample(rng, shape, dtype)
        return rng.standard_normal(shape)

    def quadrature(self, n: int) -> Rule:
        """Gauss–Hermite rule for the normal weight: a_k = 0, b_k = k; n up to 64."""
        check_nodes(self, n)
        return golub_welsch(np.zeros(n), np.sqrt(np.arange(1.0, n)))
