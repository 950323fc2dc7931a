"""Tuning: search an operator's decisions for the fastest, with TVM's Meta Schedule.

Space
-----
A step's space is a few small integers (`Step.space`), each a categorical sample of Meta Schedule;
its schedule function turns them into a schedule, by hand and tuned alike. Meta Schedule's builder
compiles a candidate in a process of its own, its runner measures it in another: what hangs or dies
there counts as a failure, not here.

Search
------
A space of no more points than trials is measured whole. Of a larger one, half of each round of
candidates is drawn evenly, half changes one decision of one of the best so far (a neighbouring
value, most often). Decisions by hand are the first candidate; none is measured twice. Meta
Schedule's own strategies would repeat candidates, and cannot mutate these: its mutators know tiles
of perfect size only. They are not used, nor its tuning context, which parses tensor intrinsics of
graphics processors for a minute before it begins.

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

import json
import os
import re
import runpy
import signal
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import islice, product
from math import prod
from pathlib import Path

import numpy as np
import tvm
from tvm.s_tir import meta_schedule as ms
from tvm.support.popen_pool import PopenPoolExecutor

from kernels import bench, devices, polynomials, records
from kernels.kernel import Kernel, bind, planned
from kernels.program import Program, Step
from kernels.records import Record
from kernels.targets import Target
from refbnn.errors import InputError
from refbnn.files import write_text

Decisions = Mapping[str, int]
Point = tuple[int, ...]  # decisions, in the order of the space
Seconds = dict[Point, float]  # infinite where it failed

_ROUND = 16  # candidates between two savings
_BEST = 4  # of which candidates are mutated, and which are measured again
_TIMEOUT = 20.0  # seconds for one build, or one measurement
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
    journal = _Journal(folder, step, target)
    seconds = journal.read()
    tick(min(len(seconds), wanted))
    rng = np.random.default_rng([seed, *step.workload.encode()])
    while len(seconds) < wanted:
        points = list(islice(_candidates(step, seconds, rng, wanted), _ROUND))
        measured = _measured(program, step, points)
        seconds |= measured
        journal.write(seconds)
        tick(len(measured))
    record = _choice(program, step, seconds)
    records.keep(record, file)
    journal.clear()
    return record


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; expected a folder for records") from None


def _named(step: Step, point: Point) -> dict[str, int]:
    return dict(zip(step.space, point, strict=True))


def _by_hand(step: Step) -> Point:
    return tuple(step.by_hand[name] for name in step.space)


def _candidates(
    step: Step, seconds: Seconds, rng: np.random.Generator, wanted: int
) -> Iterator[Point]:
    """What to measure next, up to `wanted` in all, each once."""
    values = [list(v) for v in step.space.values()]
    seen = set(seconds)

    def new(points: Iterable[Point]) -> Iterator[Point]:
        for point in points:
            if len(seen) >= wanted:
                return
            if point not in seen:
                seen.add(point)
                yield point

    yield from new([_by_hand(step)])
    if wanted == prod(map(len, values)):
        everything = list(product(*values))
        yield from new(everything[i] for i in rng.permutation(len(everything)))
        return
    best = sorted(seconds, key=seconds.__getitem__)[:_BEST]

    def drawn() -> Iterator[Point]:
        while True:
            yield tuple(int(rng.choice(v)) for v in values)
            if best:
                yield _mutated(best[rng.integers(len(best))], values, rng)

    yield from new(drawn())


def _mutated(point: Point, values: list[list[int]], rng: np.random.Generator) -> Point:
    """The point with one decision changed: two times of three by one place, else at random."""
    axis = int(rng.integers(len(point)))
    choices, changed = values[axis], list(point)
    if rng.random() < 2 / 3:
        place = choices.index(point[axis]) + int(rng.choice([-1, 1]))
        changed[axis] = choices[min(max(place, 0), len(choices) - 1)]
    else:
        changed[axis] = int(rng.choice(choices))
    return tuple(changed)


def _measured(program: Program, step: Step, points: list[Point]) -> Seconds:
    """Seconds of one call of each, by Meta Schedule's builder and runner."""
    seconds = dict.fromkeys(points, float("inf"))
    plans = {}
    for point in points:
        try:
            plans[point] = _sampled(program, step, point)
        except (ValueError, RuntimeError):
            continue  # no schedule: a tile that some loop cannot have
    if not plans:
        return seconds
    llvm = tvm.target.Target(program.target.llvm)
    with _signals(), _silence():
        builder, runner = _workers()
        built = builder.build([ms.builder.BuilderInput(p.mod, llvm) for p in plans.values()])
        inputs = {
            point: ms.runner.RunnerInput(
                result.artifact_path, "llvm", ms.arg_info.ArgInfo.from_prim_func(plan.mod["main"])
            )
            for (point, plan), result in zip(plans.items(), built, strict=True)
            if result.error_msg is None
        }
        for point, future in zip(inputs, runner.run(list(inputs.values())), strict=True):
            times = future.result().run_secs
            if times is not None:
                seconds[point] = min(float(t) for t in times)
            Path(str(inputs[point].artifact_path)).unlink(missing_ok=True)
    return seconds


