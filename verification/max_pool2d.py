"""Moments of max pooling against pooled Gaussian samples."""

from __future__ import annotations

import numpy as np

from refbnn.layers import MaxPool2d
from refbnn.layers.moments import Moments
from verification.check import Check, of_layers

# Windows of four apart; and of nine that overlap and reach into the padding.
_LAYERS = (MaxPool2d(2), MaxPool2d(3, 2, 1))
_IMAGE = (1, 4, 4)


def check(n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Mean and variance of every window, for an image of random means and scales and one of ties.

    Only the default method, which is exact, is held against samples: Clark's approximations differ
    from them by some per cent, as they should.
    """
    scale = np.stack([rng.uniform(0.2, 2.0, _IMAGE), np.ones(_IMAGE)])
    x = Moments(np.stack([rng.standard_normal(_IMAGE), np.zeros(_IMAGE)]), scale**2)
    layers = {f"max pooling moments, kernel {layer.kernel_size}": layer for layer in _LAYERS}
    method = "mean and variance of the greatest entry against samples"
    return of_layers(layers, x, method, n_samples, rng)
