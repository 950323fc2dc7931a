"""Operators of one element at a time, such as activations: any expression, in any layout."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import tvm
from tvm import te

from kernels import targets
from kernels.kernel import Kernel
from kernels.kernel import build as build_program
from kernels.program import Activation, Program, Rows, Step


def add(
    program: Program, name: str, operator: str, value: Callable, moments: Callable, x: Activation
) -> Activation:
    """Apply an expression to every element.

    Parameters
    ----------
    program : Program
    name : str
        Of the block.
    operator : str
        Word for the workload, such as "relu".
    value : callable (x) -> y
        TVM expressions: y of a known element.
    moments : callable (mean, var) -> (mean, var)
        TVM expressions: moments of y of a random element. Padding must stay finite.
    x : Activation
    """
    if x.var is None:
        mean = te.compute(x.mean.shape, lambda *i: value(x.mean(*i)), name=name)
        result = Activation(x.layout, mean, None)
    else:
        var = x.var
        both = te.compute(x.mean.shape, lambda *i: moments(x.mean(*i), var(*i)), name=name)
        result = Activation(x.layout, *both)
    block = result.mean.op.name if x.var is None else f"{name}_v0"
    n = 1
    for extent in x.mean.shape:
        n *= int(extent)
    program.steps.append(
        Step(
            workload=f"{operator} {n}",
            by_hand={},
            space={},
            transform=partial(schedule, block=block, lanes=program.target.lanes),
        )
    )
    return result


def schedule(sch: tvm.s_tir.Schedule, decisions, block: str, lanes: int) -> None:
    """Say how it is computed: whole vectors at a time; both moments share one nest of loops."""
    *_, column = sch.get_loops(sch.get_sblock(block))
    _, lane = sch.split(column, [None, lanes])
    sch.vectorize(lane)


def build(
    operator: str,
    value: Callable,
    moments: Callable,
    batch: int,
    n: int,
    target: str,
    schedule: str,
) -> Kernel:
    """Compile an operator alone, for random rows: called with mean and variance, (batch, n)."""
    cpu = targets.target(target)
    program = Program(cpu, batch)
    x = program.random(Rows(n, cpu.lanes))
    program.give(add(program, operator, operator, value, moments, x))
    return build_program(program, schedule)
