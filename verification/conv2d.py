"""Moments of the convolution, compared with sampled weights and images.

Hypothesis: mean and variance of every output pixel are those of `refbnn.layers.images.conv2d`, for
random and for known images and for any law: weights, biases and random pixels are all drawn from
it. Estimator, sample size and error model: see `verification.check`.
"""

from __future__ import annotations

import numpy as np

from refbnn.layers.images import conv2d
from refbnn.layers.moments import Moments
from refbnn.layers.posterior import Posterior
from refbnn.noise import Law
from verification.check import Check, of_known_and_random

_WEIGHT = (2, 2, 2, 2)  # O, C, K, L
_IMAGE = (2, 3, 3)  # C, H, W
_STRIDE, _PADDING = (1, 2), (0, 1)  # windows begin in rows 0, 1 and columns −1, 1


def check(label: str, law: Law, n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check mean and variance of every output, for random and for known images."""
    weight = Posterior(rng.standard_normal(_WEIGHT), rng.uniform(0.1, 1.0, _WEIGHT))
    bias = Posterior(rng.standard_normal(_WEIGHT[0]), rng.uniform(0.1, 1.0, _WEIGHT[0]))
    x = Moments(rng.standard_normal((1, *_IMAGE)), rng.uniform(0.1, 2.0, (1, *_IMAGE)))
    arguments = weight, bias, _STRIDE, _PADDING, 1
    claims = {
        "random image": conv2d.moments(x, *arguments),
        "known image": conv2d.moments_of_known(x.mean, *arguments),
    }

    def outputs(x: Moments, size: int) -> np.ndarray:
        w = weight.mean + weight.scale * law.sample(rng, (size, *_WEIGHT))
        b = bias.mean + bias.scale * law.sample(rng, (size, _WEIGHT[0]))
        images = x.mean + np.sqrt(x.var) * law.sample(rng, (size, *_IMAGE))
        return convolved(images, w, b, _STRIDE, _PADDING)[:, np.newaxis]

    return of_known_and_random(f"conv2d moments ({label}", claims, x, outputs, n_samples)


def convolved(x, w, b, stride, padding, groups=1):
    """Convolve one image with one set of weights a sample, (S, C, H, W) -> (S, O, OH, OW)."""
    (s, t), (p, q), (K, L) = stride, padding, w.shape[-2:]
    around = np.pad(x, [(0, 0), (0, 0), (p, p), (q, q)])
    rows = range(0, around.shape[2] - K + 1, s)
    columns = range(0, around.shape[3] - L + 1, t)
    y = np.empty((len(w), w.shape[1], len(rows), len(columns)))
    for of_inputs, of_outputs in zip(
        _parts(x.shape[1], groups), _parts(y.shape[1], groups), strict=True
    ):
        kernel = w[:, of_outputs]
        for i, top in enumerate(rows):
            for j, left in enumerate(columns):
                window = around[:, of_inputs, top : top + K, left : left + L]
                y[:, of_outputs, i, j] = np.einsum("scab,socab->so", window, kernel)
    return y + b[:, :, np.newaxis, np.newaxis]


def _parts(channels: int, groups: int) -> list[slice]:
    size = channels // groups
    return [slice(start, start + size) for start in range(0, channels, size)]
