"""Building: candidates compiled by Meta Schedule's builder, in processes of their own."""

from __future__ import annotations

import os
import runpy
import tempfile
import weakref
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import tvm
from tvm.s_tir import meta_schedule as ms

from kernels.arithmetic import polynomials
from kernels.program.kernel import passes, planned
from kernels.program.program import Program, Step
from kernels.tuning.interruption import ignoring
from kernels.tuning.search import Point

TIMEOUT = 20.0  # seconds for one build, or one measurement


@dataclass(frozen=True)
class Built:
    """A compiled candidate.

    Parameters
    ----------
    file : Path
    arguments : list of ArgInfo
        Shapes and types of what the function takes, in Meta Schedule's words.
    """

    file: Path
    arguments: list[ms.arg_info.ArgInfo]


def sampled(program: Program, step: Step, point: Point) -> tvm.s_tir.Schedule:
    """The schedule of a point, its decisions as samples of Meta Schedule.

    Its other steps are scheduled by hand.
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


def built(program: Program, step: Step, points: list[Point], form: str) -> dict[Point, Built]:
    """Compile candidates; those that can be.

    Parameters
    ----------
    program, step
        As in `kernels.tuning.tune.tune`.
    points : list
    form : {"ll", "o"}
        Of the files: LLVM's text, compiled again where it is loaded, which needs no linker on this
        machine; or machine code.
    """
    plans = {}
    for point in points:
        try:
            plans[point] = sampled(program, step, point)
        except (ValueError, RuntimeError):
            continue  # no schedule: a tile that some loop cannot have
    if not plans:
        return {}
    target = tvm.target.Target(program.target.llvm)
    builder = _builder(form, tuple(passes(program.target).items()))
    results = builder.build([ms.builder.BuilderInput(p.mod, target) for p in plans.values()])
    return {
        point: Built(
            Path(str(result.artifact_path)), ms.arg_info.ArgInfo.from_prim_func(plan.mod["main"])
        )
        for (point, plan), result in zip(plans.items(), results, strict=True)
        if result.error_msg is None
    }


@cache
def _builder(form: str, settings: tuple[tuple[str, bool], ...]) -> ms.builder.LocalBuilder:
    """Meta Schedule's builder, whose processes serve all searches of this one.

    Functions of here are sent by value: a worker need not import this package, which takes a
    second, but for the file that registers an operation of ours.
    """
    work = tempfile.TemporaryDirectory()  # removed with this process
    registering = polynomials.__file__
    deaf = ignoring()

    def build(module, target, _):
        with tvm.transform.PassContext(config=dict(settings)):
            return tvm.compile(module, target=target).mod

    def export(module, folder=work.name):
        handle, name = tempfile.mkstemp(f".{form}", dir=folder)
        os.close(handle)
        module.write_to_file(name, form)
        return name

    def knowing():
        deaf()
        runpy.run_path(registering)

    builder = ms.builder.LocalBuilder(
        max_workers=os.cpu_count(),
        timeout_sec=TIMEOUT,
        f_build=build,
        f_export=export,
        initializer=knowing,
    )
    weakref.finalize(builder, work.cleanup)
    return builder
