"""Latencies of several functions, comparable with each other.

Functions are timed in turns, round after round: a slow spell of the machine then falls on all of
them and not on one. The median over rounds leaves such spells out. Each round has another order:
where other programs take turns on the core too, the same function would meet them every time.
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

_TURN = 2e-3  # seconds of one turn at least: far above the timer's resolution
_BUDGET = 2.0  # seconds for one function in all, as long as _FEWEST turns fit
_FEWEST = 3


def latency(
    functions: Mapping[Name, Callable[[], object]],
    repeats: int = 31,
    statistic: Callable[[list[float]], float] = median,
) -> dict[Name, float]:
    """Median time of one call of each function.

    Parameters
    ----------
    functions : mapping of a name to a callable without arguments
    repeats : int
        Turns of each function. One so slow that these take more than two seconds gets fewer, but
        three at least.
    statistic : callable
        Of the turns, in place of the median.

    Returns
    -------
    dict
        Seconds, by name.
    """
    timers = {name: Timer(function) for name, function in functions.items()}
    calls, turns = {}, {}
    for name, timer in timers.items():
        once = timer.timeit(1)  # warms caches up, and loads what loads at first use
        if once < _BUDGET:
            once = max(timer.timeit(1), 1e-9)
        calls[name] = max(1, round(_TURN / once))
        turns[name] = max(_FEWEST, min(repeats, int(_BUDGET / (calls[name] * once))))

    return _in_turns(
        {name: partial(_of_one_call, timer, calls[name]) for name, timer in timers.items()},
        turns,
        statistic,
    )


def on_device(
    kernels: Mapping[Name, Kernel],
    repeats: int = 31,
    statistic: Callable[[list[float]], float] = median,
) -> dict[Name, float]:
    """Median time of one run of each kernel, by the clock of the device where it is.

    Without the call from Python, and without the way to a board and back.

    Parameters
    ----------
    kernels : mapping of a name to a Kernel
        Measured on their inputs as they stand.
    repeats, statistic
        As in `latency`.

    Returns
    -------
    dict
        Seconds, by name.

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
    first = {name: max(measure(), _TURN) for name, measure in measures.items()}
    turns = {name: max(_FEWEST, min(repeats, int(_BUDGET / s))) for name, s in first.items()}
    return _in_turns(measures, turns, statistic)


def _of_one_call(timer: Timer, calls: int) -> float:
    return timer.timeit(calls) / calls


def _in_turns(
    measures: Mapping[Name, Callable[[], float]],
    turns: Mapping[Name, int],
    statistic: Callable[[list[float]], float],
) -> dict[Name, float]:
    """The statistic of so many measurements of each."""
    times: dict[Name, list[float]] = {name: [] for name in measures}
    order = list(measures)
    shuffle = random.Random(0).shuffle
    for turn in range(max(turns.values(), default=0)):
        shuffle(order)
        for name in order:
            if turn < turns[name]:
                times[name].append(measures[name]())
    return {name: statistic(values) for name, values in times.items()}
