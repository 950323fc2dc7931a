"""Softplus, σ = log(1 + e^ρ), and its slope dσ/dρ, in float32: scales from unconstrained numbers.

Formula
-------
With t = e^−|ρ|, as in `refbnn.numerics.softplus`:

    σ = max(ρ, 0) + log1p(t),      dσ/dρ = (1 or t)/(1 + t),   1 for ρ ≥ 0 and t for ρ < 0.

Range
-----
Both are right to `RELATIVE_ERROR` for ρ ≥ −87. Below, σ leaves the normal float32 numbers and
counts as 0.
"""

from __future__ import annotations

from math import prod

from tvm import te, tirx

from kernels.arithmetic.logarithm import log1p_of_unit
from kernels.arithmetic.polynomials import exp_minus, f32, named
from kernels.program import vectors
from kernels.program.program import Program
from refbnn.numerics.arguments import require_known

RELATIVE_ERROR = 5e-7
PARAMETERS = ("scale", "rho")


def require_parameter(parameter: str) -> None:
    """Raise InputError unless gradients can be taken by this parameter, one of `PARAMETERS`."""
    require_known(parameter, PARAMETERS, "parameter")


def add(program: Program, name: str, rho: te.Tensor) -> tuple[te.Tensor, te.Tensor]:
    """σ and dσ/dρ of a tensor, of its shape; its last axis is padded to whole vectors."""
    scale, slope = te.compute(rho.shape, lambda *i: softplus_and_slope(rho(*i)), name=name)
    vectors.add_step(program, f"softplus {_size(rho)}", [f"{name}_v0"])
    return scale, slope


def by_rho(program: Program, name: str, d_scale: te.Tensor, slope: te.Tensor) -> te.Tensor:
    """∂L/∂ρ = ∂L/∂σ · dσ/dρ, of the shape of both."""
    product = te.compute(slope.shape, lambda *i: d_scale(*i) * slope(*i), name=name)
    vectors.add_step(program, f"chain rule {_size(slope)}", [name])
    return product


def softplus_and_slope(rho):
    """σ and dσ/dρ of one element: TVM expressions in and out."""

    def formula(name):
        t = exp_minus(name, tirx.abs(rho))
        scale = tirx.max(rho, f32(0.0)) + log1p_of_unit(t)
        return scale, tirx.Select(rho >= f32(0.0), f32(1.0), t) / (f32(1.0) + t)

    return named(formula, 2)


def _size(tensor: te.Tensor) -> int:
    return prod(int(extent) for extent in tensor.shape)
