"""Prediction from correlated Gaussian logits: samples with common random numbers.

z ↦ m + F z with F Fᵀ = Σ and the same standard normal z for every input. F = V √Λ comes from the
eigenvectors and eigenvalues of Σ; eigenvalues below 0 by rounding count as 0. (A Cholesky factor
needs a positive definite Σ, which a network whose last weights are known does not have.)
"""

from __future__ import annotations

import numpy as np

from refbnn.layers.moments import JointMoments
from refbnn.prediction.result import Prediction, from_logit_draws

_NUMBERS = 1 << 20  # drawn at a time, to bound their memory


def from_joint(logits: JointMoments, n_samples: int, rng: np.random.Generator) -> Prediction:
    """Prediction from the joint moments of B vectors of C logits."""
    z = rng.standard_normal((n_samples, 1, logits.mean.shape[1]))

    def draws(rows: slice) -> np.ndarray:
        return logits.mean[rows] + (factor(logits.cov[rows]) @ z[..., np.newaxis])[..., 0]

    return from_logit_draws(logits.marginal, draws, max(1, _NUMBERS // z.size))


def factor(cov: np.ndarray) -> np.ndarray:
    """F with F Fᵀ = cov, (..., n, n)."""
    value, vector = np.linalg.eigh(cov)
    return vector * np.sqrt(np.maximum(value, 0.0))[..., np.newaxis, :]
