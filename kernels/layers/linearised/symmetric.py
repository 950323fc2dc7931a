"""Symmetric products A Rᵀ of K rows for each example, in float32: each pair of rows once.

Formulas
--------
C[k, l] = Σ_n A[k, n] R[l, n] with A = R diag(w), so C = Cᵀ. Of all pairs of rows those with
l = k + c mod K, 0 ≤ c ≤ K/2, hold each pair once (for even K those of c = K/2 twice). A register
holds the sums of one pair, one for each lane; a tile of rows k by distances c stays in registers.
All products of a network are added up so, lane by lane, before lanes are: halves of vectors are
added until one number is left.

Range
-----
With u = 2⁻²⁴ and γ as in `kernels.layers.dense`: |error of C[k, l]| ≤ γ_{n + lanes} Σ |A R|.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import tvm
from tvm import te, tirx

from kernels.arithmetic.polynomials import f32
from kernels.layers import tiles
from kernels.program.program import Program, Step

_FEW = 12  # outputs whose tiles are all unrolled: rows are then known at compile time


@dataclass(frozen=True, eq=False)
class Symmetric:
    """Sums of pairs by lanes, (B, K, K//2 + 1, lanes): rows k and k + c mod K."""

    by_lane: te.Tensor


def pairs(
    program: Program, name: str, A: te.Tensor, R: te.Tensor, row: Callable, weighted: str = ""
) -> Symmetric:
    """Sums of products of rows.

    Parameters
    ----------
    program : Program
    name : str
        Name of the block.
    A : tensor (B, K, *memory)
    R : tensor (rows, *memory)
    row : callable (b, k) -> row of R
    weighted : str
        Name of A's block, where it shall be computed here.
    """
    batch, k, *outer, width = map(int, A.shape)
    lanes = program.target.lanes
    axes = [te.reduce_axis((0, n)) for n in (*outer, width // lanes)]

    def of_pair(b, r, c, lane):
        at = *axes[:-1], axes[-1] * lanes + lane
        return te.sum(A(b, r, *at) * R(row(b, (r + c) % k), *at), axis=axes)

    sums = te.compute((batch, k, k // 2 + 1, lanes), of_pair, name=name)
    registers = program.target.registers * 5 // 8
    by_hand = {"rows": tiles.balanced(k, 5)}
    by_hand["distances"] = tiles.balanced(k // 2 + 1, registers // by_hand["rows"])
    size = "x".join(map(str, A.shape[2:]))
    transform = partial(_schedule_pairs, name=name, k=k, weighted=weighted)
    workload = f"symmetric product {size} rows {k} batch {batch}"
    program.steps.append(Step(workload, by_hand, {}, transform))
    return Symmetric(sums)


def _schedule_pairs(sch: tvm.s_tir.Schedule, decisions, name: str, k: int, weighted: str) -> None:
    """Say how sums of pairs are computed: one decision a paragraph."""
    sums = sch.get_sblock(name)
    example, row, distance, lane, *axes = sch.get_loops(sums)

    # The rows of A of one example at a time, which stay in the first cache.
    if weighted:
        sch.compute_at(sch.get_sblock(weighted), example, preserve_unit_loops=True)

    # A tile of rows and distances in registers, the loops over entries around it.
    row_tile, row = sch.split(row, [None, decisions["rows"]])
    distance_tile, distance = sch.split(distance, [None, decisions["distances"]])
    sch.reorder(row_tile, distance_tile, *axes, row, distance, lane)
    for loop in (row, distance):
        sch.unroll(loop)
    sch.vectorize(lane)

    # A last tile that is not full gets loops of its own. Few rows are unrolled: each is then known,
    # and read once for several pairs.
    for loop in (row_tile, distance_tile):
        sch.annotate(loop, "pragma_loop_partition_hint", True)
        if k <= _FEW:
            sch.unroll(loop)
    sch.decompose_reduction(sums, axes[0])


def joined(
    program: Program, k: int, forms: list[Symmetric], diagonal: te.Tensor | None
) -> te.Tensor:
    """The sum of symmetric products, and of a diagonal (B, K padded): (B, K, K padded)."""
    batch, lanes = program.batch, program.target.lanes
    total = _of_lanes(batch, k, lanes, forms) if forms else []
    columns = -(-k // lanes) * lanes

    def entry(b, r, column):
        value = f32(0.0)
        if total:
            c = (column - r + k) % k
            first = tirx.any(2 * c < k, tirx.all(2 * c == k, r < column))
            sums = total[-1]
            value = tirx.if_then_else(first, sums[b, r, c, 0], sums[b, column, (k - c) % k, 0])
        if diagonal is not None:
            value = value + tirx.if_then_else(r == column, diagonal[b, r], f32(0.0))
        return tirx.if_then_else(column < k, value, f32(0.0)) if columns > k else value

    cov = te.compute((batch, k, columns), entry, name="covariance")
    stages = [tensor.op.name for tensor in total]
    transform = partial(_schedule_joined, stages=stages, k=k)
    program.steps.append(Step(f"covariance {k} batch {batch}", {}, {}, transform))
    return cov


def _of_lanes(batch: int, k: int, lanes: int, forms: list[Symmetric]) -> list[te.Tensor]:
    """Sums over products, then over halves of vectors, down to one number: each stage."""
    shape = batch, k, k // 2 + 1

    def of_forms(*i):
        first, *others = [form.by_lane(*i) for form in forms]
        return sum(others, first)

    stages = [te.compute((*shape, lanes), of_forms, name="covariance_lanes")]
    while lanes > 1:
        lanes //= 2
        stages.append(_half(stages[-1], (*shape, lanes)))
    return stages


def _half(x: te.Tensor, shape: tuple[int, ...]) -> te.Tensor:
    lanes = shape[-1]
    return te.compute(
        shape, lambda *i: x(*i) + x(*i[:-1], i[-1] + lanes), name=f"covariance_lanes_{lanes}"
    )


def _schedule_joined(sch: tvm.s_tir.Schedule, decisions, stages: list[str], k: int) -> None:
    """Say how the sums are joined: example after example, whole vectors."""
    cov = sch.get_sblock("covariance")
    example, row, column = sch.get_loops(cov)
    if k <= _FEW:  # all indices known
        sch.unroll(row)
        sch.unroll(column)
    for name in reversed(stages):
        block = sch.get_sblock(name)
        sch.compute_at(block, example, preserve_unit_loops=True)
        sch.vectorize(sch.get_loops(block)[-1])
