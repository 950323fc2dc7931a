"""Latencies of several functions, comparable with each other.

Functions are timed in turns, round after round, so that a slow spell of the machine falls on all of
them. The median over rounds leaves such spells out. Each round has another order: where other
programs take turns on the core too, one function would otherwise meet them every time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from statistics import median
from timeit import Timer
from typing import TYPE_CHECKING, TypeVar

from refbnn.errors import InputError

if TYPE_CHECKING:
    from kernels.program.kernel import Kernel

Name = TypeVar("Name", bound=Hashable)
Statistic = Callable[[list[float]], float]

_TURN = 2e-3  # seconds of one turn at least: far above the timer's resolution
_BUDGET = 2.0  # seconds for one function in all, as long as _FEWEST turns fit
_FEWEST = 3


def latency(
    functions: Mapping[Name, Callable[[], object]], repeats: int = 31, statistic: Statistic = median
) -> dict[Name, float]:
    """Time one call of each function: seconds by name, the median over turns.

    Parameters
    ----------
    functions : mapping of a name to a callable without arguments
    repeats : int
        Turns of each function. A function whose turns take more than two seconds in all gets
        fewer, but three at least.
    statistic : callable
        Taken over the turns in place of the median.
    """
    measures, turn_seconds = {}, {}
    for name, function in functions.items():
        timer = Timer(function)
        once = timer.timeit(1)  # warms caches up, and loads what loads at first use
        if once < _BUDGET:
            once = max(timer.timeit(1), 1e-9)
        calls = max(1, round(_TURN / once))
        measures[name] = partial(_seconds_per_call, timer, calls)
        turn_seconds[name] = calls * once
    return _in_turns(measures, turn_seconds, repeats, statistic)


def on_device(
    kernels: Mapping[Name, Kernel], repeats: int = 31, statistic: Statistic = median
) -> dict[Name, float]:
    """Time one run of each kernel on its inputs as they stand, by the clock of its device.

    The time excludes the call from Python, and the way to a board and back. Parameters and result
    are those of `latency`.

    Raises
    ------
    InputError
        If a device has no clock, as the emulated core, which counts instructions instead.
    """
    measures = {}
    for name, kernel in kernels.items():
        if kernel.time is None:
            raise InputError("kernel: this device has no clock; expected 'local' or 'rpc'")
        measures[name] = kernel.time
    turn_seconds = {name: max(measure(), _TURN) for name, measure in measures.items()}
    return _in_turns(measures, turn_seconds, repeats, statistic)


def _seconds_per_call(timer: Timer, calls: int) -> float:
    return timer.timeit(calls) / calls


def _in_turns(
    measures: Mapping[Name, Callable[[], float]],
    turn_seconds: Mapping[Name, float],
    repeats: int,
    statistic: Statistic,
) -> dict[Name, float]:
    """Repeat each measurement as often as the budget allows; the statistic of its values."""
    turns = {n: max(_FEWEST, min(repeats, int(_BUDGET / s))) for n, s in turn_seconds.items()}
    times: dict[Name, list[float]] = {name: [] for name in measures}
    order = list(measures)
    shuffle = random.Random(0).shuffle
    for turn in range(max(turns.values(), default=0)):
        shuffle(order)
        for name in order:
            if turn < turns[name]:
                times[name].append(measures[name]())
    return {name: statistic(values) for name, values in times.items()}
