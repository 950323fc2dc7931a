"""Skewness and excess kurtosis, and the divergence from a Gaussian that they cause.

*Divergence* of y from the Gaussian of its mean and variance v, Edgeworth's expansion in the
standardised cumulants γ = κ₃/v^{3/2} and κ = κ₄/v² (e.g. Comon 1994, eq. 3.8):

    KL ≈ γ²/12 + κ²/48;

leading order: for γ, κ well below 1. Falls as 1/n in the width n for skewed terms, as 1/n² for
symmetric ones.

*Estimates* from S independent draws, with the moments g₁ = m₃/m₂^{3/2} and g₂ = m₄/m₂² − 3 of the
sample, unbiased for a Gaussian (Joanes & Gill 1998):

    G₁ = g₁ √(S(S−1))/(S−2),    G₂ = (S−1)/((S−2)(S−3)) · ((S+1) g₂ + 6),

    Var G₁ = 6S(S−1)/((S−2)(S+1)(S+3)) ≈ 6/S,    Var G₂ = 4(S²−1)/((S−3)(S+5)) · Var G₁ ≈ 24/S

for Gaussian y. Chance thus adds Var G₁/12 + Var G₂/48 ≈ 1/S nats of divergence.

*Chance*: the law of that divergence for S Gaussian draws is simulated (`by_chance`). The normal
approximations of g₁ and g₂ (D'Agostino & Pearson 1973) fail in the tail: for S = 200, p below 1e-5
was found 24 times too often, because large g₁ and g₂ come together. S times the divergence tends
to half of χ² with two degrees of freedom, from heavier tails. Beyond 200 draws, S/200 times the
divergence is looked up among those of 200, which makes small p too large: for S = 300, 1000, 5000
p ≤ 0.05 was found 1.02, 1.00, 0.94 times as often as nominal, p ≤ 0.001 0.8, 0.1, 0.0 times.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from refbnn.numerics.random.streams import stream
from refbnn.prediction.accumulation import CentralSums

_SIMULATED = 100_000
_MOST = 200  # draws of each
_NUMBERS = 1 << 20  # at a time


@dataclass(frozen=True, eq=False)
class NonGaussianity:
    """Skewness and excess kurtosis of every entry of an activation; 0 for a known entry."""

    skewness: np.ndarray
    kurtosis: np.ndarray

    @classmethod
    def from_cumulants(cls, third, fourth, var: np.ndarray) -> NonGaussianity:
        """Standardise cumulants κ₃ and κ₄ by a variance; 0 where that is 0."""
        random = var != 0.0
        v = np.where(random, var, 1.0)
        return cls(third / v**1.5, fourth / v**2).where(random)

    @classmethod
    def gaussian(cls, shape: tuple[int, ...]) -> NonGaussianity:
        """Return zeros of this shape."""
        return cls(np.zeros(shape), np.zeros(shape))

    def where(self, random: np.ndarray) -> NonGaussianity:
        """Keep the entries that are random; the others are 0."""
        return NonGaussianity(
            np.where(random, self.skewness, 0.0), np.where(random, self.kurtosis, 0.0)
        )

    @property
    def divergence(self) -> np.ndarray:
        """γ²/12 + κ²/48, nats."""
        return self.skewness**2 / 12.0 + self.kurtosis**2 / 48.0


def standard_errors(S: int) -> NonGaussianity:
    """Standard errors of G₁ and G₂ of S Gaussian draws; their divergence is what chance adds."""
    var = 6.0 * S * (S - 1) / ((S - 2) * (S + 1) * (S + 3))
    return NonGaussianity(np.sqrt(var), np.sqrt(4.0 * (S**2 - 1) / ((S - 3) * (S + 5)) * var))


def estimated(sums: CentralSums) -> NonGaussianity:
    """G₁ and G₂ of at least 4 draws, from sums to order 4; 0 where all draws are equal."""
    S, (m2, m3, m4) = sums.n, (total / sums.n for total in sums.sums)
    random = m2 != 0.0
    v = np.where(random, m2, 1.0)
    g1, g2 = m3 / v**1.5, m4 / v**2 - 3.0
    G1 = g1 * np.sqrt(S * (S - 1.0)) / (S - 2.0)
    G2 = (S - 1.0) / ((S - 2.0) * (S - 3.0)) * ((S + 1.0) * g2 + 6.0)
    return NonGaussianity(G1, G2).where(random)


@lru_cache(maxsize=2)
def by_chance(S: int) -> np.ndarray:
    """Divergences G₁²/12 + G₂²/48 of 100,000 sets of S Gaussian draws, ascending."""
    rng = stream(0, "by chance")
    parts = []
    size = max(1, _NUMBERS // S)
    for start in range(0, _SIMULATED, size):
        z = rng.standard_normal((S, min(size, _SIMULATED - start)))
        parts.append(estimated(CentralSums.of(z, 4)).divergence)
    return np.sort(np.concatenate(parts))


def p_values(divergence: np.ndarray, S: int) -> np.ndarray:
    """P(at least this divergence by chance), at least 1e-5 (Davison & Hinkley 1997, eq. 4.11)."""
    simulated = min(S, _MOST)
    chance = by_chance(simulated)
    above = len(chance) - np.searchsorted(chance, divergence * (S / simulated))
    return (1.0 + above) / (1.0 + len(chance))
