"""Building: candidates compiled by Meta Schedule's builder, in processes of their own."""

from __future__ import annotations

import os
import runpy
import tempfile
import weakref
from contextlib import suppress
from functools import cache

import tvm
from tvm.s_tir import meta_schedule as ms

from kernels.arithmetic import polynomials
from kernels.program import zeros
from kernels.program.kernel import passes, planned
from kernels.program.program import Program, Step
from kernels.tuning.interruption import interrupt_ignorer
from kernels.tuning.search import Point

TIMEOUT = 20.0  # seconds for one build, or one measurement


def sampled(program: Program, step: Step, point: Point) -> tvm.s_tir.Schedule:
    """Schedule a program, the decisions of one step as categorical samples of Meta Schedule.

    All other steps are scheduled by hand.
    """
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


def built(
    program: Program, step: Step, points: list[Point], form: str
) -> dict[Point, ms.runner.RunnerInput]:
    """Compile candidates; those that fail are left out.

    Parameters
    ----------
    program, step
        As in `kernels.tuning.tune.tune`.
    points : list
    form : {"ll", "o"}
        Kind of the files: LLVM's text, which is compiled again where it is loaded and needs no
        linker on this machine; or object code.
    """
    plans = {}
    for point in points:
        with suppress(ValueError, RuntimeError):  # no schedule: a tile that a loop cannot have
            plans[point] = sampled(program, step, point)
    if not plans:
        return {}
    target = tvm.target.Target(program.target.llvm)
    builder = _builder(form, tuple(passes(program.target).items()))
    modules = [zeros.skipping(plan.mod, program.target.lanes) for plan in plans.values()]
    results = builder.build([ms.builder.BuilderInput(module, target) for module in modules])
    return {
        point: ms.runner.RunnerInput(
            str(result.artifact_path), "cpu", ms.arg_info.ArgInfo.from_prim_func(plan.mod["main"])
        )
        for (point, plan), result in zip(plans.items(), results, strict=True)
        if result.error_msg is None
    }


@cache
def _builder(form: str, settings: tuple[tuple[str, bool], ...]) -> ms.builder.LocalBuilder:
    """Make Meta Schedule's builder, whose processes serve all searches of this process.

    Nested functions are sent by value: a worker need not import this package, which takes a second,
    except for the file that registers our intrinsics.
    """
    work = tempfile.TemporaryDirectory()  # removed with this process
    intrinsics = polynomials.__file__
    ignore_interrupt = interrupt_ignorer()

    def build(module, target, _):
        with tvm.transform.PassContext(config=dict(settings)):
            return tvm.compile(module, target=target).mod

    def export(module, folder=work.name):
        handle, name = tempfile.mkstemp(f".{form}", dir=folder)
        os.close(handle)
        module.write_to_file(name, form)
        return name

    def register_intrinsics():
        ignore_interrupt()
        runpy.run_path(intrinsics)

    builder = ms.builder.LocalBuilder(
        max_workers=os.cpu_count(),
        timeout_sec=TIMEOUT,
        f_build=build,
        f_export=export,
        initializer=register_intrinsics,
    )
    weakref.finalize(builder, work.cleanup)
    return builder
