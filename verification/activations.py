"""Moments and gains of the activations, compared with the activations of Gaussian samples.

Hypothesis: mean and variance of f(x), x ~ N(m, s²), are those that `moments` returns, for ReLU,
leaky ReLU, sigmoid, tanh, GELU and ELU. The gain g of linearised propagation is Cov[x, f(x)]/s²
(which equals E[f′(x)], Stein 1981), and the own variance r is that of f(x) − g x. Estimators: the
means of (x − m)(f(x) − c)/s², whatever c, and of (f(x) − c − g (x − m))², for the claimed c = E[f]
and g, with half of the samples. Sample size and error model: see `verification.check`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import expit, ndtr

from refbnn.layers import ELU, GELU, LeakyReLU, ReLU, Sigmoid, Tanh
from refbnn.layers.activations.elementwise import Elementwise
from refbnn.layers.linearisation import own_variance
from refbnn.layers.moments import Moments
from verification.check import Check, of_expectations, of_layers

# Standardised means for which sampling sees both sides of 0: at −2 one sample in 44 is positive.
# With fewer a z-score is not normal; tests compare the tails with mpmath.
_MEAN_RELU = np.array([-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 5.0])
_MEAN = np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0])
_SCALE = np.array([0.1, 1.0, 10.0])
LAYERS: tuple[Elementwise, ...] = (LeakyReLU(), Sigmoid(), Tanh(), GELU(), ELU())
# f once more: checks of linearised propagation compare with no value that a layer computes.
VALUES: dict[Elementwise, Callable[[np.ndarray], np.ndarray]] = {
    ReLU(): lambda x: np.where(x > 0.0, x, 0.0),
    LeakyReLU(0.2): lambda x: np.where(x > 0.0, x, 0.2 * x),
    Sigmoid(): expit,
    Tanh(): np.tanh,
    GELU(): lambda x: x * ndtr(x),
    ELU(0.7): lambda x: np.where(x > 0.0, x, 0.7 * np.expm1(np.minimum(x, 0.0))),
}
_MEAN_GAIN = np.array([-1.0, 0.0, 1.5])


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


def check_gains(n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check gain and own variance over a grid of means and scales, for every activation."""
    return [_check_gain(layer, n_samples, rng) for layer in VALUES]


def _check_gain(layer: Elementwise, n_samples: int, rng: np.random.Generator) -> Check:
    x = _grid(_MEAN_GAIN)
    y, g = layer.propagated(x), layer.gain(x)
    r = own_variance(y.var, g, x.var)

    def draw(size: int) -> np.ndarray:
        z = rng.standard_normal((size, *x.shape))
        d = np.sqrt(x.var) * z
        f = VALUES[layer](x.mean + d) - y.mean
        return np.stack([f * (z / np.sqrt(x.var)), (f - g * d) ** 2], axis=1)

    return of_expectations(
        f"{layer!r} gain (Gaussian input)",
        "Cov[x, f]/s² and the variance of f − g x against samples",
        np.stack([g, r]),
        draw,
        max(2, n_samples // 2),
    )


def _grid(mean: np.ndarray) -> Moments:
    scale, a = np.meshgrid(_SCALE, mean)
    return Moments(a * scale, scale**2)
