"""Milliseconds of one training step, beside Pyro and bayesian-torch: a benchmark.

Shown: medians of float32 steps of 128 images, one posterior sample, Gaussian mean field: sample the
weights, forward, backward, KL, Adam. Networks: MLP 784-100-100-10 and LeNet-5. The tools take turns
in one process, so that other work on the machine falls on all alike; once with one thread and once
with as many as the machine has. A turn begins with a pause and a few steps that do not count: the
threads of one tool still spin for some 30 ms after its last step, and would hold up the next one's.
Each tool runs as it is by default: Pyro checks what is sampled, which is a quarter of its time.
Tools that are not installed (extra `peers`) are named as absent.

What to look for: the ratios. Milliseconds belong to the machine and the hour; nothing in the tests
depends on them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from figures import training_peers
from figures.style import BLUE, GREEN, ORANGE, figure, save
from figures.training_peers import Step
from refbnn.cli.malloc import keep_freed_memory
from refbnn.network.architectures import ARCHITECTURES
from refbnn.network.network import Network
from refbnn.numerics.random.streams import stream
from refbnn.training.run import Options, Training

_BATCH, _N_DATA, _CLASSES = 128, 60_000, 10
_TURNS, _WARM_UP, _STEPS, _PAUSE = 8, 3, 10, 0.1  # the last in seconds
_OURS = "refbnn"
_NETWORKS = {"mlp": "MLP 784-100-100-10", "lenet5": "LeNet-5"}
_COLOURS = {_OURS: BLUE, "Pyro": ORANGE, "bayesian-torch": GREEN}


def _threads() -> list[int]:
    return sorted({1, len(os.sched_getaffinity(0))})


def steps() -> int:
    """How often `make` ticks."""
    return len(_NETWORKS) * len(_threads())


def make(folder: Path, seed: int, mc_samples: int, tick: Callable[[str], None]) -> dict:
    """Save the picture, print the table, return the numbers; `mc_samples` is not used."""
    numbers = measure(folder, seed, tick, _TURNS)
    tqdm.write(as_text(numbers))
    return numbers


def measure(folder: Path, seed: int, tick: Callable[[str], None], turns: int) -> dict:
    """As `make`, with so many turns of each tool."""
    keep_freed_memory()  # as `refbnn train` does
    cases = []
    for network in _NETWORKS:
        for threads in _threads():
            training_peers.set_threads(threads)
            with threadpool_limits(1, "blas"):  # ours: parts of the batch, not of a product
                times = _milliseconds(_calls(network, threads, seed), turns)
            cases.append({"network": network, "threads": threads, "step_ms": times})
            tick(f"training: {network}, {threads} threads")
    _draw(cases, folder / "training_speed.png")
    return {
        "batch_size": _BATCH,
        "steps": turns * _STEPS,
        "absent": training_peers.absent(),
        "cases": cases,
    }


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


def _milliseconds(calls: dict[str, Step], turns: int) -> dict[str, dict[str, float]]:
    """Median and quartiles of one call of each."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            sleep(_PAUSE)
            of_turn = [_timed(call) for _ in range(_WARM_UP + _STEPS)]
            times[name] += of_turn[_WARM_UP:]
    return {name: _summary(of_call) for name, of_call in times.items()}


def _timed(call: Step) -> float:
    begin = perf_counter()
    call()
    return 1e3 * (perf_counter() - begin)


def _summary(times: list[float]) -> dict[str, float]:
    low, high = np.quantile(times, (0.25, 0.75))
    return {"median": median(times), "lower_quartile": float(low), "upper_quartile": float(high)}


def as_text(numbers: dict) -> str:
    """The table, to print."""
    lines = [f"{'one training step, ms (quartiles)':40}" + "".join(f"{n:>26}" for n in _COLOURS)]
    for case in numbers["cases"]:
        threads = case["threads"]
        cells = []
        for name in _COLOURS:
            if name in case["step_ms"]:
                t = case["step_ms"][name]
                quartiles = f"({t['lower_quartile']:.2f} to {t['upper_quartile']:.2f})"
                cells.append(f"{t['median']:.2f} {quartiles}")
            else:
                cells.append("absent")
        title = f"{_NETWORKS[case['network']]}, {threads} thread{'s' * (threads > 1)}"
        lines.append(f"{title:40}" + "".join(f"{cell:>26}" for cell in cells))
    return "\n".join(lines)


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
        threads = [case["threads"] for case in own]
        axes.set_yticks(range(len(own)), [f"{n} thread{'s' * (n > 1)}" for n in threads])
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set(title=title, xlabel=f"ms for a step of {_BATCH} images, median and quartiles")
    fig.legend(loc="outside lower center", ncols=len(_COLOURS), fontsize=9)
    save(fig, path)
