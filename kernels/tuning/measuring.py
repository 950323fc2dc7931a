"""Measuring: the cost of candidates, compiled by Meta Schedule's builder.

    "local"     seconds, by Meta Schedule's runner in a process of its own, so that a candidate
                that hangs or dies there counts as a failure and does no harm here
    "emulated"  proxy cycles (`kernels.devices.emulated_arm.costs`) of one run, always the same
    Board       seconds, by the board's clock

A candidate that cannot be built, hangs or dies has infinite cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
from tvm.s_tir import meta_schedule as ms

from kernels import devices
from kernels.devices.emulated_arm.costs import proxy_cycles, throughput
from kernels.program import records
from kernels.program.kernel import memory
from kernels.program.program import Program, Step
from kernels.tuning.building import TIMEOUT, built
from kernels.tuning.interruption import forward_signals, interrupt_ignorer, silent_stderr
from kernels.tuning.search import Costs, Point


def measure_of(device: str | devices.Board) -> str:
    """Name the measure of a device, as `kernels.program.records.Record` does."""
    return records.PROXY_CYCLES if device == "emulated" else records.SECONDS


def measured(
    program: Program, step: Step, points: list[Point], device: str | devices.Board = "local"
) -> Costs:
    """Cost of one call of each candidate; parameters as in `kernels.tuning.tune.tune`.

    Raises
    ------
    InputError
        If the device refuses to run any candidate.
    """
    costs = dict.fromkeys(points, float("inf"))
    with forward_signals():
        with silent_stderr():
            candidates = built(program, step, points, "ll" if device == "local" else "o")
        files = {p: Path(str(one.artifact_path)) for p, one in candidates.items()}
        try:
            if device == "local":
                return costs | _local_costs(candidates)
            return costs | _costs_on_device(_cost(program, device), files)
        finally:
            for file in files.values():
                file.unlink(missing_ok=True)


def _local_costs(candidates: Mapping[Point, ms.runner.RunnerInput]) -> Costs:
    """Least seconds of each candidate that runs on this machine."""
    with silent_stderr():
        futures = _local_runner().run(list(candidates.values()))
    results = {p: future.result() for p, future in zip(candidates, futures, strict=True)}
    return {
        point: min(float(seconds) for seconds in result.run_secs)
        for point, result in results.items()
        if result.run_secs is not None
    }


@cache
def _local_runner() -> ms.runner.LocalRunner:
    """Make Meta Schedule's own runner, whose processes serve all searches of this process."""
    return ms.runner.LocalRunner(
        timeout_sec=TIMEOUT,
        evaluator_config=ms.runner.EvaluatorConfig(number=1, repeat=7, min_repeat_ms=3),
        initializer=interrupt_ignorer(),
    )


def _costs_on_device(cost: Callable[[Path], float], files: Mapping[Point, Path]) -> Costs:
    """Cost of each candidate that runs, one after another; errors as in `measured`."""
    costs = {}
    for point, file in files.items():
        with suppress(RuntimeError):  # EmulationError, TVM's RPCError: this candidate failed
            costs[point] = cost(file)
    return costs


def _cost(program: Program, device: str | devices.Board) -> Callable[[Path], float]:
    """Make the function from an object file to its cost on a device other than this machine."""
    rng = np.random.default_rng(0)
    arrays = memory(program)
    for array in arrays.inputs:
        array[...] = rng.random(array.shape)
    if isinstance(device, devices.Board):
        from kernels.devices.boards import rpc, sessions

        line = sessions.line(device)  # one session for all candidates

        def seconds(file: Path) -> float:
            loaded = rpc.start(file.read_bytes(), arrays, line.board, program.target)
            assert loaded.time is not None
            return min(loaded.time() for _ in range(3))

        return seconds
    from kernels.devices.emulated_arm import emulated

    core = str(program.target.llvm["mcpu"])

    def cycles(file: Path) -> float:
        loaded = emulated.start(file.read_bytes(), arrays, core, TIMEOUT)
        assert loaded.blocks is not None
        return proxy_cycles(loaded.blocks(), throughput(core))

    return cycles
