"""Softmax statistics of correlated Gaussian logits by the table of points, against drawn logits.

Hypothesis: E[p_c], E[H(p)] and the mutual information H(E[p]) − E[H(p)], p the softmax of jointly
Gaussian logits, lie within the errors that `refbnn.prediction.softmax.table` states from those of
`by_table`: for 3, 10 and 100 classes the greatest error of probabilities and that of the mutual
information, which the mean entropy is held to as well. Two classes are exact.

Logits are ℓ = m + R z with z of N(0, I), so that their covariance is R Rᵀ; means are N(0, 4). R has
as many columns as rows, or one, or three of which one moves all logits alike: the last two
covariances are singular. Deviations are 1.5 on average, beside what all logits share; stated errors
are for 0.4 to 3.3, and grow with them. Means and R stay the same whatever `--seed`, or other errors
would be claimed about each time.

Estimator: means of p and H over draws of z, and H of the mean of p. Error model: normal; the
mutual information's standard error is that of Σ_c p_c log(1/q_c) − H(p), q the claimed
probabilities (to first order of p̄ − q). The limit of `verification.check` times the standard error
is added to the stated error.
"""

from __future__ import annotations

import numpy as np
from scipy.special import entr
from scipy.stats import norm

from refbnn.layers.moments import JointMoments
from refbnn.numerics.random.streams import stream
from refbnn.prediction.softmax import by_table
from verification.check import FALSE_ALARM, Check, MomentEstimate, blocks

# Greatest errors stated of probabilities, and of the mutual information in nats, by classes.
STATED = {2: (1e-12, 1e-12), 3: (4.4e-4, 1.0e-3), 10: (1.9e-3, 6.7e-3), 100: (4.1e-3, 1.4e-2)}
_SPREAD, _SHARED = 1.5, 3.0


def logits(n_classes: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Means (3, K), and R (K, columns) of each row."""
    rng = stream(0, f"softmax table {n_classes}")
    roots = [
        _SPREAD * rng.standard_normal((n_classes, columns)) / np.sqrt(columns)
        for columns in (n_classes, 1, 2)
    ]
    roots[2] = np.column_stack([np.full(n_classes, _SHARED), roots[2]])
    return 2.0 * rng.standard_normal((3, n_classes)), roots


def check(n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check every number of classes."""
    return [_check(n_classes, n_samples, rng) for n_classes in STATED]


def _check(n_classes: int, n_samples: int, rng: np.random.Generator) -> Check:
    mean, roots = logits(n_classes)
    found = by_table(JointMoments(mean, np.array([R @ R.T for R in roots])))
    claimed = np.column_stack([found.probabilities, found.aleatoric, found.mutual_information])
    results = [
        _estimate(m, R, q, n_samples, rng)
        for m, R, q in zip(mean, roots, found.probabilities, strict=True)
    ]
    estimate, error = (np.array(part) for part in zip(*results, strict=True))
    of_probability, of_entropy = STATED[n_classes]
    band = np.append(np.full(n_classes, of_probability), [of_entropy, of_entropy])
    limit = norm.isf(FALSE_ALARM / (2 * claimed.size))
    shares = np.abs(claimed - estimate) / (band + limit * error)
    at = np.unravel_index(shares.argmax(), shares.shape)  # NaN counts as greatest
    return Check(
        name=f"softmax of correlated logits, {n_classes} classes",
        method="probabilities, mean entropy and mutual information by the table of points against "
        "drawn logits, within the stated errors plus sampling error",
        statistic=float(shares[at]),
        limit=1.0,
        unit="of allowed error",
        n_compared=claimed.size,
        n_samples=n_samples,
        worst=(float(claimed[at]), float(estimate[at]), float(error[at])),
    )


def _estimate(
    mean: np.ndarray, root: np.ndarray, q: np.ndarray, n_samples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, mean entropy and mutual information by draws, and their standard errors."""
    surprise = -np.log(q)
    samples = MomentEstimate(np.append(q, [0.0, 0.0]))
    for size in blocks(n_samples, 100_000 // len(q)):
        below = mean + rng.standard_normal((size, root.shape[1])) @ root.T
        below -= below.max(axis=1, keepdims=True)
        p = np.exp(below)
        total = p.sum(axis=1, keepdims=True)
        p /= total
        H = np.log(total[:, 0]) - np.einsum("sc,sc->s", p, below)
        samples.add(np.column_stack([p, H, p @ surprise - H]))
    (estimate, _), (error, _) = samples.result()
    estimate[-1] = entr(estimate[:-2]).sum() - estimate[-2]
    return estimate, error
