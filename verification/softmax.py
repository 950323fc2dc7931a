"""Softmax means and entropies of Gaussian logits, compared with drawn logits.

Hypothesis: E[p_c] and E[H(p)], p the softmax of independent Gaussian logits, are the
one-dimensional integrals of `refbnn.prediction.softmax.by_quadrature`. Estimator, sample size and
error model: see `verification.check`.
"""

from __future__ import annotations

import numpy as np
from scipy.special import entr, softmax

from refbnn.layers.moments import Moments
from refbnn.prediction.softmax import by_quadrature
from verification.check import Check, of_expectations

# One spread in the range of every lattice, and one beyond. The means below leave every class some
# probability.
_SPREADS = np.array([0.05, 0.1, 0.25, 0.6, 2.0, 8.0])
_CLASSES = (2, 10)


def check(n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check E[p] and E[H]: rows of one spread each, and two rows that mix all of them."""
    return [_check(n_classes, n_samples, rng) for n_classes in _CLASSES]


def _check(n_classes: int, n_samples: int, rng: np.random.Generator) -> Check:
    spread = np.repeat(_SPREADS[:, np.newaxis], n_classes, axis=1)
    mixed = np.resize(_SPREADS, n_classes)
    spread = np.vstack([spread, mixed, mixed[::-1]])
    mean = np.resize([0.0, 1.0, -1.0, 0.5], spread.shape)
    found = by_quadrature(Moments(mean, spread**2))

    def draw(size: int) -> np.ndarray:
        p = softmax(mean + spread * rng.standard_normal((size, *spread.shape)), axis=-1)
        return np.concatenate([p, entr(p).sum(axis=-1, keepdims=True)], axis=-1)

    return of_expectations(
        f"softmax of Gaussian logits, {n_classes} classes",
        "mean and mean entropy of the softmax by quadrature against drawn logits, spreads "
        f"{_SPREADS[0]:g} to {_SPREADS[-1]:g}",
        np.column_stack([found.probabilities, found.aleatoric]),
        draw,
        n_samples,
    )
