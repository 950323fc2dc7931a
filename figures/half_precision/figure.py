"""Variances in half precision: what they cost in accuracy, and what Cortex-A76 gains by them.

The A76 multiplies and adds eight halves in one instruction, four numbers of float32; it has none
that multiplies halves and adds in float32 (FMLAL, of later cores). Means cancel, and decide labels:
they stay in float32. No term of a variance is negative, so half precision keeps relative accuracy:

    Σ E[x²] σ²  of known inputs;      Σ E[x²] σ² + Σ Var[x] µ²  of random ones.

Why a scale. Half's normal numbers reach from 2⁻¹⁴ to 65504. Below that a number loses bits, below
2⁻²⁵ all of them; σ = 1.7e-4 is there, and squares of activations may be above. So each array is
multiplied by a power of two, which rounds nothing and brings its greatest entry into [1/2, 1]: for
weights once, for activations once an image and layer (a maximum that a kernel would have to find).
`figures.half_precision.sums` has forms, bounds, emulation. The two networks here do not need it: σ²
is above 2⁻¹⁴, half of a first layer's µ² is below and a third still is when scaled
(`share_below_normal`), but these count little, and without scale the errors are the same
(`stored_without_scale`). It is for networks that are not at hand.

Shown: relative errors of the variances that leave a dense layer or convolution, all layers
together, against float64 from the same inputs. By form: halves only stored, and summed in float32;
summed in half in blocks, the blocks in float32; one sum in half. For 784-100-100-10 and LeNet-5,
trained on the packaged digits, 200 digits and 200 garments; all but the products of variances is
float64, so that nothing else is seen. Dashed: the bound of the longest sum, (1 + u)ᵏ − 1, without
what underflow may add. Right, executed instructions a product of kernels of the variance alone,
known inputs, batch 1, on an emulated A76 (`figures.half_precision.kernel`; the extra `arm`): no
times. Table: also what reaches logits, mutual information, labels, and the AUROC of garments by it.

Conclusion: not worth it, and not in `kernels`. Blocks of 32 take half the instructions of a
variance in float32, 0.23 a product in place of 0.44; with the mean, which stays in float32, that is
a fifth less of a first layer, 0.43 + 0.23 (two loops, added) in place of 0.82 (one), and 6 bytes a
weight in place of 8. By multiply-adds alone, counted and not measured: 0.375 in place
of 0.5 for known inputs, 0.5 in place of 0.75 for random ones, which take a third array for µ². It
costs two to three digits: variances to 6e-3 at worst and 1e-4 in the median, where kernels hold
1e-5. Blocks of 8 keep 1.5e-3 for 0.28 instructions. Predictions hardly notice: no label of 400
changes, mutual information by 1.5e-4 nats, AUROC by 1e-4, far below its standard error. Stored
halves save memory alone: converting them, 0.62 instructions, takes more than it saves. One sum
gains next to nothing over blocks, and is the worst.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from figures.half_precision import kernel as half_kernel
from figures.half_precision.layers import Run, below_normal
from figures.style import AMBER, BLUE, GREEN, GREY, figure, save
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
ONE_SUM = 1 << 16  # a block longer than any sum
BLOCKS = {"stored": 0, "blocks of 8": 8, "blocks of 32": 32, "blocks of 128": 128, "one": ONE_SUM}


def steps() -> int:
    """How often `make` ticks."""
    return len(NETWORKS) * (1 + len(BLOCKS)) + 1


def make(folder: Path, seed: int, mc_samples: int, tick: Callable[[str], None]) -> dict:
    """Save the picture, print the table, return the numbers; `mc_samples` is not used."""
    networks = {name: _measured(name, seed, tick) for name in NETWORKS}
    counts = half_kernel.instructions_a_product(BLOCKS)
    tick("half precision: instructions")
    _draw(networks, counts, folder / "half_precision.png")
    numbers = {"networks": networks, "instructions_a_product": counts}
    tqdm.write(as_text(numbers))
    return numbers


def _measured(name: str, seed: int, tick: Callable[[str], None]) -> dict:
    """All forms on one trained network."""
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
        "share_below_normal": below_normal(net, x),
        "stored_without_scale": unscaled.numbers(),
        "forms": forms,
    }


def trained(name: str, seed: int) -> Network:
    """A network trained on the packaged digits."""
    architecture = ARCHITECTURES[name]
    digits = data.load("mnist-subset", "train")
    # The tree, a tenth of the time: the maximum is the same for all forms.
    tree = MaxPool2d(2, method="tree")
    layers = architecture.layers(10)
    net = Network(
        [tree if isinstance(layer, MaxPool2d) else layer for layer in layers],
        prior=GaussianPrior(0.2),
        seed=seed,
        input_shape=architecture.input_shape(),
    )
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
    right.set(
        xlabel="instructions a product, multiply-adds dark",
        title=f"variances {half_kernel.N_IN}→{half_kernel.N_OUT}, emulated A76"
        if shown
        else "no emulated core (extra `arm`)",
    )
    save(fig, path)


def as_text(numbers: dict) -> str:
    """The table: a line for every network and form."""
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
