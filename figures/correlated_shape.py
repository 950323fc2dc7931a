"""Does the shape of the noise matter less once weights are correlated?

Networks 784-W-10 with ReLU, W = 2 … 32, are trained on the packaged digits with the Gaussian law,
once by mean field and once with a full covariance of the last layer
(`refbnn.network.correlated_weights`). Then the law is replaced; means, scales and correlation stay.
Shown is how far the distribution of a logit over posterior samples moves: the Kolmogorov–Smirnov
distance of two samples, median over inputs and classes. The dashed floor is the median distance of
two samples of one law, 0.83·√(2/S) (Kolmogorov's limiting distribution).

Source of the question: arXiv 2501.05564 shows insensitivity to the shape under mean field.

What to look for. A correlated weight θ_i = µ_i + σ_i Σ_j R_ij z_j is a sum, so its law is nearer to
a Gaussian than that of z; but a logit's sum has fewer independent parts. The first effect is the
larger: with correlation the distance falls to the floor at smaller widths.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import ks_2samp, kstwobign

from figures.support.style import AMBER, BLUE, GREEN, GREY, figure, save
from refbnn import Network, train
from refbnn.data import load
from refbnn.layers import Dense, Layer, ReLU
from refbnn.network import correlated_weights as correlation
from refbnn.noise import Bimodal, DeviceLaw, HeavyTailed, Law
from refbnn.numerics.random.streams import stream
from refbnn.prior import GaussianPrior

WIDTHS = (2, 4, 8, 16, 32)
LAWS: dict[str, Law] = {
    "bimodal": Bimodal(0.95),
    "device, singular edges": DeviceLaw(-0.7, -0.7, ()),
    "heavy tails, skewed": HeavyTailed(0.8, 0.5),
}
_COLOURS = (BLUE, AMBER, GREEN)
_LAST = 2  # index of the last layer
_KINDS: dict[str, tuple[int, ...]] = {"mean field": (), "last layer correlated": (_LAST,)}
EPOCHS = 15
_RATE = 1e-2  # at 2e-3 the correlations stay near 0.03
_INPUTS = 10
_SAMPLES = 4000
FLOOR = float(kstwobign.median()) * np.sqrt(2.0 / _SAMPLES)
STEPS = 2 * len(WIDTHS)  # calls of `tick`


def make(folder: Path, seed: int, mc_samples: int, tick: Callable[[str], None]) -> dict:
    """Save the picture; return the distances over the widths."""
    digits, test = load("mnist-subset", "train"), load("mnist-subset", "test")
    x, x_test = (examples.x.reshape(len(examples), -1) for examples in (digits, test))
    distances: dict[str, dict[str, list[float]]] = {}
    spreads = []
    for kind, correlated in _KINDS.items():
        distances[kind] = {label: [] for label in LAWS}
        for width in WIDTHS:
            layers: list[Layer] = [Dense(784, width), ReLU(), Dense(width, 10)]
            net = Network(layers, prior=GaussianPrior(0.3), seed=seed, correlated=correlated)
            train(net, x, digits.y, epochs=EPOCHS, learning_rate=_RATE, seed=seed)
            if correlated:
                spreads.append(_rms_correlation(net.correlation[_LAST]))
            samples = _logits(net, x_test, seed)
            for label, law in LAWS.items():
                others = _logits(net.with_noise(law), x_test, seed + 1)
                distances[kind][label].append(_median_ks(samples, others))
            tick(f"correlated shape: {kind}, width {width}")
    _draw(distances, folder / "correlated_shape.png")
    return {
        "widths": list(WIDTHS),
        "median_ks_distance_to_gaussian_law": distances,
        "median_ks_distance_of_equal_laws": FLOOR,
        "rms_correlation_of_last_layer": spreads,
    }


def _logits(net: Network, x: np.ndarray, seed: int) -> np.ndarray:
    """Sample the logits of some inputs, (S, B·C)."""
    rng = stream(seed, "correlated shape")
    return net.sample(x[:_INPUTS], _SAMPLES, rng).reshape(_SAMPLES, -1)


def _median_ks(a: np.ndarray, b: np.ndarray) -> float:
    """Median over columns of the Kolmogorov–Smirnov distance of two samples."""
    pairs = zip(a.T, b.T, strict=True)
    return float(np.median([ks_2samp(u, v, method="asymp").statistic for u, v in pairs]))


def _rms_correlation(A: np.ndarray) -> float:
    """Root mean square of the correlations of two weights."""
    R = correlation.mix(A, np.eye(len(A))).T
    return float(np.sqrt(np.mean((R @ R.T)[np.tril_indices(len(A), -1)] ** 2)))


def _draw(distances, path: Path) -> None:
    fig, (row,) = figure(len(distances), sharey=True)
    for axes, (kind, by_law) in zip(row, distances.items(), strict=True):
        for (label, values), colour in zip(by_law.items(), _COLOURS, strict=True):
            axes.plot(WIDTHS, values, "o-", color=colour, label=label)
        axes.axhline(FLOOR, color=GREY, linestyle="--", label="two samples of one law")
        axes.set(xscale="log", ylim=(0.0, None), title=kind, xlabel="width of the hidden layer")
        axes.set_xticks(WIDTHS, [str(width) for width in WIDTHS])
        axes.minorticks_off()
    row[0].set_ylabel("median KS distance of a logit\nfrom that under the Gaussian law")
    row[0].legend(fontsize=8)
    save(fig, path)
