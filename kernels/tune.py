"""Tuning: search an operator's decisions for the fastest, with TVM's Meta Schedule.

Space
-----
A step's space is a few small integers (`Step.space`), each a categorical sample of Meta Schedule;
its schedule function turns them into a schedule, by hand and tuned alike. Meta Schedule's builder
compiles a candidate in a process of its own (`kernels.tuning.building`), its runner measures it in
another (`kernels.tuning.measuring`): what hangs or dies there counts as a failure, not here. Which
candidates are measured says `kernels.tuning.search`.

Choice
------
One measurement is off by some per cent now and then: the fastest of many is mostly a lucky one. So
the best few are measured again in turns with those by hand (`kernels.bench`), these twice over, and
replace them only where they are faster by more than the two copies differ.

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

from kernels import bench, devices, records
from kernels.kernel import Kernel, bind
from kernels.program import Program, Step
from kernels.records import Record
from kernels.tuning.building import sampled
from kernels.tuning.journal import Journal
from kernels.tuning.measuring import measured
from kernels.tuning.search import BEST, Seconds, by_hand, candidates, named
from refbnn.errors import InputError

_ROUND = 16  # candidates between two savings
_MARGIN = 0.01  # gain that is worth another schedule


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
) -> Record:
    """Search the decisions of one step, and keep a record.

    Parameters
    ----------
    program : Program
        Of the operator by itself, for this machine.
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

    Returns
    -------
    Record
        An earlier one, where that was found with as many trials.

    Raises
    ------
    InputError
        If a file is corrupt or cannot be written, or this machine cannot run the program.
    """
    target = program.target
    devices.find("local", target)  # before the work, not after it
    _make(folder)
    file = records.path(folder, target)
    wanted = n_candidates(step, trials)
    for record in records.read(file):
        same = (record.workload, record.processor) == (step.workload, records.processor(target))
        if same and record.trials >= wanted and records.fits(record.decisions, step.space):
            tick(wanted)
            return record
    journal = Journal(folder, step, target)
    seconds = journal.read()
    tick(min(len(seconds), wanted))
    rng = np.random.default_rng([seed, *step.workload.encode()])
    while len(seconds) < wanted:
        points = list(islice(candidates(step, seconds, rng, wanted), _ROUND))
        found = measured(program, step, points)
        seconds |= found
        journal.write(seconds)
        tick(len(found))
    record = _choice(program, step, seconds)
    records.keep(record, file)
    journal.clear()
    return record


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; expected a folder for records") from None


def _choice(program: Program, step: Step, seconds: Seconds) -> Record:
    """Measure the best again, and those by hand; a record of the fastest."""
    rng = np.random.default_rng(0)
    hand = by_hand(step)
    ranked = sorted(seconds, key=seconds.__getitem__)
    best = [p for p in ranked if p != hand and np.isfinite(seconds[p])][:BEST]
    kernels: dict[object, Kernel] = {}
    for key, point in [("hand", hand), ("hand again", hand), *((p, p) for p in best)]:
        kernel = bind(program, sampled(program, step, point).mod)
        for view in kernel.inputs:
            view[...] = rng.random(view.shape)
        kernels[key] = kernel
    # The least of many turns: another program on the core can only add to it.
    times = bench.latency({key: kernel.run for key, kernel in kernels.items()}, statistic=min)
    hand_seconds = min(times["hand"], times["hand again"])
    spread = abs(times["hand"] - times["hand again"]) / hand_seconds
    chosen = min(best, key=lambda point: times[point], default=hand)
    if chosen == hand or times[chosen] > hand_seconds * (1.0 - max(_MARGIN, spread)):
        chosen, fastest = hand, hand_seconds
    else:
        fastest = times[chosen]
    return Record(
        workload=step.workload,
        processor=records.processor(program.target),
        decisions=named(step, chosen),
        seconds=float(f"{fastest:.4g}"),
        seconds_by_hand=float(f"{hand_seconds:.4g}"),
        trials=len(seconds),
        tvm=tvm.__version__,
    )
