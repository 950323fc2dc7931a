"""Elementwise operators: one expression for every element, in any layout.

An activation's file holds its formulas and hands on one description of them: `ClosedForm` where the
moments have formulas, `kernels.arithmetic.gaussian_panels.Quadrature` where they are integrals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from math import prod

import numpy as np
from tvm import te, tirx

from kernels.arithmetic import gaussian_panels
from kernels.arithmetic.gaussian_panels import Quadrature
from kernels.arithmetic.polynomials import f32, finite
from kernels.program import vectors
from kernels.program.program import Activation, Layout, Program
from refbnn.layers import activations
from refbnn.layers.activations.elementwise import Elementwise


@dataclass(frozen=True)
class ClosedForm:
    """An elementwise function y whose moments have formulas.

    Parameters
    ----------
    operator : str
        Word for the workload, such as "relu".
    value : callable (x) -> y
        TVM expressions: y of a known element.
    moments : callable (mean, var) -> (mean, var)
        TVM expressions: moments of y of a random element. Padding must stay finite.
    linearised : callable (mean, var) -> (mean, var, own variance, gain)
        TVM expressions.
    """

    operator: str
    value: Callable
    moments: Callable
    linearised: Callable


def function_of(layer: Elementwise) -> ClosedForm | Quadrature | None:
    """Describe an elementwise layer by the kernels' file of the same name; None without one."""
    package, _, name = type(layer).__module__.rpartition(".")
    if package != activations.__name__ or find_spec(f"{__package__}.{name}") is None:
        return None
    return import_module(f"{__package__}.{name}").function(layer)


def add(
    program: Program,
    name: str,
    f: ClosedForm | Quadrature,
    x: Activation,
    linearised: bool = False,
) -> Activation:
    """Apply a function to every element; `name` starts the names of the blocks.

    With `linearised`, y of random inputs has its own variance and gain beside, Var[y] − g² v and
    g = E[f′] (`refbnn.layers.linearisation`).
    """
    if isinstance(f, Quadrature):
        return gaussian_panels.add(program, name, f, x, linearised)
    if linearised and x.var is not None:
        return _with_gain(program, name, f, x)

    def formula(*i):
        values = [tensor(*i) for tensor in x.tensors]
        there, nan = finite(*values), f32(np.nan)  # max(0, −∞) would be 0
        if x.var is None:
            return tirx.Select(there, f.value(*values), nan)
        return tuple([tirx.Select(there, moment, nan) for moment in f.moments(*values)])

    workload = f"{f.operator} {prod(map(int, x.mean.shape))}"
    return computed(program, name, workload, x.layout, formula, x.var is None)


def _with_gain(program: Program, name: str, f: ClosedForm, x: Activation) -> Activation:
    """Moments, own variance and gain in one loop, which shares what their formulas share."""
    mean, var = x.tensors

    def formula(*i):
        m, v = mean(*i), var(*i)
        there = finite(m, v)
        return tuple([tirx.Select(there, each, f32(np.nan)) for each in f.linearised(m, v)])

    workload = f"{f.operator} with gain {prod(map(int, x.mean.shape))}"
    shape = x.layout.tensor_shape(program.batch)
    result = te.compute(shape, formula, name=name)
    vectors.add_step(program, workload, [f"{name}_v0"])
    return Activation(x.layout, *result)


def computed(
    program: Program, name: str, workload: str, layout: Layout, formula: Callable, known: bool
) -> Activation:
    """Make an activation of a formula for each element, whole vectors at a time.

    Parameters
    ----------
    program : Program
    name : str
        Name of the block.
    workload : str
    layout : Layout
        Layout of the result.
    formula : callable (*index) -> y, or (mean, var)
        TVM expressions of one element.
    known : bool
        Whether the formula gives y alone.
    """
    result = te.compute(layout.tensor_shape(program.batch), formula, name=name)
    mean, var = (result, None) if known else result
    vectors.add_step(program, workload, [name if known else f"{name}_v0"])
    return Activation(layout, mean, var)
