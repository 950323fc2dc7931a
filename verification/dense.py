"""Moments of the dense layer against sampled weights and inputs."""

from __future__ import annotations

import numpy as np

from refbnn.layers import dense
from refbnn.layers.moments import Moments
from refbnn.layers.posterior import Posterior
from refbnn.noise import Law
from verification.check import Check, MomentEstimate, against_monte_carlo, blocks

_IN, _OUT = 6, 4


def check(label: str, law: Law, n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Mean and variance of every output, for random and for known inputs.

    Weights, biases and random inputs are all drawn from the law: the formula must hold for any.
    """
    weight = Posterior(rng.standard_normal((_OUT, _IN)), rng.uniform(0.1, 1.0, (_OUT, _IN)))
    bias = Posterior(rng.standard_normal(_OUT), rng.uniform(0.1, 1.0, _OUT))
    x = Moments(rng.standard_normal((1, _IN)), rng.uniform(0.1, 2.0, (1, _IN)))
    cases = {
        "random input": (x, dense.moments(x, weight, bias)),
        "known input": (
            Moments(x.mean, np.zeros_like(x.var)),
            dense.moments_of_known(x.mean, weight, bias),
        ),
    }
    return [
        _check_case(
            f"dense moments ({label}, {case})", law, moments, claim, weight, bias, n_samples, rng
        )
        for case, (moments, claim) in cases.items()
    ]


def _check_case(name, law, x, claim, weight, bias, n_samples, rng) -> Check:
    estimate = MomentEstimate(claim.mean)
    for size in blocks(n_samples):
        w = weight.mean + weight.scale * law.sample(rng, (size, _OUT, _IN))
        b = bias.mean + bias.scale * law.sample(rng, (size, _OUT))
        inputs = x.mean + np.sqrt(x.var) * law.sample(rng, (size, 1, _IN))
        estimate.add(np.einsum("sbi,soi->sbo", inputs, w) + b[:, np.newaxis, :])
    mean_and_var, error = estimate.result()
    return against_monte_carlo(
        name,
        "mean and variance of each output against sampled products, summed one by one",
        np.stack([claim.mean, claim.var]),
        mean_and_var,
        error,
        n_samples,
    )
