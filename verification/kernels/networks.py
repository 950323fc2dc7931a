"""Whole networks as kernels in float32, compared with the float64 reference, for each schedule.

Allowed errors: for dense and ReLU layers the probabilistic bound of `verification.rounding`; for
LeNet-5 and normalised inputs the relative accuracy that every kernel keeps.
"""

from __future__ import annotations

import numpy as np

from kernels import compile_network
from kernels.devices import Board
from refbnn import Network
from refbnn.layers import Dense, Flatten, Normalise
from refbnn.network.architectures import DIGITS, lenet5, mlp
from verification.check import Check
from verification.kernels import layers
from verification.kernels.compare import SCHEDULES, compare, single
from verification.rounding import network_bound


def check(target: str, device: str | Board, rng: np.random.Generator) -> list[Check]:
    """Check each layer's kernel, and whole networks."""
    checks = layers.check(target, device, rng)
    for schedule in SCHEDULES:
        checks.append(_check_network(target, device, schedule, rng))
        checks.append(_check_lenet5(target, device, schedule, rng))
        checks.append(_check_normalised(target, device, schedule, rng))
    return checks


def _check_network(target, device, schedule, rng) -> Check:
    net = Network(mlp(10), seed=1)
    x = rng.uniform(0.0, 1.0, (3, 784))
    return compare(
        f"kernel: network 784-100-100-10 ({schedule})",
        "share of the probabilistic rounding bound, propagated through the layers",
        compile_network(net, len(x), target, schedule, device=device).kernel(x),
        net.propagate(x),
        network_bound(net, x),
    )


def _check_lenet5(target, device, schedule, rng) -> Check:
    net = Network(lenet5(10), input_shape=DIGITS, seed=1)
    x = rng.uniform(0.0, 1.0, (2, *DIGITS))
    reference = net.propagate(x)
    return compare(
        f"kernel: network LeNet-5 ({schedule})",
        f"share of {layers.ACCURACY:g} relative, of the mean to it and a deviation",
        compile_network(net, len(x), target, schedule, device=device).kernel(x),
        reference,
        layers.accuracy(reference),
    )


def _check_normalised(target, device, schedule, rng) -> Check:
    """Normalised inputs of a first dense layer, which sums blank rows in another way."""
    first = Normalise([0.13, 0.49], [0.31, 0.25])
    shape = 2, 7, 7
    net = Network([first, Flatten(), Dense(98, 37)], input_shape=shape, seed=1)
    mean = np.broadcast_to(np.reshape(first.mean, (2, 1, 1)), shape)
    uniform = rng.random(mean.shape)
    sparse, half = rng.random((2, *mean.shape)) < np.reshape([0.2, 0.5], (2, 1, 1, 1))
    x = single(np.array([0.0 * uniform, sparse * uniform, half * mean, mean, uniform]))
    reference = net.propagate(x)
    return compare(
        f"kernel: network, normalised inputs ({schedule})",
        f"blank, sparse, half blank, at the mean, uniform; share of {layers.ACCURACY:g} relative",
        compile_network(net, len(x), target, schedule, device=device).kernel(x),
        reference,
        layers.accuracy(reference),
    )
