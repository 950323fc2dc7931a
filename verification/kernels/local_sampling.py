"""Kernels that draw outputs of layers in float32, compared with the reference in float64.

Both have the same noise, because both make it from the same random words. Allowed errors are
rounding bounds, with the error of the noise table (`refbnn.noise.word_table`) added.
"""

from __future__ import annotations

import numpy as np

from kernels.devices import Board
from kernels.sampled_network import compile_sampled
from refbnn import Network
from refbnn.layers import Dense
from refbnn.network import local_sampling
from refbnn.network.architectures import mlp
from refbnn.noise.word_table import SINGLE_ERROR, exact
from verification.check import Check
from verification.kernels.compare import SCHEDULES, compare
from verification.rounding import U, gamma


def check(target: str, device: str | Board, rng: np.random.Generator) -> list[Check]:
    """Check a dense layer, whose sizes are no multiples of vectors, and a network."""
    networks = {
        "dense": Network([Dense(101, 37)], seed=1),
        "network 784-100-100-10": Network(mlp(10), seed=1),
    }
    checks = []
    for label, net in networks.items():
        # Eleven samples: eight words are made together, and the last eight are not full.
        x = rng.uniform(0.0, 1.0, (3, *(net.input_shape or ())))
        for schedule in SCHEDULES:
            fast = compile_sampled(net, len(x), 11, target, schedule, device, local=True)
            checks.append(
                compare(
                    f"kernel: local sampling, {label} ({schedule})",
                    "11 samples, share of the probabilistic rounding bound",
                    [fast(x, seed=9)],
                    [net.sample(x, 11, seed=9, local=True)],
                    [network_bound(net, x, 11, seed=9)],
                )
            )
    return checks


def network_bound(net: Network, x: np.ndarray, n_samples: int, seed: int) -> np.ndarray:
    """Bound the errors of a float32 network whose outputs are drawn, (S, B, ...).

    Errors in the mean m of n inputs and weights count as independent, as in
    `verification.kernels.sampling.network_bound`. The deviation √v = ‖x σ‖ is a norm: errors e of
    the inputs change it by ‖e σ‖ at most, and roundings by half of the bound of v, relative
    (`kernels.layers.dense`). Layers without weights are ReLU, which magnifies no error.
    """
    bounds = []
    for number in range(n_samples):
        y, error = x, U * np.abs(x)
        for index, (layer, own) in enumerate(
            zip(net.layers, net.by_layer(net.parameters()), strict=True)
        ):
            if not own:
                y, error = layer.forward(y, {}), layer.forward(error, {})
                continue
            weight, bias = own["weight"], own["bias"]
            m, v = y @ weight.mean.T + bias.mean, y**2 @ weight.var.T + bias.var
            words = local_sampling.words(seed, index, number, range(len(y)), m.shape[1])
            z, spread, n = exact(net.law, words), np.sqrt(v), y.shape[1]
            terms = np.abs(y) @ np.abs(weight.mean).T + np.abs(bias.mean)
            squares = y**2 @ (weight.mean**2).T + bias.mean**2
            off_m = np.sqrt(error**2 @ (weight.mean**2).T) + 6.0 * U * np.sqrt(squares)
            off_m += 6.0 * U * np.sqrt(n + 2) * terms
            off_spread = np.sqrt(error**2 @ weight.var.T) + (gamma(n + 7) / 2 + 2 * U) * spread
            off_z = SINGLE_ERROR * np.maximum(1.0, np.abs(z))
            y = m + spread * z
            error = off_m + off_spread * np.abs(z) + (spread + off_spread) * off_z
            error += 2 * U * (np.abs(m) + spread * np.abs(z))
        bounds.append(error)
    return np.stack(bounds)
