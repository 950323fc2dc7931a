"""Measuring: what a candidate costs, in a process of its own.

What hangs or dies there counts as a failure, not here.
"""

from __future__ import annotations

from functools import cache

from tvm.s_tir import meta_schedule as ms

from kernels.program import Program, Step
from kernels.tuning.building import TIMEOUT, built
from kernels.tuning.interruption import ignoring, signals, silence
from kernels.tuning.search import Point, Seconds


def measured(program: Program, step: Step, points: list[Point]) -> Seconds:
    """Seconds of one call of each, by Meta Schedule's builder and runner."""
    seconds = dict.fromkeys(points, float("inf"))
    with signals(), silence():
        found = built(program, step, points)
        inputs = [ms.runner.RunnerInput(str(b.file), "llvm", b.arguments) for b in found.values()]
        for (point, one), future in zip(found.items(), _runner().run(inputs), strict=True):
            times = future.result().run_secs
            if times is not None:
                seconds[point] = min(float(t) for t in times)
            one.file.unlink(missing_ok=True)
    return seconds


@cache
def _runner() -> ms.runner.LocalRunner:
    """Meta Schedule's runner, whose processes serve all searches of this one."""
    return ms.runner.LocalRunner(
        timeout_sec=TIMEOUT,
        evaluator_config=ms.runner.EvaluatorConfig(number=1, repeat=7, min_repeat_ms=3),
        initializer=ignoring(),
    )
