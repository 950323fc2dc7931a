"""Tuning: search an operator's decisions for the fastest, with TVM's Meta Schedule.

Measures
--------
Seconds, on this machine or on a board; or, without a board, proxy cycles of an emulated core:
executed instructions, weighted by what that core can do in one cycle
(`kernels.devices.emulated_arm.costs`). Proxy cycles do not measure time, and are never called so.

Space
-----
The space of a step is a few small integers (`Step.space`), each a categorical sample of Meta
Schedule. One schedule function turns them into a schedule, by hand and tuned alike. Meta Schedule's
builder compiles a candidate in a process of its own (`kernels.tuning.building`), its runner
measures it in another (`kernels.tuning.measuring`). `kernels.tuning.search` says which candidates
are measured, `kernels.tuning.choice` which of them is kept.

Interruption
------------
Every finished workload is saved at once, and every round of an unfinished one in a `.jsonl` file
beside the records. A search that is started again continues from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from math import prod
from pathlib import Path

import numpy as np
import tvm

from kernels import devices
from kernels.devices.emulated_arm.costs import throughput
from kernels.devices.targets import Target
from kernels.program import records
from kernels.program.program import Program, Step
from kernels.program.records import Record
from kernels.tuning.building import TIMEOUT
from kernels.tuning.choice import fastest, fewest_cycles
from kernels.tuning.journal import Journal
from kernels.tuning.measuring import measure_of, measured
from kernels.tuning.search import Costs, by_hand, candidates, decisions_at
from refbnn.errors import InputError

_ROUND = 16  # candidates between two savings


def workloads(networks: Iterable[Program]) -> dict[str, tuple[Program, Step]]:
    """List what can be searched in networks, by workload: the operator's program, and its step."""
    return {
        step.workload: (program, step)
        for network in networks
        for _, alone in network.operators
        for program in [alone()]
        for step in program.steps
        if step.space
    }


def n_candidates(step: Step, trials: int) -> int:
    """Count the candidates that are measured in so many trials."""
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
        The operator by itself, for a target that the device has.
    step : Step
        One step of that program; its other steps are done by hand.
    trials : int
        Candidates to measure at most.
    folder : Path
        Folder of the record; made if it does not exist.
    seed : int
        Seed of the candidates.
    tick : callable (n)
        Called with the number of candidates measured since the last call.
    device : {"local", "emulated", "rpc"} or Board
        Where candidates are measured, see `kernels.devices`.

    Returns
    -------
    Record
        An earlier one, if it was found with as many trials.

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
    wanted = n_candidates(step, trials)
    earlier = _earlier(step, target, measure, folder, wanted)
    if earlier is not None:
        tick(wanted)
        return earlier
    journal = Journal(folder, step, target, measure)
    costs = _searched(program, step, wanted, journal, seed, tick, device)
    record = _best(program, step, costs, device)
    records.keep(record, records.path(folder, target))
    journal.clear()
    return record


def _best(program: Program, step: Step, costs: Costs, device: str | devices.Board) -> Record:
    """Choose a candidate, and make its record."""
    measure = measure_of(device)
    if measure == records.SECONDS:
        chosen, cost, hand_cost = fastest(program, step, costs, device)
    else:
        chosen, cost, hand_cost = fewest_cycles(program, step, costs)
    return Record(
        workload=step.workload,
        processor=records.processor(program.target),
        decisions=decisions_at(step, chosen),
        measure=measure,
        cost=float(f"{cost:.4g}"),
        cost_by_hand=float(f"{hand_cost:.4g}"),
        trials=len(costs),
        tvm=tvm.__version__,
    )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; expected a folder for records") from None


def _earlier(step: Step, target: Target, measure: str, folder: Path, trials: int) -> Record | None:
    """Find a record in the folder that was found with as many trials."""
    wanted = step.workload, records.processor(target), measure
    for record in records.read(records.path(folder, target)):
        same = (record.workload, record.processor, record.measure) == wanted
        if same and record.trials >= trials and records.fits(record.decisions, step.space):
            return record
    return None


def _searched(
    program: Program,
    step: Step,
    wanted: int,
    journal: Journal,
    seed: int,
    tick: Callable[[int], object],
    device: str | devices.Board,
) -> Costs:
    """Measure as many candidates as wanted, those by hand among them; the rest as in `tune`."""
    costs = journal.read()
    hand = by_hand(step)
    if costs.get(hand) == np.inf:
        del costs[hand]  # another try: without it there is no choice
    tick(min(len(costs), wanted))
    rng = np.random.default_rng([seed, *step.workload.encode()])
    while len(costs) < wanted:
        points = list(islice(candidates(step, costs, rng, wanted), _ROUND))
        new = measured(program, step, points, device)
        costs |= new
        journal.write(costs)
        tick(len(new))
    if not np.isfinite(costs[hand]):
        raise InputError(
            f"{step.workload}: by hand, it cannot be built and run within {TIMEOUT:g} s each; "
            "expected a smaller batch"
        )
    return costs
