"""Correlated weights of one layer: a full covariance beside the means and scales.

Formulas
--------
The n weights of the layer, in one row, are θ = µ + σ ∘ (R z), z independent values of the law.
R = D⁻¹(I + A), A strictly lower triangular and free, D the diagonal matrix that makes every row of
R of length 1: D_ii = (1 + Σ_j A_ij²)^½. Then

    Cov θ = diag(σ) R Rᵀ diag(σ),

R Rᵀ is a correlation matrix (any one: R is its Cholesky factor), σ stays the standard deviation of
each weight, and A = 0 is the mean field.

*KL.* The map z → θ has the Jacobian Π σ_i R_ii, R_ii = 1/D_ii, so the entropy of θ is
n·H(law) + Σ log σ_i − Σ log D_ii. For the Gaussian prior, E[log p] depends on µ_i and σ_i alone:

    KL = KL of the mean field + ½ Σ_i log(1 + Σ_j A_ij²),      for every law.

For a Gaussian law each θ_i is Gaussian, and the same holds for every prior. Otherwise the marginals
of R z are no longer of the law's shape, and KL is refused.

*Gradients.* With w = (I + A)z, u = w/D and g_u = ∂L/∂u:

    ∂L/∂A_ij = g_u,i (z_j − u_i A_ij/D_i)/D_i,   j < i   (summed over samples),
    ∂KL/∂A_ij = A_ij/D_i².

Cost: n² numbers and n² operations a sample; n up to 4096. For a Gaussian law this is the usual
full-covariance Gaussian posterior; with other laws one can measure whether the law's shape still
matters once weights are correlated.
"""

from __future__ import annotations

import numpy as np

from refbnn.errors import InputError
from refbnn.noise.families.gaussian import Gaussian
from refbnn.noise.law import Law
from refbnn.prior import GaussianPrior, Prior

MOST_WEIGHTS = 4096


def check(law: Law, prior: Prior) -> None:
    """InputError unless the law or the prior is Gaussian: else there is no formula for KL."""
    if not isinstance(law, Gaussian) and not isinstance(prior, GaussianPrior):
        raise InputError(
            f"correlated weights of law {type(law).__name__} with {type(prior).__name__}: KL has "
            "no formula; expected a Gaussian law or a Gaussian prior"
        )


def uncorrelated(n: int) -> np.ndarray:
    """A = 0 for n weights; InputError above 4096, where A would not fit memory well."""
    if n > MOST_WEIGHTS:
        raise InputError(f"correlated layer of {n} weights; expected at most {MOST_WEIGHTS}")
    return np.zeros((n, n))


def mix(A: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The mixed noise u = R z; A (n, n), z (..., n) -> (..., n)."""
    return (z + z @ A.T) / _row_lengths(A)


def mix_backward(A: np.ndarray, z: np.ndarray, u: np.ndarray, grad_u: np.ndarray) -> np.ndarray:
    """∂L/∂A (n, n) from z, u = mix(A, z) and ∂L/∂u, all (S, n)."""
    D = _row_lengths(A)
    g = grad_u / D
    return np.tril(g.T @ z - ((g * u).sum(axis=0) / D)[:, np.newaxis] * A, -1)


def divergence(A: np.ndarray) -> tuple[float, np.ndarray]:
    """Contribution of the correlation to KL, in nats, and its gradient in A."""
    square = 1 + (A * A).sum(axis=1)
    return 0.5 * float(np.log(square).sum(dtype=float)), A / square[:, np.newaxis]


def _row_lengths(A: np.ndarray) -> np.ndarray:
    return np.sqrt(1 + (A * A).sum(axis=1))
