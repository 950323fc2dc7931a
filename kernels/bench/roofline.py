"""Roofline: the least time that an operator could take on this machine (Williams et al. 2009).

    t ≥ max(bytes / bandwidth, operations / rate)

Bytes are those of the operator's arrays, each moved once: inputs, outputs and what is read of the
weights, in float32, without padding. Operations of dense layers and convolutions are a product and
a sum for each term that is summed (`kernels.layers.products`); those of others are counted in what
is computed, padding included (`kernels.bench.operations`).

Bandwidth is that of one core that reads as many bytes again and again, so of the cache that holds
them. The rate is that of fused multiply-adds between registers. Both are measured with kernels of
the same compiler.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from tvm import te

from kernels.bench import operations
from kernels.bench.latency import on_device
from kernels.devices import Board
from kernels.devices.targets import Target
from kernels.layers.products import n_sums
from kernels.program.kernel import bind, planned
from kernels.program.program import Program, Rows
from refbnn.layers import Conv2d, Dense, Layer, Residual

_LEAST_BYTES = 1 << 20  # read in one call, so that the call does not count
_ROWS, _TERMS = 64, 512  # of the kernel that measures the rate: 100 µs, and all in the first cache


@dataclass(frozen=True)
class Work:
    """What an operator has to do.

    Parameters
    ----------
    n_bytes : int
        To move.
    operations : int
        In float32.
    products : int
        Of a weight and an input, whatever is computed of them; 0 where there are no weights.
    n_weights : int
        Numbers that are read of weights and biases.
    """

    n_bytes: int
    operations: int
    products: int = 0
    n_weights: int = 0


def work(layer: Layer, alone: Program, form: str) -> Work:
    """Count the work of one layer.

    Parameters
    ----------
    layer : Layer
    alone : Program
        Of that layer by itself.
    form : str
        As in `kernels.layers.products`.
    """
    known = len(alone.inputs) == 1
    n_in, n_out = (
        sum(alone.batch * prod(layout.shape) for layout, _ in operands)
        for operands in (alone.inputs, alone.outputs)
    )
    sizes = [prod(shape) for shape in layer.parameter_shapes().values()]
    n_weights = (1 if form == "mean" else 2) * sum(sizes)
    n_products = alone.batch * _products(layer, alone.inputs[0][0].shape)
    if isinstance(layer, Dense | Conv2d):
        n_operations = 2 * n_sums(form, known) * n_products
    else:
        n_operations = operations.count([tensor for _, tensor in alone.outputs])
    return Work(4 * (n_in + n_out + n_weights), n_operations, n_products, n_weights)


def _products(layer: Layer, shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of one example, an input of that shape."""
    match layer:
        case Dense():
            return layer.in_features * layer.out_features
        case Conv2d():
            _, *pixels = layer.output_shape(shape)
            return prod(pixels) * prod(layer.parameter_shapes()["weight"])
        case Residual():
            total = 0
            for inner in layer.layers:
                total += _products(inner, shape)
                shape = inner.output_shape(shape)
            return total
    return 0


def bandwidth(target: Target, n_bytes: int, device: str | Board) -> float:
    """Bytes a second that one core reads of an array of that size, read before."""
    lanes, sums = target.lanes, 8  # independent, so that no sum waits for itself
    n = max(1, n_bytes // (4 * lanes * sums))
    rounds = 1 + _LEAST_BYTES // (4 * n * lanes * sums)
    program = Program(target, rounds)
    x = program.weight("x", np.ones((n, sums, lanes)))
    k = te.reduce_axis((0, n), name="k")
    total = te.compute(
        (rounds, sums * lanes),
        lambda _, i: te.sum(x[k, i // lanes, i % lanes], axis=k),
        name="total",
    )
    program.outputs.append((Rows(sums * lanes, lanes), total))
    return 4.0 * rounds * n * sums * lanes / _seconds(program, "total", lanes, device)


def rate(target: Target, device: str | Board) -> float:
    """Operations a second of one core in fused multiply-adds, each counted as two."""
    lanes, sums = target.lanes, min(12, target.registers // 2 - 2)
    program = Program(target, _ROWS)
    x = program.weight("x", np.ones((_ROWS, _TERMS)))
    w = program.weight("w", np.ones((sums, lanes)))
    k = te.reduce_axis((0, _TERMS), name="k")
    total = te.compute(
        (_ROWS, sums * lanes),
        lambda i, j: te.sum(x[i, k] * w[j // lanes, j % lanes], axis=k),
        name="total",
    )
    program.outputs.append((Rows(sums * lanes, lanes), total))
    return 2.0 * _ROWS * _TERMS * sums * lanes / _seconds(program, "total", lanes, device)


def _seconds(program: Program, block: str, lanes: int, device: str | Board) -> float:
    """Least time of sums, (rows, sums·lanes), all sums of a row in registers."""
    plan = planned(program)
    total = plan.get_sblock(block)
    _, column, k = plan.get_loops(total)
    sums, lane = plan.split(column, [None, lanes])
    plan.reorder(k, sums, lane)
    plan.unroll(sums)
    plan.vectorize(lane)
    plan.decompose_reduction(total, k)
    return on_device({"": bind(program, plan.mod, device)}, statistic=min)[""]
