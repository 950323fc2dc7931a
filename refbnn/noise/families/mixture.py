"""Standardised mixture of any number of normal laws.

Formula
-------
With weights wᵢ that add up to 1, means µᵢ and standard deviations sᵢ in any unit,

    q = Σᵢ wᵢ N(µᵢ, sᵢ²),   m = Σᵢ wᵢ µᵢ,   s² = Σᵢ wᵢ (sᵢ² + (µᵢ − m)²),

and the law is that of z = (y − m)/s; the kept components are those of z. `Bimodal` describes two
components by three numbers instead of six. Relaxed resistive memory needs three components: cells
that stayed where they were programmed, cells that moved, and a few that moved far.

Range
-----
Weights and standard deviations from 0.001 of the whole: below, a component is a spike that panels
may miss. Sums of positive terms: log q and Q to rounding times the size of their exponents.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, softmax

from refbnn.errors import InputError, cut
from refbnn.noise.numerical import AROUND_PEAK, CUT, WholeLineLaw
from refbnn.numerics import normal
from refbnn.numerics.arrays import real_array

LEAST_SHARE = 1e-3
_ROUNDING = 1e-14
_GREATEST = 1e100


class NormalMixture(WholeLineLaw):
    """Base of the laws that are mixtures of normal laws, whatever their parameters."""

    @property
    @abstractmethod
    def components(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights, means and standard deviations of the standardised law, each of shape (k,)."""

    @property
    def _ends(self) -> tuple[float, float]:
        _, mu, s = self.components
        return (float(np.min(mu - CUT * s)), float(np.max(mu + CUT * s)))

    @property
    def _features(self) -> np.ndarray:
        _, mu, s = self.components
        return (mu + AROUND_PEAK[:, np.newaxis] * s).ravel()

    @property
    def _terms(self) -> float:
        _, mu, s = self.components
        return float(np.max(np.abs(mu) / s))  # x − µ rounds at the size of µ

    def log_pdf(self, x: np.ndarray) -> np.ndarray:
        """Log q₀(x)."""
        return logsumexp(self._log_parts(x), axis=-1)

    def score(self, x: np.ndarray) -> np.ndarray:
        """Mean of the components' −(x − µ)/s², weighted by their share of the density at x."""
        _, mu, s = self.components
        slopes = (mu - self._real(x)[..., np.newaxis]) / s**2
        return np.sum(softmax(self._log_parts(x), axis=-1) * slopes, axis=-1)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Q(x) = Σ w Φ(t), t = (x − µ)/s."""
        return normal.cdf(self._standardised(x)) @ self.components[0]

    def partial_mean(self, x: np.ndarray) -> np.ndarray:
        """M(x) = Σ w (µ Φ(t) − s φ(t)), t = (x − µ)/s."""
        w, mu, s = self.components
        t = self._standardised(x)
        return (mu * normal.cdf(t) - s * normal.pdf(t)) @ w

    def _standardised(self, x) -> np.ndarray:
        """t = (x − µ)/s of every component, shape (..., k)."""
        _, mu, s = self.components
        return (self._real(x)[..., np.newaxis] - mu) / s

    def _log_parts(self, x) -> np.ndarray:
        """Log of each component's part of the density, shape (..., k)."""
        w, _, s = self.components
        return np.log(w / s) - 0.5 * np.square(self._standardised(x)) - 0.5 * np.log(2.0 * np.pi)


@dataclass(frozen=True, repr=False)
class Mixture(NormalMixture):
    """Mixture of normal laws; the methods are those of `refbnn.noise.law.Law`.

    Parameters
    ----------
    weights, means, deviations : sequences of k floats
        Components in any unit; kept as tuples of the standardised law's components.

    Raises
    ------
    InputError
        If their numbers differ, a weight or a deviation is out of range, or one is not finite.

    Examples
    --------
    >>> Mixture(weights=[0.8, 0.2], means=[49.0, 54.0], deviations=[1.0, 0.5])
    Mixture(weights=(0.8, 0.2), means=(-0.4541, 1.816), deviations=(0.4541, 0.227))
    """

    weights: Sequence[float] | np.ndarray
    means: Sequence[float] | np.ndarray
    deviations: Sequence[float] | np.ndarray

    def __post_init__(self):
        w, mu, s = (
            np.array(real_array(v, f"Mixture: {name}"), dtype=float)
            for name, v in (
                ("weights", self.weights),
                ("means", self.means),
                ("deviations", self.deviations),
            )
        )
        if not (w.ndim == 1 and w.size >= 1 and w.shape == mu.shape == s.shape):
            raise InputError(
                f"Mixture: weights, means and deviations of shapes {w.shape}, {mu.shape} and "
                f"{s.shape}; expected one row of each, equally long"
            )
        if not (np.isfinite([w, mu, s]).all() and (w >= LEAST_SHARE).all() and (s > 0.0).all()):
            raise InputError(
                f"Mixture: weights {cut(w.tolist())}, means {cut(mu.tolist())}, deviations "
                f"{cut(s.tolist())}; "
                f"expected finite numbers, weights of at least {LEAST_SHARE:g}, deviations above 0"
            )
        if not max(w.max(), np.abs(mu).max(), s.max()) <= _GREATEST:
            raise InputError(f"Mixture: numbers above {_GREATEST:g}; expected a smaller unit")
        # Twice, since a mean far from 0 leaves rounding behind; numbers that are standardised
        # already, such as saved ones, stay bit-identical.
        for _ in range(2):
            total, mean = w.sum(), w @ mu / w.sum()
            scale = np.sqrt(w @ (s**2 + (mu - mean) ** 2) / total)
            if max(abs(total - 1.0), abs(mean), abs(scale - 1.0)) > _ROUNDING:
                w, mu, s = w / total, (mu - mean) / scale, s / scale
        if not min(s.min(), w.min()) >= LEAST_SHARE * (1.0 - _ROUNDING):
            raise InputError(
                f"Mixture: a weight of {w.min():.3g}, a deviation of {s.min():.3g} of the whole; "
                f"expected at least {LEAST_SHARE:g}"
            )
        for name, value in (("weights", w), ("means", mu), ("deviations", s)):
            object.__setattr__(self, name, tuple(value.tolist()))

    def __repr__(self) -> str:
        rows = (("weights", self.weights), ("means", self.means), ("deviations", self.deviations))
        shown = (f"{name}=({', '.join(f'{v:.4g}' for v in values)})" for name, values in rows)
        return f"Mixture({', '.join(shown)})"

    @property
    def components(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights, means and standard deviations, each of shape (k,)."""
        return np.array(self.weights), np.array(self.means), np.array(self.deviations)
