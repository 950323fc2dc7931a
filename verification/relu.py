"""Moments of the rectified Gaussian, compared with rectified Gaussian samples.

Hypothesis: mean and variance of max(0, x), x ~ N(m, s²), are those that `ReLU.moments` returns.
Estimator, sample size and error model: see `verification.check`.
"""

from __future__ import annotations

import numpy as np

from refbnn.layers import ReLU
from refbnn.layers.moments import Moments
from verification.check import Check, of_layers

# At a standardised mean of −2 one sample in 44 is positive. Further out too few are positive for a
# normal z-score; there the tests compare with mpmath.
_MEAN = np.array([-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 5.0])
_SCALE = np.array([0.1, 1.0, 10.0])


def check(n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check mean and variance over a grid of means and scales."""
    scale, a = np.meshgrid(_SCALE, _MEAN)
    layers = {"relu moments (Gaussian input)": ReLU()}
    method = "mean and variance of max(0, x) against samples, mean/scale from −2 to 5"
    return of_layers(layers, Moments(a * scale, scale**2), method, n_samples, rng)
