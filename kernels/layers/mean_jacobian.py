"""Covariance of a branch with its own input, the diagonal of its mean Jacobian, in float32.

Formulas
--------
As `refbnn.layers.mean_jacobian` has them: for layers f in a row, x of independent entries,

    J_i = E[∂f_i/∂x_i] = [A_L ⋯ A_1]_ii,      A = µ of a dense layer, diag(E[g′]) of a ReLU or leaky
                                              one, E[g′] = λ + (1 − λ) Φ(m/√v).

What stands before the first dense layer and after the last scales J_i as a whole. In between T_hi,
the derivative of entry h by x_i, goes from layer to layer, an input's neighbours in a vector: the
first layer's means to begin with; of the last layer the diagonal alone.

Range
-----
With A_i the same product of absolute values, n the most inputs of a dense layer and d of them:
|error of J_i| ≤ (d γ_{n+2} + 1e-6 l) A_i for l activations whose inputs have m/√v from −10 on,
beside what comes of the errors of these moments; below, E[g′] is right to 1e-23.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod

import numpy as np
import tvm
from tvm import te, tirx

from kernels.arithmetic.normal import lower_rectified
from kernels.arithmetic.polynomials import f32, named
from kernels.layers.activations import elementwise
from kernels.program.program import Activation, Program, Step
from refbnn.layers import Dense, Layer, LeakyReLU
from refbnn.layers.posterior import Posterior


def add(
    program: Program,
    name: str,
    layers: Sequence[Layer],
    inputs: Sequence[Activation],
    posteriors: Sequence[Mapping[str, Posterior]],
) -> te.Tensor:
    """J, of the shape of f's input in memory.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks.
    layers : of Dense, ReLU and LeakyReLU
    inputs : random activations that each layer is given, in `Rows` where there is a dense one
    posteriors : of each layer's weights, by name
    """
    dense = [index for index, layer in enumerate(layers) if isinstance(layer, Dense)]
    factors: list[Callable] = []  # of J as a whole, called with an index
    T: Callable | None = None  # called with (example, h, i)
    for index, (layer, x, own) in enumerate(zip(layers, inputs, posteriors, strict=True)):
        block = f"{name}_{index}"
        if not isinstance(layer, Dense):
            slope = mean_slopes(program, block, layer, x)
            if T is None:
                factors.append(slope)
            else:
                T = _scaled(T, slope)
            continue
        mu = own["weight"].mean
        if dense == [index]:
            factors.append(_of_input(program.weight(block, _padded(np.diag(mu), program))))
        elif T is None:
            T = _of_weights(program.weight(block, _padded(mu, program)))
        elif index == dense[-1]:
            factors.append(_diagonal(program, f"{block}_sum", mu, T))
            T = None
        else:
            T = _product(program, f"{block}_sums", mu, T, int(inputs[0].mean.shape[1]))
    first = inputs[0]

    def formula(*i):
        return prod([factor(*i) for factor in factors], start=f32(1.0))

    workload = f"jacobian {prod(int(n) for n in first.mean.shape)}"
    return elementwise.computed(program, name, workload, first.layout, formula, True).mean


def _scaled(T: Callable, slope: te.Tensor) -> Callable:
    return lambda b, h, i: slope[b, h] * T(b, h, i)


def _of_weights(w: te.Tensor) -> Callable:
    return lambda _, h, i: w[h, i]


def _of_input(w: te.Tensor) -> Callable:
    return lambda _, i: w[i]


def _padded(values: np.ndarray, program: Program) -> np.ndarray:
    """The last axis in whole vectors, with zeros."""
    more = -values.shape[-1] % program.target.lanes
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, more)])


def mean_slopes(program: Program, name: str, layer: Layer, x: Activation) -> te.Tensor:
    """E[g′] of an activation's input."""
    below = layer.slope if isinstance(layer, LeakyReLU) else 0.0
    workload = f"mean slope {prod(int(n) for n in x.mean.shape)}"

    mean, var = x.tensors

    def formula(*i):
        return mean_slope(mean(*i), var(*i), below)

    return elementwise.computed(program, name, workload, x.layout, formula, True).mean


def mean_slope(mean, var, below: float):
    """λ + (1 − λ) Φ(m/√v) of one element: TVM expressions in and out; of a known one its slope."""

    def formula(name):
        _, h0, *_ = lower_rectified(name, tirx.max(mean, -mean), var)
        tail = name(tirx.Select(var > f32(0.0), h0, f32(0.0)))
        right = tirx.Select(mean > f32(0.0), f32(1.0) - tail, tail)
        return (f32(below) + f32(1.0 - below) * right,)

    return named(formula, 1)[0]


def _diagonal(program: Program, name: str, mu: np.ndarray, T: Callable) -> te.Tensor:
    """Sum over h of µ_ih T_hi, (batch, i padded)."""
    w = program.weight(f"{name}_weight", _padded(mu.T, program))
    h = te.reduce_axis((0, mu.shape[1]), name="h")
    shape = program.batch, int(w.shape[1])
    total = te.compute(shape, lambda b, i: te.sum(w[h, i] * T(b, h, i), axis=h), name=name)
    return _scheduled(program, name, total)


def _product(program: Program, name: str, mu: np.ndarray, T: Callable, columns: int) -> te.Tensor:
    """Sum over h of µ_oh T_hi, (batch, o, i padded)."""
    w = program.weight(f"{name}_weight", mu)
    h = te.reduce_axis((0, mu.shape[1]), name="h")
    shape = program.batch, mu.shape[0], columns
    total = te.compute(shape, lambda b, o, i: te.sum(w[o, h] * T(b, h, i), axis=h), name=name)
    return _scheduled(program, name, total)


def _scheduled(program: Program, name: str, total: te.Tensor) -> te.Tensor:
    workload = f"jacobian sum {'x'.join(str(int(n)) for n in total.shape)}"
    transform = partial(schedule, name=name, lanes=program.target.lanes)
    program.steps.append(Step(workload, {}, {}, transform))
    return total


def schedule(sch: tvm.s_tir.Schedule, decisions, name: str, lanes: int) -> None:
    """Say how a sum over h is computed: four vectors of inputs side by side.

    Their sums stay in registers, and need not wait for each other. What T is multiplied with is
    one number a vector.
    """
    sums = sch.get_sblock(name)
    *_, i, h = sch.get_loops(sums)
    tile, vector, lane = sch.split(i, [None, 4, lanes])
    sch.annotate(tile, "pragma_loop_partition_hint", True)
    sch.reorder(tile, h, vector, lane)
    sch.unroll(vector)
    sch.vectorize(lane)
    sch.decompose_reduction(sums, h)
