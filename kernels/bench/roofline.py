"""Roofline: the least time that an operator could take on this machine (Williams et al. 2009).

    t ≥ max(bytes / bandwidth, operations / rate)

Bytes count the operator's arrays once each: inputs, outputs and what is read of the weights, in
float32, without padding. Operations of dense layers and convolutions are a product and a sum for
each term that is summed (`kernels.layers.products`). Operations of other layers, and of
convolutions that are one operator with the pooling behind them, are counted in their expressions,
padding included (`kernels.bench.operations`). Operators of the pass back of linearised propagation
are counted with their padding throughout.

Bandwidth is measured on one core that reads as many bytes again and again, so it is the bandwidth
of the cache that holds them. The rate is that of fused multiply-adds between registers. Both are
measured with kernels of the same compiler.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """Work of an operator.

    Parameters
    ----------
    n_bytes : int
        Bytes to move.
    operations : int
        Operations in float32.
    products : int
        Multiply-accumulates of a weight and an input, whatever their terms.
    n_weights : int
        Numbers to read of weights and biases.
    """

    n_bytes: int
    operations: int
    products: int = 0
    n_weights: int = 0


def work(layer: Layer, alone: Program, form: str) -> Work:
    """Count the work of one layer by its own program; forms as in `kernels.layers.products`."""
    known = len(alone.inputs) == 1
    n_in, n_out = (
        sum(alone.batch * prod(layout.shape) for layout, _ in operands)
        for operands in (alone.inputs, alone.outputs)
    )
    sizes = [prod(shape) for shape in layer.parameter_shapes().values()]
    n_weights = (1 if form == "mean" else 2) * sum(sizes)
    n_products = alone.batch * _products(layer, alone.inputs[0][0].shape)
    pooled = isinstance(layer, Conv2d) and alone.outputs[0][0].shape != layer.output_shape(
        alone.inputs[0][0].shape
    )
    if isinstance(layer, Dense | Conv2d) and not pooled:
        n_operations = 2 * n_sums(form, known) * n_products
    else:
        n_operations = operations.count([tensor for _, tensor in alone.outputs])
    return Work(4 * (n_in + n_out + n_weights), n_operations, n_products, n_weights)


def work_of_pass_back(alone: Program) -> Work:
    """Count the work of an operator of the pass back (`kernels.layers.linearised.alone`)."""
    outputs = [tensor for _, tensor in alone.outputs]
    tensors = [*[tensor for _, tensor in alone.inputs], *outputs]
    n_weights = sum(values.size for _, values in alone.weights)
    n_numbers = n_weights + sum(prod(map(int, tensor.shape)) for tensor in tensors)
    return Work(4 * n_numbers, operations.count(outputs), n_weights=n_weights)


def _products(layer: Layer, shape: tuple[int, ...]) -> int:
    """Count the multiply-accumulates for one example, an input of that shape."""
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
    """Measure the bytes a second that one core reads of an array of that size, read before."""
    lanes, sums = target.lanes, 8  # independent, so that no sum waits for itself
    n = max(1, n_bytes // (4 * lanes * sums))
    rounds = 1 + _LEAST_BYTES // (4 * n * lanes * sums)
    program = Program(target, rounds)
    x = program.weight("x", np.ones((n, sums, lanes)))
    k = te.reduce_axis((0, n))
    seconds = _seconds_of_sums(
        program, sums, lambda _, i: te.sum(x[k, i // lanes, i % lanes], axis=k), device
    )
    return 4.0 * rounds * n * sums * lanes / seconds


def rate(target: Target, device: str | Board) -> float:
    """Measure the operations a second of one core in fused multiply-adds, two operations each."""
    lanes, sums = target.lanes, min(12, target.registers // 2 - 2)
    program = Program(target, _ROWS)
    x = program.weight("x", np.ones((_ROWS, _TERMS)))
    w = program.weight("w", np.ones((sums, lanes)))
    k = te.reduce_axis((0, _TERMS))
    seconds = _seconds_of_sums(
        program, sums, lambda i, j: te.sum(x[i, k] * w[j // lanes, j % lanes], axis=k), device
    )
    return 2.0 * _ROWS * _TERMS * sums * lanes / seconds


def _seconds_of_sums(program: Program, sums: int, element: Callable, device: str | Board) -> float:
    """Time the sums of each row, (batch, sums · lanes), all of a row in registers; the least."""
    lanes = program.target.lanes
    columns = sums * lanes
    total = te.compute((program.batch, columns), element, name="total")
    program.give_arrays(Rows(columns, lanes), total)
    plan = planned(program)
    block = plan.get_sblock("total")
    _, column, k = plan.get_loops(block)
    outer, lane = plan.split(column, [None, lanes])
    plan.reorder(k, outer, lane)
    plan.unroll(outer)
    plan.vectorize(lane)
    plan.decompose_reduction(block, k)
    return on_device({"": bind(program, plan.mod, device)}, statistic=min)[""]
