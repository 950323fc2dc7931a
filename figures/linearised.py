"""Uncertainty by depth and width: propagation diagonal, linearised and full, beside sampling.

Networks 784-n-…-n-10 of ReLU are trained on the packaged digits: n = 32 with 1 to 16 hidden layers,
and eight hidden layers of 16 to 128. The truth for 100 digits and 100 garments are 10,000 passes.
Given a layer's inputs its pre-activations are independent normal, so passes are drawn layer by
layer, exactly (as in `refbnn.training.local_reparameterisation`). Shown for the garments, by

*diagonal*, propagation of moments (arXiv 2511.23440); *local linearisation*, slopes at the mean
(`figures.support.local_linearisation`); *linearised*, expected slopes and the variance of each
activation that they do not carry (`refbnn.network.linearised`); *second sweep*, the same with
variances that know the covariance (`figures.support.second_sweep`); *full*, all covariances of a
layer (`refbnn.prediction.covariance`); *30 passes*, the first 30 of the 10,000:

the median ratio of the variance of a logit to the sampled one; the mean absolute difference of the
mutual information, beside its floor, that of Gaussian logits with the sampled mean and covariance;
and the AUROC by which mutual information tells garments from digits.

To look for: diagonal propagation loses variance with every layer; the expected slopes keep it.
Local linearisation has the wrong slopes where units are uncertain. What is left in narrow deep
networks are gains from variances that are themselves diagonal, which a second sweep mends at the
cost of "full", and logits that are not Gaussian (the floor).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np

from figures.support import local_linearisation, second_sweep
from figures.support.style import AMBER, BLUE, GREEN, GREY, ORANGE, PINK, figure, legend_below, save
from refbnn import Network, data, train
from refbnn.layers import Dense, Layer, ReLU
from refbnn.layers.moments import JointMoments
from refbnn.numerics.random.streams import stream
from refbnn.prediction import covariance
from refbnn.prediction.accumulation import OutputSums
from refbnn.prediction.softmax import by_quadrature, by_table
from refbnn.uncertainty.auroc import auroc

DEPTHS = (1, 2, 4, 8, 12, 16)  # hidden layers of _WIDTH units
WIDTHS = (16, 32, 64, 128)  # of _DEPTH hidden layers
_WIDTH, _DEPTH = 32, 8
_INPUTS, _PASSES, _BLOCK, _EPOCHS = 100, 10_000, 50, 20
_KINDS = {
    "diagonal": (BLUE, "diagonal"),
    "local": (AMBER, "local linearisation"),
    "linearised": (ORANGE, "linearised"),
    "second": (PINK, "second sweep"),
    "full": (GREEN, "full covariance"),
    "passes": (GREY, "30 passes"),
}
_SIZES = sorted({(depth, _WIDTH) for depth in DEPTHS} | {(_DEPTH, width) for width in WIDTHS})
STEPS = len(_SIZES)  # calls of `tick`


def make(folder: Path, seed: int, mc_samples: int, tick: Callable[[str], None]) -> dict:
    """Save the picture; return the numbers."""
    digits = data.load("mnist-subset", "train")
    tests = [data.load(name, "test").x[:_INPUTS] for name in ("mnist-subset", "fashion-subset")]
    rows = []
    for depth, width in _SIZES:
        net = Network(_layers(depth, width), seed=seed)
        train(net, net.shaped(digits.x), digits.y, epochs=_EPOCHS, seed=seed)
        x = net.shaped(np.concatenate(tests)).astype(float)
        rows.append({"depth": depth, "width": width} | _compared(net, x, seed))
        tick(f"linearised: {depth} layers of {width}")
    _draw(rows, folder / "linearised.png")
    return {"passes": _PASSES, "inputs": _INPUTS, "epochs": _EPOCHS, "networks": rows}


def _layers(depth: int, width: int) -> list[Layer]:
    layers: list[Layer] = [Dense(784, width), ReLU()]
    for _ in range(depth - 1):
        layers += [Dense(width, width), ReLU()]
    return [*layers, Dense(width, 10)]


def _compared(net: Network, x: np.ndarray, seed: int) -> dict:
    """Numbers of every kind of propagation, digits first, then garments."""
    blocks = list(_passes(net, x, stream(seed, "linearised passes")))
    truth = reduce(add, map(OutputSums.of_classes, blocks)).classes
    logits = np.concatenate(blocks)
    few = OutputSums.of_classes(logits[:30]).classes
    away = logits - truth.logits.mean
    sampled = JointMoments(truth.logits.mean, np.einsum("sbk,sbl->bkl", away, away) / len(away))
    diagonal, joint = (
        net.propagate(x),
        {
            "local": local_linearisation.propagate(net, x),
            "linearised": net.propagate(x, method="linearised"),
            "second": second_sweep.propagate(net, x),
            "full": covariance.propagate(net, x),
        },
    )
    predictions = {"diagonal": by_quadrature(diagonal), "passes": few, "floor": by_table(sampled)}
    predictions |= {kind: by_table(moments) for kind, moments in joint.items()}
    variances = {"diagonal": diagonal.var, "passes": few.logits.var}
    variances |= {kind: moments.var for kind, moments in joint.items()}
    known = truth.mutual_information
    result = {"sampled": {"mi_nats": _mean(known), "auroc": _auroc(known)}}
    for kind, prediction in predictions.items():
        mi = prediction.mutual_information
        numbers = {"mi_nats": _mean(mi), "auroc": _auroc(mi)}
        numbers["mi_mean_abs_difference_nats"] = _mean(np.abs(mi - known))
        if kind in variances:
            log = np.log(variances[kind] / truth.logits.var)
            numbers["variance_ratio"] = {
                name: float(np.exp(np.median(log[rows]))) for name, rows in _ROWS.items()
            }
            numbers["variance_rms_log"] = {
                name: float(np.sqrt(np.mean(log[rows] ** 2))) for name, rows in _ROWS.items()
            }
        result[kind] = numbers
    return result


_ROWS = {"digits": slice(0, _INPUTS), "garments": slice(_INPUTS, 2 * _INPUTS)}


def _mean(values: np.ndarray) -> dict[str, float]:
    return {name: float(values[rows].mean()) for name, rows in _ROWS.items()}


def _auroc(mi: np.ndarray) -> float:
    return auroc(mi[_ROWS["digits"]], mi[_ROWS["garments"]])[0]


def _passes(net: Network, x: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield blocks of the outputs (S, B, K) of sampled passes."""
    own = net.by_layer(net.parameters())
    for _ in range(_PASSES // _BLOCK):
        y = x
        for layer, posteriors in zip(net.layers, own, strict=True):
            if not isinstance(layer, Dense):
                y = layer.forward(y, {})
                continue
            weight, bias = posteriors["weight"], posteriors["bias"]
            mean = layer.forward(y, {"weight": weight.mean, "bias": bias.mean})
            var = layer.forward(np.square(y), {"weight": weight.var, "bias": bias.var})
            y = mean + np.sqrt(var) * rng.standard_normal((_BLOCK, len(x), mean.shape[-1]))
        yield y


def _draw(rows: list[dict], path: Path) -> None:
    fig, axes = figure(3, 2, panel=(4.2, 3.2))
    by_depth = [row for row in rows if row["width"] == _WIDTH]
    by_width = [row for row in rows if row["depth"] == _DEPTH]
    for line, chosen, key in zip(axes, (by_depth, by_width), ("depth", "width"), strict=True):
        sizes = [row[key] for row in chosen]
        for kind, (colour, label) in _KINDS.items():
            ratio, difference, area = (
                [get(row[kind]) for row in chosen]
                for get in (
                    lambda numbers: numbers["variance_ratio"]["garments"],
                    lambda numbers: numbers["mi_mean_abs_difference_nats"]["garments"],
                    lambda numbers: numbers["auroc"],
                )
            )
            for ax, values in zip(line, (ratio, difference, area), strict=True):
                ax.plot(sizes, values, ".-", color=colour, label=label)
        floor = [row["floor"]["mi_mean_abs_difference_nats"]["garments"] for row in chosen]
        line[1].plot(sizes, floor, "k:", label="Gaussian logits")
        line[2].plot(
            sizes, [row["sampled"]["auroc"] for row in chosen], "k-", label="10,000 passes"
        )
        line[0].axhline(1.0, color="k", lw=1)
        of = f"layers of {_WIDTH}" if key == "depth" else f"{_DEPTH} layers"
        line[0].set(ylabel="variance over sampled variance", title=f"Logits of garments, {of}")
        line[1].set(ylabel="|MI − sampled MI| (nats)", yscale="log", title="Mutual information")
        line[2].set(ylabel="AUROC by MI", title="Digits from garments")
        for ax in line:
            ax.set(xlabel="hidden layers" if key == "depth" else "width")
            ax.set_xscale("log", base=2)
            ax.set_xticks(sizes, [str(size) for size in sizes])
            ax.minorticks_off()
    legend_below(fig, *axes[0], columns=7)
    save(fig, path)
