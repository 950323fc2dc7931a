"""Sums over the lanes of vectors, halves added to halves."""

from __future__ import annotations

from functools import partial

import tvm
from tvm import te, tirx

from kernels.arithmetic.polynomials import f32
from kernels.program.program import Program, Step


def add(program: Program, name: str, by_lane: te.Tensor) -> te.Tensor:
    """Sums over the last axis, halves added to halves; the axis before it in whole vectors."""
    *shape, lanes = [int(n) for n in by_lane.shape]
    blocks, now, width = [], by_lane, lanes
    while width > 1:
        width //= 2
        blocks.append(f"{name}_lanes{width}")
        now = te.compute((*shape, width), partial(_halves, now, width), name=blocks[-1])
    n = shape[-1]
    padded = (*shape[:-1], -(-n // lanes) * lanes)
    result = te.compute(padded, partial(_first, now, n), name=f"{name}_rows")
    transform = partial(_schedule_halves, blocks=blocks[:-1])
    program.steps.append(Step(f"over lanes {shape} of {lanes}", {}, {}, transform))
    return result


def _halves(tensor: te.Tensor, width: int, *i):
    return tensor(*i) + tensor(*i[:-1], i[-1] + width)


def _first(tensor: te.Tensor, n: int, *i):
    return tirx.if_then_else(i[-1] < n, tensor(*i, 0), f32(0.0))


def _schedule_halves(sch: tvm.s_tir.Schedule, decisions, blocks: list[str]) -> None:
    for block in blocks:
        sch.vectorize(sch.get_loops(sch.get_sblock(block))[-1])
