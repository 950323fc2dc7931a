"""Softplus, σ = log(1 + e^ρ), and its slope dσ/dρ, in float32: scales from unconstrained numbers.

Formula
-------
As `refbnn.numerics.softplus`, with t = e^−|ρ|:

    σ = max(ρ, 0) + log1p(t),      dσ/dρ = (1 or t)/(1 + t),   1 for ρ ≥ 0 and t for ρ < 0.

Range
-----
Both within `RELATIVE_ERROR` for ρ ≥ −87; below, σ leaves the normal float32 numbers and counts
as 0.
"""

from __future__ import annotations

from functools import partial
from math import prod

import tvm
from tvm import te, tirx

from kernels.arithmetic.logarithm import log1p_of_unit
from kernels.arithmetic.polynomials import exp_minus, f32, named
from kernels.devices import Board, targets
from kernels.program.kernel import Kernel
from kernels.program.kernel import build as build_program
from kernels.program.program import Padded, Program, Step
from refbnn.errors import InputError

RELATIVE_ERROR = 5e-7
PARAMETERS = ("scale", "rho")


def require_parameter(parameter: str) -> None:
    """Raise InputError unless it is one of `PARAMETERS`, by which gradients can be taken."""
    if parameter not in PARAMETERS:
        raise InputError(
            f"parameter {parameter!r} is unknown; expected one of: {', '.join(PARAMETERS)}"
        )


def add(program: Program, name: str, rho: te.Tensor) -> tuple[te.Tensor, te.Tensor]:
    """Scales and slopes of a tensor whose last axis is padded to whole vectors, of its shape."""
    scale, slope = te.compute(rho.shape, lambda *i: softplus_and_slope(rho(*i)), name=name)
    program.steps.append(
        Step(
            workload=f"softplus {_size(rho)}",
            by_hand={},
            space={},
            transform=partial(schedule, block=f"{name}_v0", lanes=program.target.lanes),
        )
    )
    return scale, slope


def by_rho(program: Program, name: str, d_scale: te.Tensor, slope: te.Tensor) -> te.Tensor:
    """∂L/∂ρ = ∂L/∂σ · dσ/dρ, of the shape of both."""
    product = te.compute(slope.shape, lambda *i: d_scale(*i) * slope(*i), name=name)
    transform = partial(schedule, block=name, lanes=program.target.lanes)
    program.steps.append(Step(f"chain rule {_size(slope)}", {}, {}, transform))
    return product


def softplus_and_slope(rho):
    """σ and dσ/dρ of one element: TVM expressions in and out."""

    def formula(name):
        t = exp_minus(name, tirx.abs(rho))
        scale = tirx.max(rho, f32(0.0)) + log1p_of_unit(t)
        return scale, tirx.Select(rho >= f32(0.0), f32(1.0), t) / (f32(1.0) + t)

    return named(formula, 2)


def schedule(sch: tvm.s_tir.Schedule, decisions, block: str, lanes: int) -> None:
    """Say how it is computed: a vector at a time, both results in one nest of loops."""
    *_, column = sch.get_loops(sch.get_sblock(block))
    _, lane = sch.split(column, [None, lanes])
    sch.vectorize(lane)


def _size(tensor: te.Tensor) -> int:
    return prod(int(extent) for extent in tensor.shape)


def build(
    size: int, target: str = "host", schedule: str = "hand", device: str | Board = "local"
) -> Kernel:
    """Compile the function alone.

    Parameters
    ----------
    size : int
    target, schedule, device
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
    return build_program(program, schedule, device=device)
