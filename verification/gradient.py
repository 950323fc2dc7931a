"""The pathwise gradient of the loss, compared with finite differences of the loss itself.

Hypothesis: both have the same expectation, the derivative of the loss in (µ, σ) along a direction.
Estimators: Monte Carlo means over independent samples. The differences use forward passes only,
with the same noise z at both ends; their truncation error is far below the standard error. Sample
size: n split into 100 blocks for each. Error model: the standard error of the difference of both
means, from the spread of the blocks' means; level as in `verification.check`.
"""

from __future__ import annotations

import numpy as np

from refbnn.layers import Dense, ReLU
from refbnn.layers.posterior import Posterior
from refbnn.network.network import Network
from refbnn.noise import Law
from refbnn.training.elbo import loss_and_gradient
from refbnn.training.kl import kl
from refbnn.training.likelihood import Categorical
from refbnn.training.options import Options
from verification.check import Check, against_monte_carlo

_N_DATA = 20  # more than the two examples, so that the scaling is checked too
_DIRECTIONS = 4
_BLOCKS = 100
_STEP = 1e-4  # truncation is O(step²) ≈ 1e-8 of the value, far below the standard error


def check(label: str, law: Law, n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check directional derivatives of a small network's loss along random directions."""
    net = Network([Dense(2, 3), ReLU(), Dense(3, 2)], law=law, seed=1)
    net.set_parameters(
        {n: Posterior(p.mean, np.full(p.shape, 0.3)) for n, p in net.parameters().items()}
    )
    x, y = rng.standard_normal((2, 2)), np.array([0, 1])
    directions = [
        {n: rng.standard_normal((2, *p.shape)) for n, p in net.parameters().items()}
        for _ in range(_DIRECTIONS)
    ]
    size = max(1, n_samples // _BLOCKS)
    pathwise = np.array([_pathwise(net, x, y, directions, size, rng) for _ in range(_BLOCKS)])
    differences = np.array([_differences(net, x, y, directions, size, rng) for _ in range(_BLOCKS)])
    error = np.sqrt((pathwise.var(0, ddof=1) + differences.var(0, ddof=1)) / len(pathwise))
    return [
        against_monte_carlo(
            f"gradient of the loss ({label})",
            "pathwise gradient along random directions against central differences of the loss",
            pathwise.mean(0),
            differences.mean(0),
            error,
            size * _BLOCKS,
        )
    ]


def _pathwise(net, x, y, directions, n_samples, rng) -> list[float]:
    _, grad = loss_and_gradient(net, x, y, _N_DATA, rng, Options(n_samples=n_samples))
    return [
        sum(float((d[n][0] * grad.mean[n] + d[n][1] * grad.scale[n]).sum()) for n in d)
        for d in directions
    ]


def _differences(net, x, y, directions, n_samples, rng) -> list[float]:
    _, z = net.draw(rng, n_samples)

    def loss(direction, step):
        shifted = {
            n: Posterior(p.mean + step * direction[n][0], p.scale + step * direction[n][1])
            for n, p in net.parameters().items()
        }
        theta = {n: p.mean + p.scale * z[n] for n, p in shifted.items()}
        nll, _ = Categorical()(net.forward(x, theta)[0], y)
        divergences = kl.divergence(shifted, net.law, net.prior).values()
        total_kl = sum(d.value.sum() for d in divergences)
        return _N_DATA / len(x) * nll + total_kl

    return [(loss(d, _STEP) - loss(d, -_STEP)) / (2.0 * _STEP) for d in directions]
