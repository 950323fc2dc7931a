"""Kernels of linearised propagation in float32, compared with the float64 reference.

Hypothesis: mean and covariance of the outputs are those of
`Network.propagate(x, method="linearised")`, for networks in which every layer takes part, of sizes
that are multiples of no vector length. The noise of all layers matters: deviations of weights are
a tenth to a half of √(2/n) for n inputs of a unit, where means are √(2/n) N(0, 1).

Allowed errors: the relative accuracy that every kernel keeps, 1e-5; of a mean to it and its
deviation, of a covariance to the product of both deviations. A covariance Σ_i J_ki J_li Var_i over
all sources of noise i may cancel, but by Cauchy–Schwarz the sum of the absolute values of its terms
is at most √(C_kk C_ll), and it is these that round. Between input and covariance lie sums of some
hundreds of terms in all, whose roundings stay below 6√n u (`verification.rounding`): 7e-6 for 400.
This is no worst case, since an entry of J may cancel, too. Observed: 5e-7.
"""

from __future__ import annotations

import numpy as np

from kernels import compile_network
from kernels.devices import Board
from refbnn import Network
from refbnn.layers import (
    ELU,
    GELU,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    Layer,
    LeakyReLU,
    MaxPool2d,
    Normalise,
    ReLU,
    Residual,
    Sigmoid,
    Tanh,
)
from refbnn.layers.moments import JointMoments
from refbnn.layers.posterior import Posterior
from verification.check import Check
from verification.kernels.compare import SCHEDULES, compare, single
from verification.kernels.layers import ACCURACY

_BATCH = 3
_IMAGE = (2, 7, 9)


def _norm(channels: int) -> BatchNorm2d:
    """Batch normalisation that turns the sign of every other channel."""
    gamma = np.resize([-1.3, 0.7], channels)
    ones = np.ones(channels)
    return BatchNorm2d(0.1 * ones, 2.0 * ones, gamma, 0.2 * ones)


# Few networks of many layers: compiling one takes seconds.
NETWORKS: dict[str, list[Layer]] = {
    "dense": [
        *(Normalise(0.2, 1.5), Dense(13, 19), ReLU(), Dense(19, 11), LeakyReLU(0.2)),
        *(Residual([Dense(11, 6), Tanh(), Dense(6, 11)]), ELU(1.5), Dense(11, 9), GELU()),
        *(Dense(9, 7), Sigmoid()),
    ],
    "convolutions": [
        Conv2d(2, 4, 3, stride=(2, 1), padding=(1, 0), groups=2),
        *(_norm(4), AvgPool2d(3, 2, 1), Tanh()),  # windows reach into the padding
        Residual([Conv2d(4, 4, 3, padding=1, groups=2), ReLU()]),
    ],
    "max pooling": [
        *(Conv2d(2, 5, 3, padding=1), MaxPool2d(3, 2), ReLU()),  # windows that overlap
        *(Conv2d(5, 17, 2, (1, 2), 1), _norm(17), MaxPool2d(2)),  # one operator
        *(GELU(), MaxPool2d(2, 2, 1, "tree")),
    ],
}


def network(label: str, n_outputs: int, rng: np.random.Generator) -> Network:
    """The network of this label with a dense layer of so many outputs behind, weights drawn."""
    layers = NETWORKS[label]
    shape: tuple[int, ...] = _IMAGE if any(isinstance(one, Conv2d) for one in layers) else (13,)
    reached = shape
    for layer in layers:
        reached = layer.output_shape(reached)
    last = [Flatten()] if len(reached) > 1 else []
    net = Network([*layers, *last, Dense(int(np.prod(reached)), n_outputs)], input_shape=shape)
    own = {}
    for name, initial in net.parameters().items():
        size = np.sqrt(2.0 / np.prod(initial.shape[1:])) * np.ones(initial.shape)
        own[name] = Posterior(
            single(size * rng.standard_normal(size.shape)),
            single(size * rng.uniform(0.1, 0.5, size.shape)),
        )
    net.set_parameters(own)
    return net


def check(target: str, device: str | Board, rng: np.random.Generator) -> list[Check]:
    """Check mean and covariance of the outputs of every network."""
    return [
        _check(label, target, device, schedule, rng) for schedule in SCHEDULES for label in NETWORKS
    ]


def _check(label: str, target, device, schedule, rng) -> Check:
    net = network(label, 5, rng)
    x = single(rng.standard_normal((_BATCH, *(net.input_shape or ()))))
    expected = net.propagate(x, method="linearised")
    fast = compile_network(net, _BATCH, target, schedule, device=device, method="linearised")
    y = fast(x)
    return compare(
        f"kernel: linearised network, {label} ({schedule})",
        f"mean and covariance of 5 outputs, share of {ACCURACY:g} of a mean and a deviation, and "
        "of the product of two deviations",
        [y.mean, y.cov],
        [expected.mean, expected.cov],
        joint_accuracy(expected),
    )


def joint_accuracy(reference: JointMoments) -> tuple[np.ndarray, np.ndarray]:
    """Allowed errors of mean and covariance, see the top of the file."""
    sd = np.sqrt(reference.var)
    of_cov = ACCURACY * sd[:, :, np.newaxis] * sd[:, np.newaxis]
    return ACCURACY * (np.abs(reference.mean) + sd), of_cov
