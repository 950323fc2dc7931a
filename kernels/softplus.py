"""Softplus, σ = log(1 + e^ρ), and its slope dσ/dρ, in float32: scales from unconstrained numbers.

Formula
-------
As `refbnn.softplus`, with t = e^−|ρ|:

    σ = max(ρ, 0) + log1p(t),      dσ/dρ = (1 or t)/(1 + t),   1 for ρ ≥ 0 and t for ρ < 0.

Range
-----
Both within 8e-7 relative for ρ ≥ −87; below, σ leaves the normal float32 numbers and counts as 0.
"""

from __future__ import annotations

from functools import partial

import tvm
from tvm import te, tirx

from kernels import targets
from kernels.exponential import exp, log1p_of_unit
from kernels.kernel import Kernel
from kernels.kernel import build as build_program
from kernels.program import Padded, Program, Step
from kernels.relu import _f32

RELATIVE_ERROR = 8e-7


def add(program: Program, name: str, rho: te.Tensor) -> tuple[te.Tensor, te.Tensor]:
    """Scales and slopes of a tensor whose last axis is padded to whole vectors, of its shape."""
    t = te.compute(rho.shape, lambda *i: exp(-tirx.abs(rho(*i))), name=f"{name}_t")

    def finish(*i):
        one, above = _f32(1.0), rho(*i) >= _f32(0.0)
        scale = tirx.max(rho(*i), _f32(0.0)) + log1p_of_unit(t(*i))
        return scale, tirx.Select(above, one, t(*i)) / (one + t(*i))

    scale, slope = te.compute(rho.shape, finish, name=name)
    size = 1
    for extent in rho.shape:
        size *= int(extent)
    transform = partial(schedule, name=name, lanes=program.target.lanes)
    program.steps.append(Step(f"softplus {size}", {}, {}, transform))
    return scale, slope


def schedule(sch: tvm.s_tir.Schedule, decisions, name: str, lanes: int) -> None:
    """Say how it is computed."""
    # A vector at a time, both results in one nest of loops.
    out = sch.get_sblock(f"{name}_v0")
    *_, column = sch.get_loops(out)
    column, lane = sch.split(column, [None, lanes])
    sch.vectorize(lane)

    # t beside them: it stays in a register.
    t = sch.get_sblock(f"{name}_t")
    sch.compute_at(t, column)
    sch.vectorize(sch.get_loops(t)[-1])


def build(size: int, target: str = "host", schedule: str = "hand") -> Kernel:
    """Compile the function alone.

    Parameters
    ----------
    size : int
    target, schedule : str
        As in `kernels.compile_network`.

    Returns
    -------
    Kernel
        Called with ρ, (size,); gives σ and dσ/dρ, (size,) each.
    """
    cpu = targets.target(target)
    program = Program(cpu, 1)
    layout = Padded((size,), cpu.lanes)
    program.give_arrays(layout, *add(program, "softplus", program.array(layout, "rho")))
    return build_program(program, schedule)
