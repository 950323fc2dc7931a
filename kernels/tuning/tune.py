"""Tuning: search an operator's decisions for the fastest, with TVM's Meta Schedule.

Measures
--------
Seconds, on this machine or on a board; or, without a board, proxy cycles of an emulated core:
executed instructions, weighted by a table of what that core can do in one cycle
(`kernels.devices.emulated_arm.costs`). Proxy cycles are no time, and wherever they show they are
called so.

Space
-----
A step's space is a few small integers (`Step.space`), each a categorical sample of Meta Schedule;
its schedule function turns them into a schedule, by hand and tuned alike. Meta Schedule's builder
compiles a candidate in a process of its own (`kernels.tuning.building`), its runner measures it in
another (`kernels.tuning.measuring`): what hangs or dies there counts as a failure, not here. Which
candidates are measured says `kernels.tuning.search`.

Choice
------
One measurement of time is off by some per cent now and then: the fastest of many is mostly a lucky
one. So the best few are measured again in turns with those by hand, these twice over, and replace
them only where they are faster by more than the two copies differ. By either measure, a gain of
less than one per cent is not worth another schedule.

Proxy cycles are the same every time. They leave out what it takes to fetch and decode: one wide
load in two instructions costs what it costs in one. So the best is chosen among those that execute
at most five per cent more instructions than by hand.

Interruption
------------
Every finished workload is saved at once, every round of an unfinished one in a `.jsonl` file
beside the records. A search that is begun again goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from math import prod
from pathlib import Path

import numpy as np
import tvm

from kernels import devices
from kernels.bench import latency as bench
from kernels.devices.emulated_arm.costs import throughput
from kernels.program import records
from kernels.program.kernel import Kernel, bind
from kernels.program.program import Program, Step
from kernels.program.records import Record
from kernels.tuning.building import TIMEOUT, sampled
from kernels.tuning.journal import Journal
from kernels.tuning.measuring import measure_of, measured
from kernels.tuning.search import BEST, Costs, Point, by_hand, candidates, named
from refbnn.errors import InputError

_ROUND = 16  # candidates between two savings
_MARGIN = 0.01  # gain that is worth another schedule
_MORE = 0.05  # instructions beyond those by hand, of a schedule found by proxy


def workloads(networks: Iterable[Program]) -> dict[str, tuple[Program, Step]]:
    """What is to be searched in networks, by workload: an operator's program, and a step of it."""
    return {
        step.workload: (program, step)
        for network in networks
        for _, alone in network.operators
        for program in [alone()]
        for step in program.steps
        if step.space
    }


def n_candidates(step: Step, trials: int) -> int:
    """How many are measured."""
    return min(trials, prod(len(values) for values in step.space.values()))


def tune(
    program: Program,
    step: Step,
    trials: int,
    folder: Path,
    seed: int = 0,
    tick: Callable[[int], object] = lambda n: None,
    device: str | devices.Board = "local",
) -> Record:
    """Search the decisions of one step, and keep a record.

    Parameters
    ----------
    program : Program
        Of the operator by itself, for a target that the device has.
    step : Step
        Of that program; its other steps are done by hand.
    trials : int
        Candidates to measure at most.
    folder : Path
        For the record; made where there is none.
    seed : int
        Of the candidates.
    tick : callable (n)
        Told how many candidates more are measured.
    device : {"local", "emulated", "rpc"} or Board
        Where candidates are measured, see `kernels.devices`.

    Returns
    -------
    Record
        An earlier one, where that was found with as many trials.

    Raises
    ------
    InputError
        If a file is corrupt or cannot be written, the device cannot run the program, or takes too
        long over it as scheduled by hand.
    """
    target = program.target
    devices.find(device, target)  # before the work, not after it
    if device == "rpc":
        device = devices.board_from_environment()
    measure = measure_of(device)
    if measure == records.PROXY_CYCLES:
        throughput(str(target.llvm["mcpu"]))
    _make(folder)
    file = records.path(folder, target)
    wanted = n_candidates(step, trials)
    known = step.workload, records.processor(target), measure
    for record in records.read(file):
        same = (record.workload, record.processor, record.measure) == known
        if same and record.trials >= wanted and records.fits(record.decisions, step.space):
            tick(wanted)
            return record
    journal = Journal(folder, step, target, measure)
    found = _searched(program, step, wanted, journal, seed, tick, device)
    if measure == records.SECONDS:
        chosen, cost, hand_cost = _fastest(program, step, found, device)
    else:
        chosen, cost, hand_cost = _fewest(program, step, found)
    record = Record(
        workload=step.workload,
        processor=records.processor(target),
        decisions=named(step, chosen),
        measure=measure,
        cost=float(f"{cost:.4g}"),
        cost_by_hand=float(f"{hand_cost:.4g}"),
        trials=len(found),
        tvm=tvm.__version__,
    )
    records.keep(record, file)
    journal.clear()
    return record


