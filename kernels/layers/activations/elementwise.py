"""Operators of one element at a time, such as activations: any expression, in any layout."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod

from tvm import te

from kernels.devices import Board, targets
from kernels.program import vectors
from kernels.program.kernel import Kernel
from kernels.program.kernel import build as build_program
from kernels.program.program import Activation, Layout, Program, Rows, Step


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
    n = prod(int(extent) for extent in x.mean.shape)

    def formula(*i):
        return value(x.mean(*i)) if x.var is None else moments(x.mean(*i), x.var(*i))

    return computed(program, name, f"{operator} {n}", x.layout, formula, x.var is None)


def computed(
    program: Program, name: str, workload: str, layout: Layout, formula: Callable, known: bool
) -> Activation:
    """Make an activation of a formula for each element, whole vectors at a time.

    Parameters
    ----------
    program : Program
    name : str
        Of the block.
    workload : str
    layout : Layout
        Of the result.
    formula : callable (*index) -> y, or (mean, var)
        TVM expressions of one element.
    known : bool
        Whether it gives y.
    """
    result = te.compute(layout.tensor_shape(program.batch), formula, name=name)
    mean, var = (result, None) if known else result
    block = name if known else f"{name}_v0"
    program.steps.append(
        Step(
            workload=workload,
            by_hand={},
            space={},
            transform=partial(vectors.schedule, blocks=[block], lanes=program.target.lanes),
        )
    )
    return Activation(layout, mean, var)


def build(
    operator: str,
    value: Callable,
    moments: Callable,
    batch: int,
    n: int,
    target: str,
    schedule: str,
    device: str | Board,
) -> Kernel:
    """Compile an operator alone, for random rows: called with mean and variance, (batch, n)."""
    cpu = targets.target(target)
    program = Program(cpu, batch)
    x = program.random(Rows(n, cpu.lanes))
    program.give(add(program, operator, operator, value, moments, x))
    return build_program(program, schedule, device=device)
