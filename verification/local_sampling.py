"""Sampled outputs of layers (local reparameterisation) against sampled weights.

Hypothesis: for one input, the outputs of a dense network with the Gaussian law have the same law in
both ways (`refbnn.network.local_sampling`). Compared are mean and variance of every logit of a
network with two hidden layers. Estimator: moments of n samples in each way, n a fifth of
`--mc-samples`. Rows of one batch have noise of their own, so n copies of an input are n samples.
Error model: both estimates are normal about the true value; standard errors add in squares.
"""

from __future__ import annotations

import numpy as np

from refbnn import Network
from refbnn.layers import Dense, ReLU, Tanh
from refbnn.layers.posterior import Posterior
from verification.check import Check, MomentEstimate, against_monte_carlo, blocks

_INPUTS = 3


def check(n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check mean and variance of the logits of each input."""
    net = Network([Dense(5, 12), ReLU(), Dense(12, 9), Tanh(), Dense(9, 4)])
    net.set_parameters(
        {
            name: Posterior(rng.standard_normal(p.shape), rng.uniform(0.1, 0.6, p.shape))
            for name, p in net.parameters().items()
        }
    )
    x = rng.standard_normal((_INPUTS, 5))
    n = max(2, n_samples // 5)
    locally, by_weights = (MomentEstimate(net.propagate(x).mean) for _ in range(2))
    for size in blocks(n):
        copies = np.tile(x, (size, 1))
        (y,) = net.sample(copies, 1, seed=int(rng.integers(2**63)), local=True)
        locally.add(y.reshape(size, _INPUTS, -1))
        weights, _ = net.draw(rng, size)
        by_weights.add(net.forward(x, weights)[0])
    (claimed, error), (estimate, other) = locally.result(), by_weights.result()
    return [
        against_monte_carlo(
            f"local sampling: {moment}",
            "logits of each input, outputs sampled against weights sampled",
            claimed[at],
            estimate[at],
            np.hypot(error[at], other[at]),
            n,
        )
        for at, moment in enumerate(("mean", "variance"))
    ]
