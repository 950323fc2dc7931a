"""Moments of the convolution against sampled weights and images."""

from __future__ import annotations

import numpy as np

from refbnn.layers.images import conv2d
from refbnn.layers.moments import Moments
from refbnn.layers.posterior import Posterior
from refbnn.noise import Law
from verification.check import Check, MomentEstimate, against_monte_carlo, blocks

_WEIGHT = (2, 2, 2, 2)  # O, C, K, L
_IMAGE = (2, 3, 3)  # C, H, W
_STRIDE, _PADDING = (1, 2), (0, 1)  # windows from the rows 0, 1 and the columns −1, 1


def check(label: str, law: Law, n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Mean and variance of every output, for random and for known images.

    Weights, biases and random pixels are all drawn from the law: the formula must hold for any.
    """
    weight = Posterior(rng.standard_normal(_WEIGHT), rng.uniform(0.1, 1.0, _WEIGHT))
    bias = Posterior(rng.standard_normal(_WEIGHT[0]), rng.uniform(0.1, 1.0, _WEIGHT[0]))
    x = Moments(rng.standard_normal((1, *_IMAGE)), rng.uniform(0.1, 2.0, (1, *_IMAGE)))
    arguments = weight, bias, _STRIDE, _PADDING, 1
    cases = {
        "random image": (x, conv2d.moments(x, *arguments)),
        "known image": (
            Moments(x.mean, np.zeros_like(x.var)),
            conv2d.moments_of_known(x.mean, *arguments),
        ),
    }
    return [
        _check_case(
            f"conv2d moments ({label}, {case})", law, moments, claim, weight, bias, n_samples, rng
        )
        for case, (moments, claim) in cases.items()
    ]


def _check_case(name, law, x, claim, weight, bias, n_samples, rng) -> Check:
    estimate = MomentEstimate(claim.mean)
    for size in blocks(n_samples):
        w = weight.mean + weight.scale * law.sample(rng, (size, *_WEIGHT))
        b = bias.mean + bias.scale * law.sample(rng, (size, _WEIGHT[0]))
        images = x.mean + np.sqrt(x.var) * law.sample(rng, (size, *_IMAGE))
        estimate.add(_outputs(images, w, b)[:, np.newaxis])
    mean_and_var, error = estimate.result()
    return against_monte_carlo(
        name,
        "mean and variance of each output against sampled products, summed one by one",
        np.stack([claim.mean, claim.var]),
        mean_and_var,
        error,
        n_samples,
    )


def _outputs(x, w, b):
    """One image and one set of weights a sample, (S, C, H, W) -> (S, O, OH, OW)."""
    (s, t), (p, q), (K, L) = _STRIDE, _PADDING, _WEIGHT[2:]
    around = np.pad(x, [(0, 0), (0, 0), (p, p), (q, q)])
    rows = range(0, around.shape[2] - K + 1, s)
    columns = range(0, around.shape[3] - L + 1, t)
    y = np.empty((len(x), _WEIGHT[0], len(rows), len(columns)))
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            window = around[:, :, top : top + K, left : left + L]
            y[:, :, i, j] = np.einsum("scab,socab->so", window, w) + b
    return y
