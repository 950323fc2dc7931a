"""Statistics of samples a block at a time: memory does not grow with the number of samples.

Formula
-------
Central sums M_p = Σ_s (x_s − x̄)^p of two sets A and B of samples, n = n_A + n_B, δ = x̄_B − x̄_A.
About the common mean x̄ = x̄_A + δ n_B/n the samples of A lie off by a = −δ n_B/n, those of B by
b = δ n_A/n, and by the binomial theorem, with M_0 = their number and M_1 = 0,

    M_p = Σ_k C(p, k) (a^k M_{p−k}^A + b^k M_{p−k}^B)

(Pébay 2008, eq. 2.1; p = 2: Chan, Golub & LeVeque 1979). Nothing large cancels, as it does in
Σx² − n x̄²: the relative error of M_2 stays of the order of rounding times the number of blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np

from refbnn.layers.moments import Moments
from refbnn.prediction.result import Prediction, TargetPrediction, softmax_sums


@dataclass(frozen=True)
class CentralSums:
    """Number, mean and central sums of samples of an array (...).

    Parameters
    ----------
    n : int
    mean : (...)
    sums : tuple of (...)
        M_2, M_3 and so on.
    """

    n: int
    mean: np.ndarray
    sums: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, samples: np.ndarray, order: int) -> CentralSums:
        """Those of samples (S, ...), S at least 1, up to M_order, order at least 2."""
        mean = samples.mean(axis=0)
        d = samples - mean
        power, sums = d, []
        for _ in range(2, order + 1):
            power = power * d
            sums.append(power.sum(axis=0))
        return cls(len(samples), mean, tuple(sums))

    def __add__(self, other: CentralSums) -> CentralSums:
        """Those of both sets of samples."""
        n = self.n + other.n
        delta = other.mean - self.mean
        a, b = -delta * (other.n / n), delta * (self.n / n)
        sums = []
        for p in range(2, len(self.sums) + 2):
            total = self.n * a**p + other.n * b**p
            for k in range(p - 1):
                ours, theirs = self.sums[p - k - 2], other.sums[p - k - 2]
                total = total + comb(p, k) * (a**k * ours + b**k * theirs)
            sums.append(total)
        return CentralSums(n, self.mean - a, tuple(sums))

    @property
    def moments(self) -> Moments:
        """Mean and unbiased variance, of at least two samples."""
        return Moments(self.mean, self.sums[0] / (self.n - 1))


@dataclass(frozen=True)
class ClassSums:
    """What a `Prediction` takes of samples of logits (B, C).

    Parameters
    ----------
    logits : CentralSums of (B, C)
    probabilities : (B, C)
        Σ_s p_s.
    entropies : (B,)
        Σ_s H(p_s), nats.
    """

    logits: CentralSums
    probabilities: np.ndarray
    entropies: np.ndarray

    @classmethod
    def of(cls, samples: np.ndarray) -> ClassSums:
        """Those of samples (S, B, C)."""
        return cls(CentralSums.of(samples, 2), *softmax_sums(samples))

    def __add__(self, other: ClassSums) -> ClassSums:
        """Those of both sets of samples."""
        return ClassSums(
            self.logits + other.logits,
            self.probabilities + other.probabilities,
            self.entropies + other.entropies,
        )

    @property
    def prediction(self) -> Prediction:
        """Of at least two samples."""
        n = self.logits.n
        return Prediction(self.logits.moments, self.probabilities / n, self.entropies / n)


@dataclass(frozen=True)
class TargetSums:
    """What a `TargetPrediction` takes of samples of outputs: D means, or these and log variances.

    Parameters
    ----------
    means : CentralSums of (B, D)
    variances : (B, D)
        Σ_s exp t_s; 0 without log variances.
    """

    means: CentralSums
    variances: np.ndarray

    @classmethod
    def of(cls, samples: np.ndarray, n_targets: int) -> TargetSums:
        """Those of samples (S, B, D or 2D)."""
        m, t = samples[..., :n_targets], samples[..., n_targets:]
        variances = np.exp(t).sum(axis=0) if t.size else np.zeros(m.shape[1:])
        return cls(CentralSums.of(m, 2), variances)

    def __add__(self, other: TargetSums) -> TargetSums:
        """Those of both sets of samples."""
        return TargetSums(self.means + other.means, self.variances + other.variances)

    @property
    def prediction(self) -> TargetPrediction:
        """Of at least two samples."""
        m = self.means.moments
        return TargetPrediction(m.mean, m.var, self.variances / self.means.n)
