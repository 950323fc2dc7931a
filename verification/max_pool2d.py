"""Moments of max pooling, compared with pooled Gaussian samples.

Hypotheses, for Gaussian pixels:

* Independent: mean and variance of the maximum are those that `MaxPool2d.moments` returns for
  inputs that come from no convolution, by quadrature; the frequency with which an entry is the
  greatest is its weight π (`refbnn.numerics.gaussian_maximum.weights`).
* Two dependent ones: mean, variance and π are those of `refbnn.numerics.correlated_maximum`, and so
  is the variance of max − πᵀx, the own variance of linearised propagation.

All are exact. Clark's approximations for more entries are not checked: they differ from the truth
by some per cent by design. Estimator, sample size and error model: see `verification.check`.
"""

from __future__ import annotations

import numpy as np

from refbnn.layers import MaxPool2d
from refbnn.layers.moments import Moments
from refbnn.numerics import correlated_maximum, gaussian_maximum
from verification.check import Check, of_expectations, of_layers

# Separate windows of four pixels; overlapping windows of nine that reach into the padding.
_LAYERS = (MaxPool2d(2), MaxPool2d(3, 2, 1))
_IMAGE = (1, 4, 4)
# Two Gaussians: correlation, difference of the means, ratio of the deviations.
_PAIRS = np.array([[-0.9, 0.5, 1.0], [0.0, 1.0, 0.5], [0.5, 0.0, 2.0], [0.95, 0.2, 1.0]])


def check(n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check every window of two images: random means and scales, and equal ones (ties)."""
    scale = np.stack([rng.uniform(0.2, 2.0, _IMAGE), np.ones(_IMAGE)])
    x = Moments(np.stack([rng.standard_normal(_IMAGE), np.zeros(_IMAGE)]), scale**2)
    layers = {f"max pooling moments, kernel {layer.kernel_size}": layer for layer in _LAYERS}
    method = "mean and variance of the greatest entry against samples"
    return [
        *of_layers(layers, x, method, n_samples, rng),
        _check_weights(n_samples, rng),
        _check_pair(n_samples, rng),
    ]


def _check_weights(n_samples: int, rng: np.random.Generator) -> Check:
    """Frequency of being the greatest: random rows of nine, ties, known and absent entries.

    No probability is far below 1 in 100, or a z-score would not be normal.
    """
    mean = np.vstack([rng.uniform(-0.5, 0.5, (2, 9)), np.zeros((2, 9))])
    scale = np.vstack([rng.uniform(0.7, 1.4, (2, 9)), np.ones((2, 9))])
    mean[3, :4], scale[3, :4] = [0.7, -np.inf, -np.inf, 0.5], [0.0, 0.0, 0.0, 0.7]

    def draw(size: int) -> np.ndarray:
        x = mean + scale * rng.standard_normal((size, *mean.shape))
        return (x == x.max(axis=-1, keepdims=True)).astype(float)

    return of_expectations(
        "max pooling weights, independent entries",
        "probability of each entry to be the greatest against frequencies",
        gaussian_maximum.weights(mean, scale**2),
        draw,
        n_samples,
    )


def _check_pair(n_samples: int, rng: np.random.Generator) -> Check:
    rho, difference, ratio = _PAIRS.T
    means = np.stack([difference, np.zeros(len(rho))], axis=-1)
    covs = np.array([[[1.0, r * q], [r * q, q * q]] for r, q in zip(rho, ratio, strict=True)])
    mean, var, weights = correlated_maximum.maximum(means, covs)
    own = var - np.einsum("ni,nij,nj->n", weights, covs, weights)

    def draw(size: int) -> np.ndarray:
        z, independent = rng.standard_normal((2, size, len(rho)))
        first = difference + z
        second = ratio * (rho * z + np.sqrt(1.0 - rho**2) * independent)
        greatest = np.where(first > second, first, second)
        away = greatest - mean
        rest = away - weights[:, 0] * (first - difference) - weights[:, 1] * second
        return np.stack([greatest, away**2, first > second, rest**2], axis=1)

    return of_expectations(
        "max pooling moments and weights, two dependent entries",
        "mean, variance, probability of the first, and variance of max − πᵀx against samples",
        np.stack([mean, var, weights[:, 0], own]),
        draw,
        n_samples,
    )