@contextmanager
def _signals() -> Iterator[None]:
    """Let handlers of signals raise what they do, KeyboardInterrupt most often, through TVM.

    What is raised in Python that TVM calls, and so in the builder or the runner, would leave it as
    a nameless RuntimeError, or pass for the failure of a candidate.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread alone
        return
    raised: list[BaseException] = []
    before = {}

    def listening(handler):
        def handle(number, frame):
            try:
                handler(number, frame)
            except BaseException as error:
                raised.append(error)
                sys.unraisablehook = _no_pool(sys.unraisablehook)
                raise

        return handle

    for number in (signal.SIGINT, signal.SIGTERM):
        if callable(handler := signal.getsignal(number)):
            before[number] = handler
            signal.signal(number, listening(handler))
    try:
        yield
    except BaseException:
        if not raised:
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if raised:
        raise raised[0].with_traceback(None)


def _no_pool(hook):
    """The hook, but silent about a pool of processes that was cut off.

    Collected by a thread of its own, it cannot wait for that thread, and says so.
    """

    def silent(unraisable):
        if unraisable.object is not PopenPoolExecutor.__del__:
            hook(unraisable)

    return silent


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing on standard error from here, and for good from processes that start here.

    A worker that is interrupted while it still imports, or dies of a candidate, would print pages.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@cache
def _workers() -> tuple[ms.builder.LocalBuilder, ms.runner.LocalRunner]:
    """Meta Schedule's builder and runner, whose processes serve all searches of this one.

    LLVM's text, compiled again where it is loaded, needs no linker on this machine. Functions of
    here are sent by value: a worker need not import this package, which takes a second, but for
    the file that registers an operation of ours.
    """
    work = tempfile.TemporaryDirectory()  # removed with this process
    registering = polynomials.__file__

    def build(module, target, _):
        return tvm.compile(module, target=target).mod

    def export(module, folder=work.name):
        handle, name = tempfile.mkstemp(".ll", dir=folder)
        os.close(handle)
        module.write_to_file(name, "ll")
        return name

    def deaf():  # to an interrupt from the keyboard: it is ours, and ends them
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def knowing():
        deaf()
        runpy.run_path(registering)

    builder = ms.builder.LocalBuilder(
        max_workers=os.cpu_count(),
        timeout_sec=_TIMEOUT,
        f_build=build,
        f_export=export,
        initializer=knowing,
    )
    runner = ms.runner.LocalRunner(
        timeout_sec=_TIMEOUT,
        evaluator_config=ms.runner.EvaluatorConfig(number=1, repeat=7, min_repeat_ms=3),
        initializer=deaf,
    )
    weakref.finalize(runner, work.cleanup)
    return builder, runner


def _sampled(program: Program, step: Step, point: Point) -> tvm.s_tir.Schedule:
    """The schedule of a point, its decisions as samples of Meta Schedule."""
    plan = planned(program)
    decisions = {}
    for (name, values), value in zip(step.space.items(), point, strict=True):
        choices = [int(v) for v in values]
        even = [1.0 / len(choices)] * len(choices)
        sample = plan.sample_categorical(choices, even, decision=choices.index(value))
        decisions[name] = int(plan.get(sample))
    for own in program.steps:
        own.transform(plan, decisions if own.workload == step.workload else own.by_hand)
    return plan


def _choice(program: Program, step: Step, seconds: Seconds) -> Record:
    """Measure the best again, and those by hand; a record of the fastest."""
    rng = np.random.default_rng(0)
    hand = _by_hand(step)
    ranked = sorted(seconds, key=seconds.__getitem__)
    best = [p for p in ranked if p != hand and np.isfinite(seconds[p])][:_BEST]
    kernels: dict[object, Kernel] = {}
    for key, point in [("hand", hand), ("hand again", hand), *((p, p) for p in best)]:
        kernel = bind(program, _sampled(program, step, point).mod)
        for view in kernel.inputs:
            view[...] = rng.random(view.shape)
        kernels[key] = kernel
    # The least of many turns: another program on the core can only add to it.
    times = bench.latency({key: kernel.run for key, kernel in kernels.items()}, statistic=min)
    by_hand = min(times["hand"], times["hand again"])
    spread = abs(times["hand"] - times["hand again"]) / by_hand
    chosen = min(best, key=lambda point: times[point], default=hand)
    if chosen == hand or times[chosen] > by_hand * (1.0 - max(_MARGIN, spread)):
        chosen, fastest = hand, by_hand
    else:
        fastest = times[chosen]
    return Record(
        workload=step.workload,
        processor=records.processor(program.target),
        decisions=_named(step, chosen),
        seconds=float(f"{fastest:.4g}"),
        seconds_by_hand=float(f"{by_hand:.4g}"),
        trials=len(seconds),
        tvm=tvm.__version__,
    )


class _Journal:
    """What is measured of an unfinished workload: a line that names it, then one a candidate.

    Parameters
    ----------
    folder : Path
    step : Step
    target : Target
    """

    def __init__(self, folder: Path, step: Step, target: Target):
        name = re.sub(r"[^\w.-]+", "-", f"{target.name} {step.workload}")
        self.file = folder / f"{name}.jsonl"
        self.space = step.space
        self.head = {"workload": step.workload, "processor": records.processor(target)}

    def read(self) -> Seconds:
        """What is known; nothing if it is of another processor, or of another space.

        Raises
        ------
        InputError
            If the file holds anything else.
        """
        try:
            lines = self.file.read_text(encoding="utf-8").splitlines()
            head, *rest = [json.loads(line) for line in lines]
            if head != self.head:
                return {}
            return {
                tuple(line["decisions"][name] for name in self.space): float(
                    "inf" if line["seconds"] is None else line["seconds"]
                )
                for line in rest
                if records.fits(line["decisions"], self.space)
            }
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise InputError(f"{self.file}: {error.strerror}; expected measurements") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise InputError(
                f"{self.file}: is no list of measurements; remove it to begin again"
            ) from None

    def write(self, measured: Seconds) -> None:
        """Keep all that is measured, whole or not at all."""
        lines = [self.head] + [
            {
                "decisions": dict(zip(self.space, point, strict=True)),
                "seconds": seconds if np.isfinite(seconds) else None,
            }
            for point, seconds in measured.items()
        ]
        write_text(self.file, "".join(json.dumps(line) + "\n" for line in lines))

    def clear(self) -> None:
        """Forget it: there is a record now."""
        self.file.unlink(missing_ok=True)
