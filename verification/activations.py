"""Moments of the activations against the activations of Gaussian samples."""

from __future__ import annotations

import numpy as np

from refbnn.layers import ELU, GELU, Layer, LeakyReLU, Sigmoid, Tanh
from refbnn.moments import Moments
from verification.check import Check, MomentEstimate, against_monte_carlo, blocks

# Standardised means that sampling can see, as for the ReLU; the tails are held against mpmath.
_MEAN = np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0])
_SCALE = np.array([0.1, 1.0, 10.0])


def check(n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Mean and variance over a grid of means and scales, for every activation."""
    scale, a = np.meshgrid(_SCALE, _MEAN)
    x = Moments(a * scale, scale**2)
    layers: tuple[Layer, ...] = (LeakyReLU(), Sigmoid(), Tanh(), GELU(), ELU())
    claims = [layer.moments(x, {}) for layer in layers]
    estimates = [MomentEstimate(claim.mean) for claim in claims]
    for size in blocks(n_samples):
        samples = x.mean + scale * rng.standard_normal((size, *scale.shape))
        for layer, estimate in zip(layers, estimates, strict=True):
            estimate.add(layer.forward(samples, {}))
    checks = []
    for layer, claim, estimate in zip(layers, claims, estimates, strict=True):
        mean_and_var, error = estimate.result()
        checks.append(
            against_monte_carlo(
                f"{type(layer).__name__} moments (Gaussian input)",
                "mean and variance against samples, mean/scale from −2 to 2, scale from 0.1 to 10",
                np.stack([claim.mean, claim.var]),
                mean_and_var,
                error,
                n_samples,
            )
        )
    return checks
