"""Moments of the dense layer, compared with sampled weights and inputs.

Hypothesis: mean and variance of W x + b are those of `refbnn.layers.dense`, for random and for
known inputs and for any law: weights, biases and random inputs are all drawn from it. Estimator,
sample size and error model: see `verification.check`.
"""

from __future__ import annotations

import numpy as np

from refbnn.layers import dense
from refbnn.layers.moments import Moments
from refbnn.layers.posterior import Posterior
from refbnn.noise import Law
from verification.check import Check, of_known_and_random

_IN, _OUT = 6, 4


def check(label: str, law: Law, n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check mean and variance of every output, for random and for known inputs."""
    weight = Posterior(rng.standard_normal((_OUT, _IN)), rng.uniform(0.1, 1.0, (_OUT, _IN)))
    bias = Posterior(rng.standard_normal(_OUT), rng.uniform(0.1, 1.0, _OUT))
    x = Moments(rng.standard_normal((1, _IN)), rng.uniform(0.1, 2.0, (1, _IN)))
    claims = {
        "random input": dense.moments(x, weight, bias),
        "known input": dense.moments_of_known(x.mean, weight, bias),
    }

    def outputs(x: Moments, size: int) -> np.ndarray:
        w = weight.mean + weight.scale * law.sample(rng, (size, _OUT, _IN))
        b = bias.mean + bias.scale * law.sample(rng, (size, _OUT))
        inputs = x.mean + np.sqrt(x.var) * law.sample(rng, (size, 1, _IN))
        return np.einsum("sbi,soi->sbo", inputs, w) + b[:, np.newaxis, :]

    return of_known_and_random(f"dense moments ({label}", claims, x, outputs, n_samples)
