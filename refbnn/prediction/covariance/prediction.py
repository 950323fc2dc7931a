"""Prediction from correlated Gaussian logits: samples with common random numbers.

z ↦ m + F z with F Fᵀ = Σ and the same standard normal z for every input. F = V √Λ from the
eigenvectors and eigenvalues of Σ; eigenvalues below 0 by rounding count as 0. (A Cholesky factor
would do where Σ is positive definite; a network whose last weights are known has a Σ that is not.)
The softmax does not see what all logits share, so that of Σ only Var(z_c − z_d) matters.
"""

from __future__ import annotations

import numpy as np

from refbnn.prediction.covariance.propagation import JointMoments
from refbnn.prediction.result import Prediction, from_logit_samples

_NUMBERS = 1 << 20  # drawn at a time, to bound their memory


def from_joint(logits: JointMoments, n_samples: int, rng: np.random.Generator) -> Prediction:
    """Prediction from the joint moments of B vectors of C logits."""
    z = rng.standard_normal((n_samples, 1, logits.mean.shape[1]))
    probabilities, aleatoric = np.empty(logits.mean.shape), np.empty(len(logits.mean))
    size = max(1, _NUMBERS // z.size)
    for start in range(0, len(logits.mean), size):
        rows = slice(start, start + size)
        samples = logits.mean[rows] + (factor(logits.cov[rows]) @ z[..., np.newaxis])[..., 0]
        block = from_logit_samples(
            samples, JointMoments(logits.mean[rows], logits.cov[rows]).marginal
        )
        probabilities[rows], aleatoric[rows] = block.probabilities, block.aleatoric
    return Prediction(logits.marginal, probabilities, aleatoric)


def factor(cov: np.ndarray) -> np.ndarray:
    """F with F Fᵀ = cov, (..., n, n)."""
    value, vector = np.linalg.eigh(cov)
    return vector * np.sqrt(np.maximum(value, 0.0))[..., np.newaxis, :]
