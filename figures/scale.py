"""Benchmark: propagation beside the deterministic network by width, batch and depth.

Networks 784-W-10, 784-W-W-10 and 784-W-W-W-W-10, untrained: time depends on shapes, and on zeros of
the inputs. These are digits, evenly over their shares of zeros, and a single one is the median.
Kernels are scheduled by hand and timed on one core, without the call from Python. Where PyTorch is
installed (extra `peers`), its deterministic pass stands beside them, with its call. Calls take
turns in one run; medians.

What to look for: the ratio to the deterministic network. Propagation reads two numbers a weight
where the other reads one, and forms three products where it forms one. The ratio is highest where
one set of weights fits a cache and two do not. Seconds depend on the machine and the hour; no test
depends on them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from figures.support.style import AMBER, BLUE, GREY, ORANGE, figure, legend_below, save
from kernels import compile_network
from kernels.bench import peers
from kernels.bench.inputs import evenly_by_zeros
from kernels.bench.latency import latency, on_device
from refbnn import Network, data
from refbnn.layers import Dense, Layer, ReLU

WIDTHS, DEPTHS, BATCHES = (64, 128, 256, 512, 1024, 2048), (1, 2, 4), (1, 10, 256)
_MOST = 2**21 * 256  # weights times examples of one network
_TORCH = "PyTorch, deterministic"
_WAYS = {"mean": GREY, "PFP": BLUE, "linearised": ORANGE, _TORCH: AMBER}
STEPS = len(BATCHES)  # calls of `tick`


def make(folder: Path, seed: int, mc_samples: int, tick: Callable[[str], None]) -> dict:
    """Save the picture, print the table and return the numbers."""
    rows = []
    for batch in BATCHES:
        for depth in DEPTHS if batch == 1 else (2,):
            rows += [
                {"batch": batch, "depth": depth, "width": width, "seconds": seconds}
                for width in WIDTHS
                if (seconds := measured(width, depth, batch, seed)) is not None
            ]
        tick(f"scale: batch {batch}")
    for kind in ("png", "svg"):
        _draw(rows, folder / f"scale.{kind}")
    tqdm.write(as_text(rows))
    return {"networks": rows}


def measured(width: int, depth: int, batch: int, seed: int) -> dict[str, float] | None:
    """Seconds by way; None for a network that would take too long."""
    net = network(width, depth, seed)
    if sum(p.mean.size for p in net.parameters().values()) * batch > _MOST:
        return None
    x = digits(batch)
    compiled = partial(compile_network, net, batch)
    made = {"mean": compiled(form="mean"), "PFP": compiled()}
    if batch == 1:
        made["linearised"] = compiled(method="linearised")
    kernels = {name: one.kernel for name, one in made.items()}
    for kernel in kernels.values():
        kernel.inputs[0][...] = x
    seconds = on_device(kernels)
    others, _ = peers.calls(net, x.astype(np.float32), [_TORCH])
    return seconds | latency(others)


def network(width: int, depth: int, seed: int) -> Network:
    """784-W-…-10 with some hidden layers, all of one width."""
    layers: list[Layer] = []
    for n_in in [784, *[width] * (depth - 1)]:
        layers += [Dense(n_in, width), ReLU()]
    return Network([*layers, Dense(width, 10)], seed=seed)


def digits(batch: int) -> np.ndarray:
    """Digits (batch, 784), evenly over their shares of zeros."""
    x = data.load("mnist-subset", "test").x.reshape(-1, 784)
    return x[evenly_by_zeros(x, batch)]


def as_text(rows: list[dict]) -> str:
    """Format the table: a line for every network."""
    names = list(dict.fromkeys(name for row in rows for name in row["seconds"]))
    lines = []
    for row in rows:
        seconds = row["seconds"]
        times = [1e6 * seconds[name] if name in seconds else None for name in names]
        ratio = seconds["PFP"] / seconds["mean"]
        lines.append([row["batch"], row["depth"], row["width"], *times, ratio])
    header = ["batch", "hidden layers", "width", *(f"{name}, µs" for name in names), "PFP / mean"]
    formats = ("d", "d", "d", *[".1f"] * len(names), ".2f")
    return tabulate(lines, header, floatfmt=formats)


def _draw(rows: list[dict], path: Path) -> None:
    panels = list(dict.fromkeys((row["batch"], row["depth"]) for row in rows))
    fig, axes = figure(len(panels), panel=(3.2, 3.2), sharey=True)
    for ax, (batch, depth) in zip(axes[0], panels, strict=True):
        of = [row for row in rows if (row["batch"], row["depth"]) == (batch, depth)]
        for name, colour in _WAYS.items():
            points = [(r["width"], 1e6 * r["seconds"][name]) for r in of if name in r["seconds"]]
            if points:
                ax.plot(*zip(*points, strict=True), "o-", ms=4, color=colour, label=name)
        ax.set(xscale="log", yscale="log", xlabel="width", title=f"batch {batch}, {depth} hidden")
        ax.set_xticks(WIDTHS[::2], [str(w) for w in WIDTHS[::2]], minor=False)
        ax.minorticks_off()
    axes[0][0].set_ylabel("µs on one core")
    legend_below(fig, axes[0][0])
    save(fig, path)
