"""Moments of max pooling, compared with pooled Gaussian samples.

Hypothesis: mean and variance of the maximum of independent Gaussian pixels are those that
`MaxPool2d.moments` returns by its default method, which is exact. Clark's approximations are not
checked: they differ from the truth by some per cent by design. Estimator, sample size and error
model: see `verification.check`.
"""

from __future__ import annotations

import numpy as np

from refbnn.layers import MaxPool2d
from refbnn.layers.moments import Moments
from verification.check import Check, of_layers

# Separate windows of four pixels; overlapping windows of nine that reach into the padding.
_LAYERS = (MaxPool2d(2), MaxPool2d(3, 2, 1))
_IMAGE = (1, 4, 4)


def check(n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check every window of two images: random means and scales, and equal ones (ties)."""
    scale = np.stack([rng.uniform(0.2, 2.0, _IMAGE), np.ones(_IMAGE)])
    x = Moments(np.stack([rng.standard_normal(_IMAGE), np.zeros(_IMAGE)]), scale**2)
    layers = {f"max pooling moments, kernel {layer.kernel_size}": layer for layer in _LAYERS}
    method = "mean and variance of the greatest entry against samples"
    return of_layers(layers, x, method, n_samples, rng)
