"""Linearised variances of whole networks, where they are of first order, against sampled passes.

Hypothesis: the variance of the outputs that linearised propagation returns lies within 5 % of the
sampled one, whatever the law, and within 3 % of where it lies for the Gaussian law. Diagonal
moments miss those 5 % in a deep network, so that the check can fail. Both bands are claims: they
follow from no formula. What first order leaves out is of second order in the correlations of units
(`refbnn.network.linearised`). Measured on 20 networks of each kind and width with the Gaussian law:
at most 3.4 %, root mean square 1.7 % (deep, width 16; standard error of one 0.9 %). Diagonal
moments return 0.6 of the variance of the deep ones (median). On 200 inputs, with 4000 to 20,000
passes, the laws of the plan lie at most 1.6 % from the Gaussian one (standard error 1.7 %).

Networks: four hidden layers with ReLU; every other activation with a residual block; images through
two convolutions with both poolings and batch normalisation; widths 16 and 64. They stay the same
whatever `--seed`, or another network would be claimed about each time. Means are √(2/n) times
N(a, 1) for n inputs of a unit, deviations a fifth of √(2/n). a is 0; in the deep network it is ½:
units of a layer have something in common, as training makes them, or the covariances that diagonal
moments drop would cancel.

Estimator: the median over inputs and outputs of log(claimed/sampled variance). Sample size: one
pass for every 500 of `--mc-samples` at width 16, for every 600 at width 64; a pass draws all
weights. Error model: passes fall into 20 groups; the jackknife that leaves out one group at a time
gives the standard error, with Student's t of 19 degrees of freedom. That many standard errors are
added to the band, at the level of `verification.check`. Passes are those of `Network.forward`,
whose layers other checks hold to values written out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

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
from refbnn.layers.posterior import Posterior
from refbnn.noise import Gaussian, Law
from refbnn.numerics.random.streams import stream
from verification.check import FALSE_ALARM, Check, blocks

WIDTHS = (16, 64)
_BAND, _OF_LAWS = np.log(1.05), np.log(1.03)
_PER_PASS = {16: 500, 64: 600}  # by width
_SPREAD = 0.2
_GROUPS = 20
_INPUTS = 8
_BLOCK = 100  # passes at a time, to bound memory


def deep(width: int) -> Network:
    """Four hidden layers with ReLU."""
    hidden = [layer for _ in range(3) for layer in (Dense(width, width), ReLU())]
    return Network([Dense(8, width), ReLU(), *hidden, Dense(width, 3)])


def mixed(width: int) -> Network:
    """Every other activation, and a residual block."""
    n = width
    block = Residual((Dense(n, n), GELU(), Dense(n, n)))
    first: list[Layer] = [Normalise(0.1, 1.1), Dense(8, n), LeakyReLU(0.2), block]
    behind: list[Layer] = [
        Dense(n, n),
        ELU(),
        Dense(n, n),
        Tanh(),
        Dense(n, n),
        Sigmoid(),
        Dense(n, 3),
    ]
    return Network([*first, *behind], input_shape=(8,))


def images(width: int) -> Network:
    """Two convolutions, the second in groups of 16 channels, both poolings, and normalisation."""
    n = width
    norm = BatchNorm2d(*np.full((4, n), [[0.1], [1.2], [0.9], [0.1]]))
    first: list[Layer] = [Conv2d(1, n, 3, padding=1), ReLU(), MaxPool2d(2)]
    second: list[Layer] = [Conv2d(n, n, 3, padding=1, groups=n // 16), norm, ELU(), AvgPool2d(2)]
    return Network([*first, *second, Flatten(), Dense(n, 3)], input_shape=(1, 4, 4))


NETWORKS = {"deep": (deep, 0.5), "mixed": (mixed, 0.0), "images": (images, 0.0)}


@dataclass(frozen=True)
class Ratio:
    """Median of log(claimed/sampled variance), and its standard error."""

    median: float
    error: float

    def __sub__(self, other: Ratio) -> Ratio:
        """Difference of two that were sampled independently."""
        return Ratio(self.median - other.median, float(np.hypot(self.error, other.error)))


def network(
    kind: str, width: int, seed: int = 0, n_inputs: int = _INPUTS
) -> tuple[Network, np.ndarray]:
    """Network of one kind and width, with weights as above, and inputs from N(0, 1)."""
    build, common = NETWORKS[kind]
    net = build(width)
    rng = stream(seed, f"linearised {kind} {width}")
    own = {}
    for name, initial in net.parameters().items():
        is_bias = len(initial.shape) == 1
        size = 0.1 if is_bias else np.sqrt(2.0 / np.prod(initial.shape[1:]))
        mean = size * (rng.standard_normal(initial.shape) + (0.0 if is_bias else common))
        own[name] = Posterior(mean, np.full(initial.shape, _SPREAD * size))
    net.set_parameters(own)
    assert net.input_shape is not None
    return net, rng.standard_normal((n_inputs, *net.input_shape))


def sampled_variances(
    net: Network, x: np.ndarray, law: Law, n_passes: int, rng: np.random.Generator
) -> np.ndarray:
    """Variance of the outputs over all passes, and over all but each of 20 groups, (21, B, K).

    n_passes is a multiple of 20, at least 40.
    """
    size = n_passes // _GROUPS
    noisy = net.with_noise(law)
    centre = net.propagate(x).mean
    sums = np.zeros((2, _GROUPS, *centre.shape))
    for group in range(_GROUPS):
        for block in blocks(size, _BLOCK):
            passes = _passes(noisy, x, block, rng) - centre
            sums[:, group] += passes.sum(axis=0), (passes**2).sum(axis=0)
    return leaving_one_out(sums, size)


def leaving_one_out(sums: np.ndarray, size: int) -> np.ndarray:
    """Variances of all groups, then of all but each, from Σy and Σy² of `size` passes a group.

    sums (2, 20, B, K) -> (21, B, K).
    """
    total = sums.sum(axis=1, keepdims=True)
    first, second = np.concatenate([total, total - sums], axis=1)
    n = size * np.array([_GROUPS] + [_GROUPS - 1] * _GROUPS)[:, np.newaxis, np.newaxis]
    return (second - first**2 / n) / (n - 1)


def _passes(net: Network, x: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    weights, _ = net.draw(rng, size)
    return net.forward(np.broadcast_to(x, (size, *x.shape)), weights)[0]


def ratio(claimed: np.ndarray, sampled: np.ndarray) -> Ratio:
    """Compare variances (B, K) with those of `sampled_variances`."""
    medians = np.median(np.log(claimed / sampled), axis=(1, 2))
    without = medians[1:]
    variance = (_GROUPS - 1) / _GROUPS * np.square(without - without.mean()).sum()
    return Ratio(float(medians[0]), float(np.sqrt(variance)))


def check(laws: Mapping[str, Law], n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check every network: all laws against the claim, and against the Gaussian law."""
    checks = []
    for kind in NETWORKS:
        for width in WIDTHS:
            n_passes = _GROUPS * max(2, n_samples // (_PER_PASS[width] * _GROUPS))
            net, x = network(kind, width)
            claimed = net.propagate(x, method="linearised").var
            sampled = {
                label: sampled_variances(net, x, law, n_passes, rng)
                for label, law in ({**laws, "Gaussian law": Gaussian()}).items()
            }
            ratios = {label: ratio(claimed, sample) for label, sample in sampled.items()}
            of_gaussian = ratios["Gaussian law"]
            apart = [one - of_gaussian for label, one in ratios.items() if label != "Gaussian law"]
            title = f"{kind} network, width {width}"
            checks.append(
                of_ratios(f"linearised: {title}, all laws", ratios.values(), _BAND, n_passes)
            )
            if apart:
                checks.append(of_ratios(f"laws: {title}", apart, _OF_LAWS, n_passes))
            if (kind, width) == ("deep", 64):
                diagonal = ratio(net.propagate(x).var, sampled["Gaussian law"])
                checks.append(_check_miss(f"diagonal moments miss: {title}", diagonal, n_passes))
    return checks


def of_ratios(name: str, ratios: Iterable[Ratio], band: float, n_passes: int) -> Check:
    """Check that no ratio leaves the band by more than its sampling error explains."""
    ratios = list(ratios)
    t = stats.t.isf(FALSE_ALARM / (2 * len(ratios)), _GROUPS - 1)
    deviations = np.array([abs(one.median) / (band + t * one.error) for one in ratios])
    at = int(deviations.argmax())  # NaN counts as greatest
    worst = ratios[at]
    return Check(
        name=name,
        method=f"median of log(claimed/sampled variance) within {np.expm1(band):.0%}, or that of "
        "two laws' difference, plus sampling error",
        statistic=float(deviations[at]),
        limit=1.0,
        unit="of allowed error",
        n_compared=len(ratios),
        n_samples=n_passes,
        worst=(0.0, worst.median, worst.error),
    )


def _check_miss(name: str, diagonal: Ratio, n_passes: int) -> Check:
    """Check that diagonal moments leave the band, unless sampling refutes it."""
    t = stats.t.isf(FALSE_ALARM, _GROUPS - 1)
    return Check(
        name=name,
        method="the band over the error of diagonal moments, with sampling error: they miss it",
        statistic=_BAND / (abs(diagonal.median) + t * diagonal.error),
        limit=1.0,
        unit="of their error",
        n_compared=1,
        n_samples=n_passes,
        worst=(0.0, diagonal.median, diagonal.error),
    )
