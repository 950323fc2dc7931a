"""Are predicted probabilities met? Reliability of classes and coverage of targets, PFP and SVI.

Shown, from packaged data: left and middle, reliability diagrams of a 784-100-100-10 network for
plain and ambiguous digits (`dirty-mnist-subset`, 2000 test images), in bins of equal mass; right,
coverage curves of a 784-100-100-2 network for the angles of rotated digits
(`rotated-mnist-subset`, 1000 test images). Methods: SVI with 100 passes, PFP, and PFP with the
variance factor that makes its epistemic uncertainty equal to that of SVI on a held-out tenth of the
training data. Bars and the grey band: one standard error if the predictions were calibrated.

What to look for. SVI and PFP with its factor should agree, whether or not either lies on the
diagonal: a wrong posterior is not an error of propagation.

Sources: see `refbnn.uncertainty.calibration` and `refbnn.uncertainty.variance_factor`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from figures.support.style import BLUE, GREY, ORANGE, PINK, figure, save
from refbnn import Network, data, predict, train
from refbnn.data import Dataset
from refbnn.network.architectures import mlp
from refbnn.numerics.random.streams import stream
from refbnn.prediction.predict import predict_targets
from refbnn.prior import GaussianPrior
from refbnn.uncertainty.calibration import Coverage, Reliability, coverage, reliability
from refbnn.uncertainty.evaluation import log_scores
from refbnn.uncertainty.variance_factor import Choice, choose

CLASSES, TARGETS = "dirty-mnist-subset", "rotated-mnist-subset"
EPOCHS = {CLASSES: 10, TARGETS: 30}
SVI, PFP, FACTOR = "SVI", "PFP", "PFP with factor"
_COLOURS = {SVI: GREY, PFP: ORANGE, FACTOR: BLUE}
_PASSES = 100
_BINS = 10
_HELD_OUT = 0.1
STEPS = 2  # calls of `tick`


def make(folder: Path, seed: int, mc_samples: int, tick: Callable[[str], None]) -> dict:
    """Save the picture; return the numbers."""
    diagrams, classes = _classes(seed)
    tick("reliability of classes")
    curves, targets = _targets(seed)
    tick("coverage of targets")
    _draw(diagrams, curves, folder / "reliability.png")
    return {"passes": _PASSES, "classes": classes, "targets": targets}


def _classes(seed: int) -> tuple[dict[str, Reliability], dict]:
    """Reliability diagrams by method, and the numbers of all methods."""
    net, choice = _trained(CLASSES, "categorical", seed)
    test = data.load(CLASSES, "test")
    y = test.y
    predictions = _by_method(predict, net, choice, net.shaped(test.x), seed=seed)
    diagrams = {name: reliability(p, y, _BINS, "mass") for name, p in predictions.items()}
    by_method = {
        name: {
            "ece": diagrams[name].ece,
            "ece_if_calibrated": diagrams[name].ece_if_calibrated,
            "accuracy": p.accuracy(y),
            "log_score_nats": log_scores(p, y).mean(),
            "mean_mutual_information_nats": float(p.mutual_information.mean()),
        }
        for name, p in predictions.items()
    }
    return diagrams, {"factor": choice.factor, "by_method": by_method}


def _targets(seed: int) -> tuple[dict[str, Coverage], dict]:
    """Coverage curves by method, and the numbers of all methods."""
    net, choice = _trained(TARGETS, "gaussian", seed)
    test = data.load(TARGETS, "test")
    y = test.y.astype(float)
    answers = _by_method(
        partial(predict_targets, n_targets=1), net, choice, net.shaped(test.x), seed=seed
    )
    curves = {name: coverage(p, y) for name, p in answers.items()}
    by_method = {
        name: {
            "coverage": curves[name].share.tolist(),
            "coverage_deviation": curves[name].deviation,
            "log_score_nats": log_scores(p, y).mean(),
            "epistemic_spread": float(np.sqrt(p.epistemic.mean())),
        }
        for name, p in answers.items()
    }
    level = curves[SVI].level.tolist()
    return curves, {"factor": choice.factor, "level": level, "by_method": by_method}


def _by_method(predict: Callable, net: Network, choice: Choice, x: np.ndarray, seed: int) -> dict:
    return {
        SVI: predict(net, x, method="svi", n_samples=_PASSES, seed=seed),
        PFP: predict(net, x),
        FACTOR: predict(net.with_variance_factor(choice.factor), x),
    }


def _trained(name: str, likelihood: str, seed: int) -> tuple[Network, Choice]:
    """Train a network on most of the training data; choose its factor on the rest."""
    examples: Dataset = data.load(name, "train")
    layers = mlp(examples.n_outputs * (2 if likelihood == "gaussian" else 1))
    net = Network(layers, prior=GaussianPrior(0.3), seed=seed)
    x, y = net.shaped(examples.x), examples.y
    order = stream(seed, "reliability figure").permutation(len(x))
    held_out, kept = np.split(order, [round(_HELD_OUT * len(x))])
    train(net, x[kept], y[kept], likelihood=likelihood, epochs=EPOCHS[name], seed=seed)
    return net, choose(net, x[held_out], y[held_out], seed=seed)


def _draw(diagrams: dict[str, Reliability], curves: dict[str, Coverage], path: Path) -> None:
    fig, axes = figure(3, 1, (4.2, 3.9))
    for ax, names in ((axes[0, 0], (SVI, FACTOR)), (axes[0, 1], (PFP, FACTOR))):
        ax.plot([0, 1], [0, 1], color=PINK, lw=1)
        for name in names:
            d = diagrams[name]
            error = np.sqrt(d.variance) / d.count
            label = f"{name}: ECE {d.ece:.3f}, by chance {d.ece_if_calibrated:.3f}"
            colour = _COLOURS[name]
            ax.errorbar(
                d.confidence, d.accuracy, error, fmt="o-", ms=4, lw=1.2, color=colour, label=label
            )
        ax.set(xlabel="mean confidence", ylabel="share classified correctly", title=CLASSES)
        ax.legend(loc="upper left", fontsize=8)
    ax = axes[0, 2]
    level, error = curves[SVI].level, curves[SVI].standard_error
    ax.fill_between(level, level - error, level + error, color=GREY, alpha=0.3)
    ax.plot([0, 1], [0, 1], color=PINK, lw=1)
    for name, curve in curves.items():
        label = f"{name}: deviation {curve.deviation:.3f}"
        ax.plot(level, curve.share, "o-", ms=3, lw=1.2, color=_COLOURS[name], label=label)
    ax.set(xlabel="level of the central interval", ylabel="share of targets inside", title=TARGETS)
    ax.legend(loc="upper left", fontsize=8)
    save(fig, path)
