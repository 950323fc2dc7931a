"""Measuring: what candidates cost, by Meta Schedule's builder and a runner for each device.

    "local"     seconds, in a process of its own: what hangs or dies there is a failure, not here
    "emulated"  proxy cycles (`kernels.devices.emulated_arm.costs`) of one run: the same in every
    run Board       seconds, by the board's clock

A candidate that cannot be built, hangs or dies costs infinitely much.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms

from kernels import devices
from kernels.devices.emulated_arm.costs import proxy_cycles, throughput
from kernels.program import records
from kernels.program.kernel import memory
from kernels.program.program import Program, Step
from kernels.tuning.building import TIMEOUT, built
from kernels.tuning.interruption import ignoring, signals, silence
from kernels.tuning.search import Costs, Point
from refbnn.errors import InputError

if TYPE_CHECKING:
    from kernels.devices.boards.sessions import Line


def measure_of(device: str | devices.Board) -> str:
    """What is measured on a device, as `kernels.program.records.Record` calls it."""
    return records.PROXY_CYCLES if device == "emulated" else records.SECONDS


def measured(
    program: Program, step: Step, points: list[Point], device: str | devices.Board = "local"
) -> Costs:
    """Cost of one call of each; parameters and errors as in `kernels.tuning.tune.tune`."""
    found = dict.fromkeys(points, float("inf"))
    refused: list[InputError] = []
    with signals():
        with silence():
            candidates = built(program, step, points, "ll" if device == "local" else "o")
        inputs = [
            ms.runner.RunnerInput(str(b.file), "cpu", b.arguments) for b in candidates.values()
        ]
        with silence() if device == "local" else nullcontext():  # lost boards are reported
            futures = _runner(program, device, refused).run(inputs)
        for (point, one), future in zip(candidates.items(), futures, strict=True):
            results = future.result().run_secs
            if results is not None:
                found[point] = min(float(result) for result in results)
            one.file.unlink(missing_ok=True)
    if refused:
        raise refused[0]
    return found


def _runner(
    program: Program, device: str | devices.Board, refused: list[InputError]
) -> ms.runner.PyRunner:
    if device == "local":
        return _local()
    return _InTurn(_cost(program, device), refused)


@cache
def _local() -> ms.runner.LocalRunner:
    """Meta Schedule's own runner, whose processes serve all searches of this one."""
    return ms.runner.LocalRunner(
        timeout_sec=TIMEOUT,
        evaluator_config=ms.runner.EvaluatorConfig(number=1, repeat=7, min_repeat_ms=3),
        initializer=ignoring(),
    )


@derived_object
class _InTurn(ms.runner.PyRunner):
    """Meta Schedule's runner for devices of ours: candidates one after another.

    Parameters
    ----------
    cost : callable (file)
        Seconds, or what is in their place, of one call of what is in an object file.
    refused : list
        Takes errors after which no other candidate need be tried: TVM would not hand them on.
    """

    def __init__(self, cost: Callable[[Path], float], refused: list[InputError]):
        self.cost, self.refused = cost, refused

    def run(self, runner_inputs):
        return [self._one(Path(str(one.artifact_path))) for one in runner_inputs]

    def _one(self, file: Path) -> _Measured:
        if self.refused:
            return _Measured(None, "not tried")
        try:
            return _Measured(self.cost(file), None)
        except RuntimeError as error:  # EmulationError, TVM's RPCError: of this candidate
            return _Measured(None, str(error))
        except InputError as error:
            self.refused.append(error)
            return _Measured(None, str(error))


@derived_object
class _Measured(ms.runner.PyRunnerFuture):
    """A future of Meta Schedule that is there already."""

    def __init__(self, cost: float | None, error: str | None):
        self.cost, self.error = cost, error

    def done(self):
        return True

    def result(self):
        return ms.runner.RunnerResult(None if self.cost is None else [self.cost], self.error)


def _cost(program: Program, device: str | devices.Board) -> Callable[[Path], float]:
    """What tells the cost of an object file on a device that is not this machine."""
    rng = np.random.default_rng(0)
    arrays = memory(program)
    for array in arrays.inputs:
        array[...] = rng.random(array.shape)
    if isinstance(device, devices.Board):
        from kernels.devices.boards.sessions import line

        shared = line(device)  # held by what is returned: one session for all candidates
        return partial(_seconds, program=program, arrays=arrays, shared=shared)
    return partial(_cycles, program=program, arrays=arrays)


def _cycles(file: Path, program: Program, arrays: devices.Memory) -> float:
    from kernels.devices.emulated_arm import emulated

    core = str(program.target.llvm["mcpu"])
    loaded = emulated.start(file.read_bytes(), arrays, core, TIMEOUT)
    assert loaded.blocks is not None
    return proxy_cycles(loaded.blocks(), throughput(core))


def _seconds(file: Path, program: Program, arrays: devices.Memory, shared: Line) -> float:
    from kernels.devices.boards import rpc

    loaded = rpc.start(file.read_bytes(), arrays, shared.board, program.target)
    assert loaded.time is not None
    return min(loaded.time() for _ in range(3))
