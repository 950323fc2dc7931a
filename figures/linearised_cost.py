"""Error of uncertainty against its cost: linearised propagation beside other ways.

784-100-100-10 and LeNet-5 are trained on the packaged digits. The truth for 100 digits and 100
garments are 10,000 passes of sampled weights. Errors are shown for the garments: the root mean
square of the logarithm of a logit's variance over the sampled one, and the mean absolute difference
of the mutual information (MI). The means alone have no variance, and an MI of 0. Errors of N passes
are averages over up to ten sets of N. Dotted is the error of the truth itself: half of the
difference of its two halves.

Costs of one input: multiply-adds by formula (`figures.support.multiply_adds`); microseconds of the
compiled kernels at batch 1, by hand, in turns in one run on one core, without the call from Python
and without the probabilities; instructions that they execute on an emulated Cortex-A72 (extra
`arm`), for sampling those of ten passes in proportion. Kernels take the garment with the median
number of zeros, which a first dense layer leaves out; the formula counts them. Full covariances
have no kernel, and behind convolutions no reference either.

To look for: in 784-100-100-10 linearised propagation is as accurate as the truth can tell, for 1.6
times the instructions of the diagonal one and 1/300 of those of ten passes. In LeNet-5 it stands
between 100 and 1000 passes, for 3.5 times the diagonal's instructions and a ninth of those of ten
passes; most of it is the Jacobian of ten outputs by images. In multiply-adds alone passes look
cheaper: drawing weights takes most instructions of a pass. With samples drawn ahead of time and
stored, a pass would cost as much as the means, and N passes the memory of N networks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from operator import add
from pathlib import Path

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter
from tabulate import tabulate
from tqdm import tqdm

from figures.support import multiply_adds
from figures.support.half_precision.kernel import absent
from figures.support.style import BLUE, GREEN, GREY, ORANGE, PINK, figure, legend_below, save
from kernels import compile_network, compile_sampled
from kernels.bench.inputs import evenly_by_zeros
from kernels.bench.latency import on_device
from kernels.program.compiled import CompiledNetwork
from refbnn import Network, data, train
from refbnn.network.architectures import ARCHITECTURES
from refbnn.numerics.random.streams import stream
from refbnn.prediction import covariance
from refbnn.prediction.accumulation import OutputSums
from refbnn.prediction.covariance.propagation import obstacle
from refbnn.prediction.result import Prediction
from refbnn.prediction.softmax import by_quadrature, by_table

NETWORKS = {"mlp": "784-100-100-10", "lenet5": "LeNet-5"}
EPOCHS = {"mlp": 15, "lenet5": 10}
PASSES = (10, 30, 100, 1000)
INPUTS = 100  # digits, and as many garments
TRUTH, BLOCK = 10_000, 100  # passes, and those of one call
_COUNTED, _SETS = 10, 10  # passes that are counted on the emulated core; sets of passes
_KINDS = {
    "mean": (GREY, "s", "means alone"),
    "diagonal": (BLUE, "o", "diagonal (PFP)"),
    "linearised": (ORANGE, "D", "linearised"),
    "full": (GREEN, "^", "full covariance"),
    "passes": (PINK, ".", "10, 30, 100, 1000 passes"),
}
_COSTS = {
    "multiply_adds": "multiply-adds",
    "microseconds": "µs on one core, batch 1",
    "instructions": "instructions, Cortex-A72",
}
_ERRORS = {
    "variance_rms_log": "rms log ratio of variances",
    "mi_mean_abs_difference_nats": "|ΔMI| (nats)",
}
_ROWS = {"digits": slice(0, INPUTS), "garments": slice(INPUTS, None)}
STEPS = 5 * len(NETWORKS)  # calls of `tick`


def make(folder: Path, seed: int, mc_samples: int, tick: Callable[[str], None]) -> dict:
    """Save the pictures, print the table and return the numbers."""
    networks = {name: _measured(name, seed, tick) for name in NETWORKS}
    for kind in ("png", "svg"):
        _draw(networks, folder / f"linearised_cost.{kind}")
    numbers = {"passes_of_truth": TRUTH, "inputs": INPUTS, "epochs": EPOCHS, "networks": networks}
    tqdm.write(as_text(numbers))
    return numbers


def _measured(name: str, seed: int, tick: Callable[[str], None]) -> dict:
    architecture, digits = ARCHITECTURES[name], data.load("mnist-subset", "train")
    net = Network(architecture.layers(10), seed=seed, input_shape=architecture.input_shape())
    train(net, net.shaped(digits.x), digits.y, epochs=EPOCHS[name], seed=seed)
    tick(f"linearised cost: training of {name}")
    tests = [data.load(of, "test").x[:INPUTS] for of in ("mnist-subset", "fashion-subset")]
    x = net.shaped(np.concatenate(tests)).astype(float)
    halves, few = _passes(net, x, seed)
    tick(f"linearised cost: passes of {name}")
    errors = _errors(net, x, halves, few)
    tick(f"linearised cost: errors of {name}")
    garments = x[_ROWS["garments"]]
    one = garments[evenly_by_zeros(garments, 1)]
    times = microseconds(net, one)
    tick(f"linearised cost: times of {name}")
    counts = instructions(net, one)
    tick(f"linearised cost: instructions of {name}")
    products = multiply_adds.count(net, 10)
    costs: dict[str, dict] = {kind: {} for kind in errors if kind != "truth"}
    for kind, cost in costs.items():
        n = int(kind.removeprefix("passes_")) if kind.startswith("passes_") else None
        cost["multiply_adds"] = n * products.one_pass if n else getattr(products, kind)
        cost["microseconds"] = times.get(kind)
        cost["instructions"] = counts.get(kind)
    return {kind: errors[kind] | costs.get(kind, {}) for kind in errors}


def _passes(net: Network, x: np.ndarray, seed: int) -> tuple[list[OutputSums], np.ndarray]:
    """The two halves of the truth, and 1000 other passes (S, B, K)."""
    sampled, rng = compile_sampled(net, len(x), BLOCK), stream(seed, "linearised cost")

    def blocks(n: int) -> list[np.ndarray]:
        return [sampled(x, int(rng.integers(1 << 63))).astype(float) for _ in range(-(-n // BLOCK))]

    halves = [reduce(add, map(OutputSums.of_classes, blocks(TRUTH // 2))) for _ in range(2)]
    return halves, np.concatenate(blocks(max(PASSES)))


def _errors(net: Network, x: np.ndarray, halves: list[OutputSums], few: np.ndarray) -> dict:
    """Errors by method, those of the truth by its halves."""
    truth = reduce(add, halves).classes
    first, second = (half.classes for half in halves)
    result = {
        "mean": {
            "mi_mean_abs_difference_nats": _by_rows(np.abs(truth.mutual_information), np.mean)
        },
        "diagonal": _compared(by_quadrature(net.propagate(x)), truth),
        "linearised": _compared(by_table(net.propagate(x, method="linearised")), truth),
    }
    if obstacle(net) is None:
        result["full"] = _compared(by_table(covariance.propagate(net, x)), truth)
    for n in PASSES:
        sets = np.split(few[: n * min(_SETS, len(few) // n)], min(_SETS, len(few) // n))
        each = [_compared(OutputSums.of_classes(one).classes, truth) for one in sets]
        result[f"passes_{n}"] = {
            key: {rows: float(np.mean([one[key][rows] for one in each])) for rows in _ROWS}
            for key in _ERRORS
        }
    halved = _compared(first, second)
    result["truth"] = {k: {r: v / 2 for r, v in of.items()} for k, of in halved.items()}
    return result


def _compared(prediction: Prediction, truth: Prediction) -> dict[str, dict[str, float]]:
    log = np.log(prediction.logits.var / truth.logits.var)
    difference = np.abs(prediction.mutual_information - truth.mutual_information)
    return {
        "variance_rms_log": {k: v**0.5 for k, v in _by_rows(log**2, np.mean).items()},
        "mi_mean_abs_difference_nats": _by_rows(difference, np.mean),
    }


def _by_rows(values: np.ndarray, statistic: Callable) -> dict[str, float]:
    return {name: float(statistic(values[rows])) for name, rows in _ROWS.items()}


def microseconds(net: Network, x: np.ndarray) -> dict[str, float]:
    """Time the kernels in turns, by their own clock."""
    kernels = {kind: made.kernel for kind, made in _moments(net).items()}
    kernels |= {f"passes_{n}": compile_sampled(net, 1, n).kernel for n in PASSES}
    for kernel in kernels.values():
        kernel.inputs[-1][...] = x
    return {kind: 1e6 * seconds for kind, seconds in on_device(kernels).items()}


def instructions(net: Network, x: np.ndarray) -> dict[str, int]:
    """Count instructions on an emulated core; empty where there is none."""
    if absent():
        return {}
    target, device = "cortex-a72", "emulated"
    made = _moments(net, target, device)
    counts = {kind: one.instruction_count(x).total for kind, one in made.items()}
    sampled = compile_sampled(net, 1, _COUNTED, target, device=device)
    passes = sampled.instruction_count(x, 0).total
    return counts | {f"passes_{n}": passes * n // _COUNTED for n in PASSES}


def _moments(
    net: Network, target: str = "host", device: str = "local"
) -> dict[str, CompiledNetwork]:
    compiled = partial(compile_network, net, 1, target, device=device)
    return {
        "mean": compiled(form="mean"),
        "diagonal": compiled(),
        "linearised": compiled(method="linearised"),
    }


def _draw(networks: dict, path: Path) -> None:
    lines = [(name, error) for name in networks for error in _ERRORS]
    everything = [of for network in networks.values() for of in network.values()]
    costs = {key: label for key, label in _COSTS.items() if any(of.get(key) for of in everything)}
    fig, axes = figure(len(costs), len(lines), panel=(4.0, 2.6), sharex="col", sharey="row")
    for line, (name, error) in zip(axes, lines, strict=True):
        for ax, cost in zip(line, costs, strict=True):
            _draw_panel(ax, networks[name], cost, error)
        line[0].set_ylabel(_ERRORS[error])
        line[0].set_title(NETWORKS[name])
    for ax, label in zip(axes[-1], costs.values(), strict=True):
        ax.set_xlabel(label)
    legend_below(fig, axes[1][0], columns=6)
    save(fig, path)


def _draw_panel(ax, network: dict, cost: str, error: str) -> None:
    for kind, (colour, marker, label) in _KINDS.items():
        names = [f"passes_{n}" for n in PASSES] if kind == "passes" else [kind]
        points = [
            (n.removeprefix("passes_"), of[cost], of[error]["garments"])
            for n in names
            if error in (of := network.get(n, {})) and of[cost] is not None
        ]
        ax.plot(
            [at for _, at, _ in points], [e for *_, e in points],
            marker=marker, color=colour, label=label, ls="-" if kind == "passes" else "none",
        )  # fmt: skip
        for name, at, e in points if kind == "passes" else []:
            ax.annotate(name, (at, e), (4, 4), textcoords="offset points", fontsize=8)
    ax.axhline(network["truth"][error]["garments"], color="k", ls=":", label="error of the truth")
    ax.set(xscale="log", yscale="log")
    ax.margins(0.12)
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def as_text(numbers: dict) -> str:
    """Format the table: a line for every network and method."""
    rows = []
    for name, network in numbers["networks"].items():
        for kind, of in network.items():
            errors = [of[key]["garments"] if key in of else None for key in _ERRORS]
            rows.append([NETWORKS[name], kind, *(of.get(cost) for cost in _COSTS), *errors])
    header = ["network", "by", *_COSTS.values(), *_ERRORS.values()]
    return tabulate(rows, header, floatfmt=(*[""] * 2, ".0f", ".1f", ".0f", ".3f", ".4f"))
