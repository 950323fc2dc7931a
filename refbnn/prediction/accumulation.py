"""Statistics of samples, accumulated in blocks: memory does not grow with the number of samples.

Formula
-------
Central sums M_p = Σ_s (x_s − x̄)^p of two sets A and B of samples, n = n_A + n_B, δ = x̄_B − x̄_A.
The mean of A differs from the common mean x̄ = x̄_A + δ n_B/n by a = −δ n_B/n, the mean of B by
b = δ n_A/n. By the binomial theorem, with M_0 the number of samples and M_1 = 0,

    M_p = Σ_k C(p, k) (a^k M_{p−k}^A + b^k M_{p−k}^B)

(Pébay 2008, eq. 2.1; p = 2: Chan, Golub & LeVeque 1979). Nothing large cancels, as it does in
Σx² − n x̄²: the relative error of M_2 is of the order of rounding times the number of blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np

from refbnn.layers.moments import Moments
from refbnn.prediction.result import Prediction, TargetPrediction, both_logits, softmax_sums


@dataclass(frozen=True, eq=False)
class CentralSums:
    """Number of samples of an array, their mean, and their central sums (M_2, M_3, ...)."""

    n: int
    mean: np.ndarray
    sums: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, samples: np.ndarray, order: int) -> CentralSums:
        """Sum samples (S, ...), S at least 1, up to M_order, order at least 2."""
        mean = samples.mean(axis=0)
        d = samples - mean
        power, sums = d, []
        for _ in range(2, order + 1):
            power = power * d
            sums.append(power.sum(axis=0))
        return cls(len(samples), mean, tuple(sums))

    def __add__(self, other: CentralSums) -> CentralSums:
        """Combine two sets of samples."""
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


@dataclass(frozen=True, eq=False)
class OutputSums:
    """Sums over samples of a network's outputs, from which a prediction follows.

    Parameters
    ----------
    central : CentralSums
        Logits (B, C), or the means (B, D) of targets.
    plain : tuple of ndarray
        Classes: Σ_s p_s (B, C) and Σ_s H(p_s) (B,) in nats. Targets: Σ_s exp t_s (B, D), 0 without
        log variances t.
    """

    central: CentralSums
    plain: tuple[np.ndarray, ...]

    @classmethod
    def of_classes(cls, samples: np.ndarray) -> OutputSums:
        """Sum samples of logits (S, B, C), or of the one logit of two classes, (S, B, 1)."""
        samples = both_logits(samples)
        return cls(CentralSums.of(samples, 2), softmax_sums(samples))

    @classmethod
    def of_targets(cls, samples: np.ndarray, n_targets: int) -> OutputSums:
        """Sum samples of D means, or of D means and D log variances: (S, B, D or 2D)."""
        m, t = samples[..., :n_targets], samples[..., n_targets:]
        variances = np.exp(t).sum(axis=0) if t.size else np.zeros(m.shape[1:])
        return cls(CentralSums.of(m, 2), (variances,))

    def __add__(self, other: OutputSums) -> OutputSums:
        """Sum both sets of samples."""
        plain = tuple(a + b for a, b in zip(self.plain, other.plain, strict=True))
        return OutputSums(self.central + other.central, plain)

    @property
    def classes(self) -> Prediction:
        """Prediction of classes from at least two samples."""
        n = self.central.n
        return Prediction(self.central.moments, *(total / n for total in self.plain))

    @property
    def targets(self) -> TargetPrediction:
        """Prediction of targets from at least two samples."""
        m = self.central.moments
        return TargetPrediction(m.mean, m.var, self.plain[0] / self.central.n)