def _searched(
    program: Program,
    step: Step,
    wanted: int,
    journal: Journal,
    seed: int,
    tick: Callable[[int], object],
    device: str | devices.Board,
) -> Costs:
    """Measure as many candidates as wanted, those by hand among them; the rest as of `tune`."""
    found = journal.read()
    hand = by_hand(step)
    if found.get(hand) == np.inf:
        del found[hand]  # another try: without it there is no choice
    tick(min(len(found), wanted))
    rng = np.random.default_rng([seed, *step.workload.encode()])
    while len(found) < wanted:
        points = list(islice(candidates(step, found, rng, wanted), _ROUND))
        new = measured(program, step, points, device)
        found |= new
        journal.write(found)
        tick(len(new))
    if not np.isfinite(found[hand]):
        raise InputError(
            f"{step.workload}: by hand, it cannot be built and run within {TIMEOUT:g} s each; "
            "expected a smaller batch"
        )
    return found


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; expected a folder for records") from None


def _fewest(program: Program, step: Step, found: Costs) -> tuple[Point, float, float]:
    """The point with the fewest proxy cycles, its cost and that by hand."""
    hand = by_hand(step)

    def instructions(point: Point) -> int:
        kernel = bind(program, sampled(program, step, point).mod, "emulated")
        return kernel.instruction_count(*kernel.inputs).total

    fewer = [p for p in found if found[p] < found[hand] * (1.0 - _MARGIN)]
    most = (1.0 + _MORE) * instructions(hand) if fewer else 0.0
    ranked = sorted(fewer, key=found.__getitem__)
    chosen = next((point for point in ranked if instructions(point) <= most), hand)
    return chosen, found[chosen], found[hand]


def _fastest(
    program: Program, step: Step, found: Costs, device: str | devices.Board
) -> tuple[Point, float, float]:
    """Measure the best again, and those by hand; the fastest point, its time and that by hand."""
    rng = np.random.default_rng(0)
    hand = by_hand(step)
    ranked = sorted(found, key=found.__getitem__)
    best = [p for p in ranked if p != hand and np.isfinite(found[p])][:BEST]
    kernels: dict[object, Kernel] = {}
    for key, point in [("hand", hand), ("hand again", hand), *((p, p) for p in best)]:
        kernel = bind(program, sampled(program, step, point).mod, device)
        for view in kernel.inputs:
            view[...] = rng.random(view.shape)
        kernels[key] = kernel
    # The least of many turns: another program on the core can only add to it.
    times = bench.on_device(kernels, statistic=min)
    hand_time = min(times["hand"], times["hand again"])
    spread = abs(times["hand"] - times["hand again"]) / hand_time
    fastest = min(best, key=lambda point: times[point], default=hand)
    if fastest == hand or times[fastest] > hand_time * (1.0 - max(_MARGIN, spread)):
        return hand, hand_time, hand_time
    return fastest, times[fastest], hand_time
