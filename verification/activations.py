"""Moments of the activations, compared with the activations of Gaussian samples.

Hypothesis: mean and variance of f(x), x ~ N(m, s²), are those that `moments` returns, for ReLU,
leaky ReLU, sigmoid, tanh, GELU and ELU. Estimator, sample size and error model: see
`verification.check`.
"""

from __future__ import annotations

import numpy as np

from refbnn.layers import ELU, GELU, LeakyReLU, ReLU, Sigmoid, Tanh
from refbnn.layers.activations.elementwise import Elementwise
from refbnn.layers.moments import Moments
from verification.check import Check, of_layers

# Standardised means for which sampling sees both sides of 0: at −2 one sample in 44 is positive.
# With fewer a z-score is not normal; tests compare the tails with mpmath.
_MEAN_RELU = np.array([-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 5.0])
_MEAN = np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0])
_SCALE = np.array([0.1, 1.0, 10.0])
LAYERS: tuple[Elementwise, ...] = (LeakyReLU(), Sigmoid(), Tanh(), GELU(), ELU())


def check_relu(n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check mean and variance of the rectified Gaussian over a grid of means and scales."""
    layers = {"relu moments (Gaussian input)": ReLU()}
    method = "mean and variance of max(0, x) against samples, mean/scale from −2 to 5"
    return of_layers(layers, _grid(_MEAN_RELU), method, n_samples, rng)


def check(n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check mean and variance over a grid of means and scales, for every other activation."""
    layers = {f"{type(layer).__name__} moments (Gaussian input)": layer for layer in LAYERS}
    method = "mean and variance against samples, mean/scale from −2 to 2, scale from 0.1 to 10"
    return of_layers(layers, _grid(_MEAN), method, n_samples, rng)


def _grid(mean: np.ndarray) -> Moments:
    scale, a = np.meshgrid(_SCALE, mean)
    return Moments(a * scale, scale**2)
