"""Covariance of the outputs by the noise of a convolution's weights and biases.

Formulas
--------
    C += Σ σ_w² G_kw G_lw + Σ σ_b² (ΣJ_k)(ΣJ_l)

G are the gradients of `kernels.layers.linearised.images`; the sums of J are over all pixels.
Vectors hold channels in `Packs`. In `Planes` they hold neighbours in a row; a sum then has a number
for each lane, and `over_lanes` adds these up.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import tvm
from tvm import te, tirx

from kernels.layers import tiles
from kernels.layers.images import Images, Packs
from kernels.layers.linearised import over_lanes
from kernels.layers.linearised.backward import Backward
from kernels.layers.shared_weights import Pooled
from kernels.program import vectors
from kernels.program.program import Step


def add(backward: Backward, name: str, P: te.Tensor, layout: Images, pooled: Pooled) -> None:
    """Add Σ σ_w² G_kw G_lw and Σ σ_b² (ΣJ_k)(ΣJ_l) to the covariance."""
    G = _gradients(backward, f"{name}_gradient", P, layout, pooled)
    sums = _totals(backward, f"{name}_total", P, layout)
    for what, rows, posterior in (("weights", G, pooled.weight), ("biases", sums, pooled.bias)):
        var = backward.program.weight(f"{name}_{what}_var", _laid_out(posterior.var, layout))
        k, shape = backward.n_outputs, [int(n) for n in rows.shape[1:]]

        formula = partial(_scaled, rows, var, k)
        A = te.compute((backward.program.batch, k, *shape), formula, name=f"{name}_{what}_scaled")
        vectors.add_step(backward.program, f"scaled {shape} rows {k}", [A.op.name])
        backward.add(f"{name}_{what}", A, rows)


def _scaled(rows: te.Tensor, var: te.Tensor, k: int, b, r, *i):
    return rows(b * k + r, *i) * var(*i)


def _laid_out(values: np.ndarray, layout: Images) -> np.ndarray:
    """Weights or biases by output channel as G has them: channels in lanes, or the last axis."""
    lanes = layout.lanes
    if isinstance(layout, Packs):
        padded = np.pad(values, [(0, -len(values) % lanes)] + [(0, 0)] * (values.ndim - 1))
        return np.moveaxis(padded.reshape(-1, lanes, *values.shape[1:]), 1, -1)
    width = values.shape[-1]
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, -width % lanes)])


def _gradients(
    backward: Backward, name: str, P: te.Tensor, layout: Images, pooled: Pooled
) -> te.Tensor:
    """G, (B·K, packs, C/g, K, L, lanes) of `Packs`, (B·K, O, C/g, K, L padded) of `Planes`."""
    conv, program, k = pooled.windows.conv, backward.program, backward.n_outputs
    kernel, channels, lanes = conv.sizes[0], conv.in_channels // conv.groups, layout.lanes
    of_group = conv.out_channels // conv.groups
    outer, rows, columns = _vectors(layout)
    i, j = te.reduce_axis((0, rows), name="i"), te.reduce_axis((0, columns), name="j")

    def patch(b, q, row, vector, c, a, z, lane):
        index = _index(layout, q, row, vector, lane)
        o, down, right = layout.place(*index)
        first = o // of_group * channels if conv.groups > 1 else 0
        terms = [
            pooled.pixels.read(pooled.mean, b, first + c, (down, right), (y + a, x + z))
            for y, x in pooled.windows.entries
        ]
        if not pooled.entries:
            return terms[0]
        shares = [weight(b, *index) for weight in pooled.entries]
        return sum(
            (w * t for w, t in zip(shares[1:], terms[1:], strict=True)), shares[0] * terms[0]
        )

    average = patch
    if pooled.entries:
        of_pixel = (program.batch, outer, rows, columns, channels, *kernel, lanes)
        average = te.compute(of_pixel, patch, name=f"{name}_average")

    def gradient(r, q, c, a, z, lane):
        g = P[(r, *_index(layout, q, i, j, lane))]
        return te.sum(g * average(tirx.floordiv(r, k), q, i, j, c, a, z, lane), axis=[i, j])

    shape = (int(P.shape[0]), outer, channels, *kernel, lanes)
    G = te.compute(shape, gradient, name=name)
    rows_of_tile = tiles.balanced(k, 10)
    columns_of_tile = tiles.balanced(kernel[1], program.target.registers * 5 // 8 // rows_of_tile)
    decisions = {"rows": rows_of_tile, "columns": columns_of_tile}
    average_name = f"{name}_average" if pooled.entries else ""
    transform = partial(_schedule_gradients, name=name, k=k, average=average_name)
    workload = f"gradients {conv} of {pooled.windows.pool} {layout} rows {shape[0]}"
    program.steps.append(Step(workload, decisions, {}, transform))
    return G if isinstance(layout, Packs) else over_lanes.add(backward.program, name, G)


def _totals(backward: Backward, name: str, P: te.Tensor, layout: Images) -> te.Tensor:
    """Sums of P over all pixels: (B·K, packs, lanes) of `Packs`, (B·K, O padded) of `Planes`."""
    outer, rows, columns = _vectors(layout)
    i, j = te.reduce_axis((0, rows), name="i"), te.reduce_axis((0, columns), name="j")

    def total(r, q, lane):
        return te.sum(P[(r, *_index(layout, q, i, j, lane))], axis=[i, j])

    result = te.compute((int(P.shape[0]), outer, layout.lanes), total, name=name)
    transform = partial(_schedule_totals, name=name)
    workload = f"totals {layout} rows {int(P.shape[0])}"
    backward.program.steps.append(Step(workload, {}, {}, transform))
    return result if isinstance(layout, Packs) else over_lanes.add(backward.program, name, result)


def _vectors(layout: Images) -> tuple[int, int, int]:
    """Packs or channels, rows, and vectors of a row."""
    if isinstance(layout, Packs):
        return layout.packs, layout.height, layout.width
    return layout.channels, layout.height, layout.pitch // layout.lanes


def _index(layout: Images, q, row, vector, lane) -> tuple:
    if isinstance(layout, Packs):
        return q, row, vector, lane
    return q, row, vector * layout.lanes + lane


def _schedule_totals(sch: tvm.s_tir.Schedule, decisions, name: str) -> None:
    sums = sch.get_sblock(name)
    *_, lane, i, j = sch.get_loops(sums)
    sch.reorder(i, j, lane)
    sch.vectorize(lane)
    sch.decompose_reduction(sums, i)


def _schedule_gradients(
    sch: tvm.s_tir.Schedule, decisions: Mapping[str, int], name: str, k: int, average: str
) -> None:
    """Say how G is computed: one decision a paragraph."""
    # Tiles of rows of J by columns of the kernel in registers: a vector of J serves each column, an
    # averaged vector of patches each row.
    sums = sch.get_sblock(name)
    r, q, c, a, z, lane, i, j = sch.get_loops(sums)
    example, r = sch.split(r, [None, k])
    r_tile, r = sch.split(r, [None, decisions["rows"]])
    z_tile, z = sch.split(z, [None, decisions["columns"]])
    sch.reorder(example, r_tile, q, c, a, z_tile, i, j, r, z, lane)
    for loop in (r, z):
        sch.unroll(loop)
    sch.vectorize(lane)
    for loop in (r_tile, z_tile):
        sch.annotate(loop, "pragma_loop_partition_hint", True)

    # Patches are averaged where they are used.
    if average:
        block = sch.get_sblock(average)
        sch.compute_at(block, j, preserve_unit_loops=True)
        *_, z, lane = sch.get_loops(block)
        sch.unroll(z)
        sch.vectorize(lane)
    sch.decompose_reduction(sums, i)
