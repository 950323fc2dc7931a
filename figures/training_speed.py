"""Benchmark: milliseconds of one training step, compared with Pyro and bayesian-torch.

Shown: medians of float32 steps (sample the weights, forward, backward, KL, Adam) of 128 images with
one posterior sample and a Gaussian mean field, for MLP 784-100-100-10 and LeNet-5; once with one
thread and once with as many as the machine has. The tools take turns in one process, so that other
work on the machine slows all of them alike. A turn begins with a pause and a few steps that do not
count: threads of a tool still spin for some 30 ms after its last step and would slow the next tool.
Each tool runs with its defaults: Pyro checks what is sampled, a quarter of its time. Tools that are
not installed (extra `peers`) are named as absent.

What to look for: the ratios. Milliseconds depend on the machine and the hour; no test depends on
them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import sleep
from timeit import Timer

import numpy as np
from tabulate import tabulate
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from figures.support import training_peers
from figures.support.style import BLUE, GREEN, ORANGE, figure, legend_below, save
from figures.support.training_peers import Step
from refbnn.network.architectures import ARCHITECTURES
from refbnn.network.network import Network
from refbnn.numerics.random.streams import stream
from refbnn.training.run import Options, Training

_BATCH, _N_DATA, _CLASSES = 128, 60_000, 10
TURNS = 8  # of each tool
_WARM_UP, _STEPS = 3, 10  # steps of a turn: first those that do not count
_PAUSE = 0.1  # seconds
_OURS = "refbnn"
_NETWORKS = {"mlp": "MLP 784-100-100-10", "lenet5": "LeNet-5"}
_COLOURS = {_OURS: BLUE, "Pyro": ORANGE, "bayesian-torch": GREEN}
_THREADS = sorted({1, len(os.sched_getaffinity(0))})
STEPS = len(_NETWORKS) * len(_THREADS)  # calls of `tick`


def make(folder: Path, seed: int, mc_samples: int, tick: Callable[[str], None]) -> dict:
    """Save the picture, print the table and return the numbers."""
    cases = []
    for network in _NETWORKS:
        for threads in _THREADS:
            training_peers.set_threads(threads)
            with threadpool_limits(1, "blas"):  # refbnn splits the batch, not each product
                times = _milliseconds(_calls(network, threads, seed))
            cases.append({"network": network, "threads": threads, "step_ms": times})
            tick(f"training: {network}, {threads} threads")
    _draw(cases, folder / "training_speed.png")
    numbers = {
        "batch_size": _BATCH,
        "steps": TURNS * _STEPS,
        "absent": training_peers.absent(),
        "cases": cases,
    }
    tqdm.write(as_text(numbers))
    return numbers


def _calls(network: str, threads: int, seed: int) -> dict[str, Step]:
    """One training step of every tool."""
    chosen = ARCHITECTURES[network]
    rng = stream(seed, "training speed")
    x = rng.random((_BATCH, *chosen.input_shape()), dtype=np.float32)
    y = rng.integers(0, _CLASSES, _BATCH)
    net = Network(chosen.layers(_CLASSES), input_shape=chosen.input_shape(), seed=seed)
    options = Options(
        learning_rate=training_peers.LEARNING_RATE, batch_size=_BATCH, seed=seed, threads=threads
    )
    ours: Step = partial(Training(net, options).step, x, y, _N_DATA, 0.0)
    return {_OURS: ours} | training_peers.steps(net.layers, x, y, _N_DATA)


def _milliseconds(calls: dict[str, Step]) -> dict[str, dict[str, float]]:
    """Median and quartiles of one call of each tool."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(TURNS):
        for name, call in calls.items():
            sleep(_PAUSE)
            times[name] += Timer(call).repeat(_WARM_UP + _STEPS, number=1)[_WARM_UP:]
    names = ("median", "lower_quartile", "upper_quartile")
    quartiles = {name: 1e3 * np.quantile(t, (0.5, 0.25, 0.75)) for name, t in times.items()}
    return {name: dict(zip(names, q.tolist(), strict=True)) for name, q in quartiles.items()}


def as_text(numbers: dict) -> str:
    """Format the table for a terminal."""
    words = "{median:.2f} ({lower_quartile:.2f} to {upper_quartile:.2f})"
    rows = []
    for case in numbers["cases"]:
        steps = [case["step_ms"].get(name) for name in _COLOURS]
        cells = [words.format(**times) if times else "absent" for times in steps]
        rows.append([f"{_NETWORKS[case['network']]}, {_counted(case['threads'])}", *cells])
    return tabulate(rows, ["one training step, ms (quartiles)", *_COLOURS])


def _counted(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}"


def _draw(cases: list[dict], path: Path) -> None:
    fig, (row,) = figure(len(_NETWORKS), panel=(4.6, 2.8))
    height = 0.8 / len(_COLOURS)
    for axes, (network, title) in zip(row, _NETWORKS.items(), strict=True):
        own = [case for case in cases if case["network"] == network]
        for i, (name, colour) in enumerate(_COLOURS.items()):
            for place, case in enumerate(own):
                y = place + (i - 1) * height
                label = name if place == 0 and axes is row[0] else None
                if name not in case["step_ms"]:
                    axes.text(0.0, y, f" {name}: not installed", va="center", fontsize=8)
                    continue
                t = case["step_ms"][name]
                ends = [[t["median"] - t["lower_quartile"]], [t["upper_quartile"] - t["median"]]]
                axes.barh(y, t["median"], height, color=colour, label=label, xerr=ends)
                axes.text(t["upper_quartile"], y, f" {t['median']:.3g}", va="center", fontsize=8)
        axes.set_yticks(range(len(own)), [_counted(case["threads"]) for case in own])
        axes.set_ylim(len(own) - 0.5, -0.5)
        axes.margins(x=0.12)
        axes.set(title=title, xlabel=f"ms for a step of {_BATCH} images, median and quartiles")
    legend_below(fig, row[0])
    save(fig, path)
