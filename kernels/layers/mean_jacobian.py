"""Diagonal of a branch's mean Jacobian, for the covariance with its own input, in float32.

Formulas
--------
The formulas of `refbnn.layers.mean_jacobian`: for layers f in a row, x of independent entries,

    J_i = E[∂f_i/∂x_i] = [A_L ⋯ A_1]_ii,      A = µ of a dense layer, diag(E[g′]) of a ReLU or leaky
                                              one, E[g′] = λ + (1 − λ) Φ(m/√v).

Layers before the first dense layer and after the last one scale J_i as a whole. In between, T_hi,
the derivative of entry h by x_i, goes from layer to layer, with neighbouring inputs i in a vector.
T begins with the first layer's means; for the last layer only the diagonal is formed.

Range
-----
Let A_i be the same product of absolute values, d the number of dense layers, n the most inputs of
one, and l the number of activations, with inputs of m/√v ≥ −10:
|error of J_i| ≤ (d γ_{n+2} + 1e-6 l) A_i, plus the effect of errors of these moments. Below −10,
E[g′] is right to 1e-23 absolute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod

import numpy as np
import tvm
from tvm import te

from kernels.arithmetic.polynomials import f32
from kernels.layers.activations import elementwise
from kernels.layers.activations.leaky_relu import gain
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
    inputs : random activations, the input of each layer; in `Rows` where there is a dense layer
    posteriors : of each layer's weights, by name
    """
    first, columns = inputs[0], int(inputs[0].mean.shape[-1])
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
            factors.append(_without_example(program.weight(block, _padded(np.diag(mu), program))))
        elif T is None:
            T = _without_example(program.weight(block, _padded(mu, program)))
        elif index == dense[-1]:
            w = program.weight(f"{block}_sum_weight", _padded(mu.T, program))
            factors.append(_sum(program, f"{block}_sum", (columns,), w, T))
            T = None
        else:
            w = program.weight(f"{block}_sums_weight", mu)
            T = _sum(program, f"{block}_sums", (len(mu), columns), w, T)

    def formula(*i):
        return prod([factor(*i) for factor in factors], start=f32(1.0))

    workload = f"jacobian {prod(map(int, first.mean.shape))}"
    return elementwise.computed(program, name, workload, first.layout, formula, True).mean


def _scaled(T: Callable, slope: te.Tensor) -> Callable:
    return lambda b, h, i: slope[b, h] * T(b, h, i)


def _without_example(w: te.Tensor) -> Callable:
    return lambda _, *at: w[at]


def _padded(values: np.ndarray, program: Program) -> np.ndarray:
    """The last axis in whole vectors, with zeros."""
    more = -values.shape[-1] % program.target.lanes
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, more)])


def mean_slopes(program: Program, name: str, layer: Layer, x: Activation) -> te.Tensor:
    """E[g′] for an activation's input."""
    below = layer.slope if isinstance(layer, LeakyReLU) else 0.0
    workload = f"mean slope {prod(map(int, x.mean.shape))}"
    mean, var = x.tensors

    def formula(*i):
        return gain(mean(*i), var(*i), below)

    return elementwise.computed(program, name, workload, x.layout, formula, True).mean


def _sum(
    program: Program, name: str, shape: tuple[int, ...], w: te.Tensor, T: Callable
) -> te.Tensor:
    """Σ_h µ_oh T_hi of shape (batch, o, i padded), or its diagonal o = i, (batch, i padded).

    Parameters
    ----------
    shape : (o, i padded) or (i padded,)
    w : µ (o, h), or for the diagonal µᵀ (h, i padded)
    """
    diagonal = len(shape) == 1
    h = te.reduce_axis((0, int(w.shape[0 if diagonal else 1])), name="h")

    def term(b, *at):
        weight = w[h, at[-1]] if diagonal else w[at[0], h]
        return te.sum(weight * T(b, h, at[-1]), axis=h)

    total = te.compute((program.batch, *shape), term, name=name)
    workload = f"jacobian sum {'x'.join(str(int(n)) for n in total.shape)}"
    transform = partial(schedule, name=name, lanes=program.target.lanes)
    program.steps.append(Step(workload, {}, {}, transform))
    return total


def schedule(sch: tvm.s_tir.Schedule, decisions, name: str, lanes: int) -> None:
    """Say how a sum over h is computed: four vectors of inputs side by side.

    Their sums stay in registers, and need not wait for each other. One number multiplies a vector
    of T.
    """
    sums = sch.get_sblock(name)
    *_, i, h = sch.get_loops(sums)
    tile, vector, lane = sch.split(i, [None, 4, lanes])
    sch.annotate(tile, "pragma_loop_partition_hint", True)
    sch.reorder(tile, h, vector, lane)
    sch.unroll(vector)
    sch.vectorize(lane)
    sch.decompose_reduction(sums, h)
