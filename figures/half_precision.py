"""Variances in half precision: the accuracy lost, and the instructions saved on Cortex-A76.

The A76 multiplies and adds eight halves in one instruction, but only four float32 numbers; it
cannot multiply halves and add in float32 (FMLAL, of later cores). Means cancel and decide labels,
so they stay in float32. The terms of a variance,

    Σ E[x²] σ²  for known inputs,      Σ E[x²] σ² + Σ Var[x] µ²  for random ones,

are not negative, so half precision keeps relative accuracy. Half's normal numbers reach from 2⁻¹⁴
to 65504. Therefore each array is scaled by a power of two, which rounds nothing, so that its
greatest entry lies in [1/2, 1] (`figures.support.half_precision.sums` has forms, bounds and
emulation). The two networks here would not need it (`stored_without_scale`).

Shown: relative errors of the variances that leave a dense layer or convolution, all layers
together, against float64 from the same inputs, for 784-100-100-10 and LeNet-5 with 200 digits and
200 garments. The products of variances are in half precision, everything else in float64. Forms:
halves stored, and summed in float32; summed in half within blocks, blocks in float32; one sum in
half. Dashed: the bound of the longest sum, (1 + u)ᵏ − 1, without underflow. Right: executed
instructions a product on an emulated A76 (`figures.support.half_precision.kernel`; the extra
`arm`). Instructions do not measure time. The table adds errors of logits, mutual information,
labels, and the AUROC of garments by it.

Conclusion: not worth it, and not in `kernels`. Blocks of 32 take 0.23 instructions a product of a
variance instead of 0.44. With the mean that is a fifth less for a first layer, 0.43 + 0.23 (two
loops, added) instead of 0.82 (one loop), and 6 bytes a weight instead of 8. It costs two to three
digits: variances to 6e-3 at worst and 1e-4 in the median, where kernels keep 1e-5. Blocks of 8 keep
1.5e-3 with 0.28 instructions. Predictions hardly change: no label of 400, mutual information by
1.5e-4 nats, AUROC by 1e-4, far below its standard error. Stored halves save memory only: their
conversion takes more instructions, 0.62, than it saves. One sum gains almost nothing over blocks
and is the least accurate.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from figures.support.half_precision import kernel as half_kernel
from figures.support.half_precision.layers import Run
from figures.support.style import AMBER, BLUE, GREEN, GREY, figure, save
from refbnn import Network, data, train
from refbnn.layers import MaxPool2d
from refbnn.network.architectures import ARCHITECTURES
from refbnn.prediction.result import Prediction
from refbnn.prediction.softmax import by_quadrature
from refbnn.prior import GaussianPrior
from refbnn.uncertainty.auroc import auroc

NETWORKS = {"mlp": "784-100-100-10", "lenet5": "LeNet-5"}
EPOCHS = {"mlp": 15, "lenet5": 10}
IMAGES = 200  # digits, and as many garments
# Length of a block by form; "one" is longer than any sum.
BLOCKS = {"stored": 0, "blocks of 8": 8, "blocks of 32": 32, "blocks of 128": 128, "one": 1 << 16}
STEPS = len(NETWORKS) * (1 + len(BLOCKS)) + 1  # calls of `tick`


def make(folder: Path, seed: int, mc_samples: int, tick: Callable[[str], None]) -> dict:
    """Save the picture, print the table and return the numbers."""
    networks = {name: _measured(name, seed, tick) for name in NETWORKS}
    counts = half_kernel.instructions_a_product(BLOCKS)
    tick("half precision: instructions")
    _draw(networks, counts, folder / "half_precision.png")
    numbers = {"networks": networks, "instructions_a_product": counts}
    tqdm.write(as_text(numbers))
    return numbers


def _measured(name: str, seed: int, tick: Callable[[str], None]) -> dict:
    """Measure all forms on one trained network."""
    net = trained(name, seed)
    digits = data.load("mnist-subset", "test").x[:IMAGES]
    garments = data.load("fashion-subset", "test").x[:IMAGES]
    x = net.shaped(np.concatenate([digits, garments]))
    tick(f"half precision: training of {name}")
    truth = by_quadrature(net.propagate(x))
    forms = {}
    for form, block in BLOCKS.items():
        run = Run(block)
        forms[form] = _compared(by_quadrature(run.propagate(net, x)), truth) | run.numbers()
        tick(f"half precision: {name}, {form}")
    unscaled = Run(0, scaled=False)
    unscaled.propagate(net, x)
    return {
        "images": len(x),
        "auroc_mi_float64": _auroc(truth),
        "stored_without_scale": unscaled.numbers(),
        "forms": forms,
    }


def trained(name: str, seed: int) -> Network:
    """Train a network on the packaged digits."""
    architecture = ARCHITECTURES[name]
    digits = data.load("mnist-subset", "train")
    # The tree takes a tenth of the time, and its maximum serves all forms alike.
    tree = MaxPool2d(2, method="tree")
    layers = [tree if isinstance(layer, MaxPool2d) else layer for layer in architecture.layers(10)]
    shape = architecture.input_shape()
    net = Network(layers, prior=GaussianPrior(0.2), seed=seed, input_shape=shape)
    train(net, net.shaped(digits.x), digits.y, epochs=EPOCHS[name], seed=seed)
    return net


def _compared(prediction: Prediction, truth: Prediction) -> dict:
    mi, true_mi = prediction.mutual_information, truth.mutual_information
    logits = np.abs(prediction.logits.var / truth.logits.var - 1.0)
    return {
        "logit_variance_relative_error_median": float(np.median(logits)),
        "logit_variance_relative_error_max": float(logits.max()),
        "mi_error_max_nats": float(np.abs(mi - true_mi).max()),
        "labels_changed": int((prediction.labels != truth.labels).sum()),
        "auroc_mi_change": _auroc(prediction) - _auroc(truth),
    }


def _auroc(prediction: Prediction) -> float:
    digits, garments = np.split(prediction.mutual_information, 2)
    return auroc(digits, garments)[0]


def _draw(networks: dict, counts: dict, path: Path) -> None:
    fig, ((left, middle, right),) = figure(3)
    places = np.arange(len(BLOCKS))
    for ax, (name, numbers) in zip((left, middle), networks.items(), strict=True):
        forms = numbers["forms"].values()
        for key, marker, colour, label in (
            ("bound", "--", GREY, "bound (1 + u)ᵏ − 1"),
            ("variance_relative_error_max", "o-", AMBER, "greatest"),
            ("variance_relative_error_median", "o-", BLUE, "median"),
        ):
            ax.semilogy(places, [f[key] for f in forms], marker, ms=4, color=colour, label=label)
        ax.set_xticks(places, [*BLOCKS], rotation=25, ha="right")
        ax.set(ylabel="relative error of a variance", ylim=(1e-6, 2.0), title=NETWORKS[name])
        ax.legend(fontsize=8, loc="upper left")
    shown = {name: counts[name] for name in ("float32", *BLOCKS) if name in counts}
    for place, (name, count) in enumerate(shown.items()):
        right.barh(place, count["all"], 0.6, color=GREY if name == "float32" else GREEN)
        right.barh(place, count["multiply_adds"], 0.6, color="black", alpha=0.3)
        right.text(count["all"], place, f" {count['all']:.2f}", va="center", fontsize=8)
    right.set_yticks(range(len(shown)), [*shown])
    right.invert_yaxis()
    right.margins(x=0.15)
    title = f"variances {half_kernel.N_IN}→{half_kernel.N_OUT}, emulated A76"
    right.set_title(title if shown else "no emulated core (extra `arm`)")
    right.set_xlabel("instructions a product, multiply-adds dark")
    save(fig, path)


def as_text(numbers: dict) -> str:
    """Format the table: a line for every network and form."""
    counts = numbers["instructions_a_product"]
    rows = [
        {
            "network": NETWORKS[name],
            "form": form,
            "variance, median": f"{f['variance_relative_error_median']:.1e}",
            "greatest": f"{f['variance_relative_error_max']:.1e}",
            "bound": f"{f['bound']:.1e}",
            "logits, greatest": f"{f['logit_variance_relative_error_max']:.1e}",
            "MI, nats": f"{f['mi_error_max_nats']:.1e}",
            "labels": f["labels_changed"],
            "AUROC": f"{f['auroc_mi_change']:+.1e}",
            "instructions": f"{counts[form]['all']:.2f}" if counts else "-",
        }
        for name, network in numbers["networks"].items()
        for form, f in network["forms"].items()
    ]
    others = [f"{name} {counts[name]['all']:.2f}" for name in counts if name not in BLOCKS]
    last = [f"instructions a product: {'; '.join(others)}"] if counts else []
    return "\n".join([tabulate(rows, headers="keys", disable_numparse=True), *last])
