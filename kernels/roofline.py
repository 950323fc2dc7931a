"""Roofline: the least time that an operator could take on this machine (Williams et al. 2009).

    t ≥ max(bytes / bandwidth, operations / rate)

Bytes are those of the operator's arrays, each moved once: inputs, outputs and what is read of the
weights, in float32, without padding. Operations of dense layers and convolutions are a product and
a sum for each term that is summed (`kernels.products`); those of others are counted in what is
computed, padding included, each as one, also a division or a root.

Bandwidth is that of one core that reads as many bytes again and again, so of the cache that holds
them. The rate is that of fused multiply-adds between registers. Both are measured with kernels of
the same compiler.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import tvm
from tvm import te, tirx

from kernels.bench import on_device
from kernels.devices import Board
from kernels.kernel import bind, planned
from kernels.products import n_sums
from kernels.program import Program, Rows
from kernels.targets import Target
from refbnn.layers import Conv2d, Dense, Layer

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
        As in `kernels.products`.
    """
    known = len(alone.inputs) == 1
    n_in, n_out = (
        sum(alone.batch * prod(layout.shape) for layout, _ in operands)
        for operands in (alone.inputs, alone.outputs)
    )
    if not isinstance(layer, Dense | Conv2d):
        tensors = [tensor for _, tensor in alone.outputs]
        return Work(4 * (n_in + n_out), _operations(tensors))
    shapes = layer.parameter_shapes()
    n_weights = prod(shapes["weight"])
    uses = alone.batch * prod(alone.outputs[0][0].shape) // shapes["weight"][0]  # of each weight
    n_read = (1 if form == "mean" else 2) * (n_weights + prod(shapes["bias"]))
    return Work(
        n_bytes=4 * (n_in + n_out + n_read),
        operations=2 * n_sums(form, known) * n_weights * uses,
        products=n_weights * uses,
        n_weights=n_read,
    )


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


def _operations(tensors: list[te.Tensor]) -> int:
    """Count operations on real numbers in what the tensors are computed from."""
    stages, waiting = {}, [tensor.op for tensor in tensors]
    while waiting:
        op = waiting.pop()
        if isinstance(op, te.ComputeOp) and op.name not in stages:
            extents = [int(axis.dom.extent) for axis in [*op.axis, *op.reduce_axis]]
            stages[op.name] = prod(extents) * max(_in_expression(part) for part in op.body)
            waiting += [tensor.op for tensor in op.input_tensors]
    return sum(stages.values())


def _in_expression(expression) -> int:
    """Count in one expression, what occurs twice once.

    Mean and variance of an operator are two expressions that share most of what they compute: the
    larger one counts.
    """
    seen: set[int] = set()
    n, waiting = 0, [expression]
    while waiting:
        e = waiting.pop()
        if hash(e) in seen or isinstance(e, te.Tensor):
            continue
        seen.add(hash(e))
        if isinstance(e, tirx.Reduce):
            n += len(e.source)  # a sum each; every part of a joint reduction has all the sources
            waiting += list(e.source)
            continue
        below = [getattr(e, name) for name in _PARTS if hasattr(e, name)]
        if isinstance(e, tvm.ir.Call):
            below = list(e.args)
        counted = hasattr(e, "b") or (isinstance(e, tvm.ir.Call) and not _reads(e))
        n += counted and str((below[0]).ty).startswith("float")
        waiting += below
    return n


_PARTS = ("a", "b", "value", "body", "condition", "true_value", "false_value")


def _reads(call) -> bool:
    """Whether a call is the entry of a tensor."""
    return bool(call.args) and isinstance(call.args[0], te.Tensor)
