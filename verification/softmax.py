"""Softmax means and entropies of Gaussian logits: one-dimensional integrals against draws."""

from __future__ import annotations

import numpy as np
from scipy.special import entr, softmax

from refbnn.layers.moments import Moments
from refbnn.prediction.softmax import by_quadrature
from verification.check import Check, MomentEstimate, against_monte_carlo, blocks

# Spreads of every kind of lattice, and beyond; means that leave every class some probability.
_SPREADS = np.array([0.05, 0.1, 0.25, 0.6, 2.0, 8.0])
_CLASSES = (2, 10)


def check(n_samples: int, rng: np.random.Generator) -> list[Check]:
    """E[p] and E[H] for rows of one spread, and one row of all of them."""
    return [_check(n_classes, n_samples, rng) for n_classes in _CLASSES]


def _check(n_classes: int, n_samples: int, rng: np.random.Generator) -> Check:
    spread = np.repeat(_SPREADS[:, np.newaxis], n_classes, axis=1)
    mixed = np.resize(_SPREADS, n_classes)
    spread = np.vstack([spread, mixed, mixed[::-1]])
    mean = np.resize([0.0, 1.0, -1.0, 0.5], spread.shape)
    found = by_quadrature(Moments(mean, spread**2))
    claim = np.column_stack([found.probabilities, found.aleatoric])
    estimate = MomentEstimate(claim)
    for size in blocks(n_samples):
        p = softmax(mean + spread * rng.standard_normal((size, *spread.shape)), axis=-1)
        entropy = entr(p).sum(axis=-1, keepdims=True)
        estimate.add(np.concatenate([p, entropy], axis=-1))
    mean_and_var, error = estimate.result()
    return against_monte_carlo(
        f"softmax of Gaussian logits, {n_classes} classes",
        "mean and mean entropy of the softmax by quadrature against drawn logits, spreads "
        f"{_SPREADS[0]:g} to {_SPREADS[-1]:g}",
        claim,
        mean_and_var[0],
        error[0],
        n_samples,
    )
