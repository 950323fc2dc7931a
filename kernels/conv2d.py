"""Convolution, y = W ∗ x + b: mean and variance in one loop, in float32.

Formula
-------
The sums of `refbnn.layers.conv2d` over channels c of a group and places (a, b) of the kernel, with
the products of `kernels.products`: of independent weights (mean µ, variance σ²) and inputs (mean
m, variance v), in the form "variance",

    m'_oij = Σ_cab m µ + µ_b        v'_oij = Σ_cab [ v µ² + (v + m²) σ² ] + σ_b²

where m and v are those of pixel (s·i + a − p, t·j + b − q) of channel c, zero outside the image.

Two ways to fill a vector
-------------------------
"channels"  with the output channels of one pixel: weights are vectors, inputs are single numbers
            that serve every lane. Any stride. Gives `Packs`.
"pixels"    with neighbours in a row of one output channel: inputs are vectors, weights are single
            numbers. Gives `Planes`. For a stride of 1 along rows, or inputs are gathered one by
            one; and for groups, whose channels would not fill packs.

The one that leaves fewer lanes idle is taken (`way`): LeNet-5's first convolution has 6 channels
and 28 columns, 6/16 or 28/32 of the lanes of AVX-512; the second, 16 channels and 10 columns.

Range
-----
As in `kernels.dense`, with n = C/g·K·L terms a sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import tvm
from tvm import te

from kernels import images, targets, tiles
from kernels.dense import pack
from kernels.devices import Board
from kernels.images import Images, Packs, Planes
from kernels.kernel import Kernel
from kernels.kernel import build as build_program
from kernels.products import (
    bias_terms,
    both_moments,
    joint_sum,
    moments,
    n_sums,
    products,
    weight_terms,
)
from kernels.program import Activation, Program, Step
from kernels.targets import Target
from refbnn.layers.windows import Pair, output_size
from refbnn.posterior import Posterior


def way(out_channels: int, out_width: int, column_stride: int, groups: int, lanes: int) -> str:
    """Choose "channels" or "pixels": the way that leaves fewer lanes idle, of those that can."""
    if groups > 1:
        return "pixels"
    if column_stride > 1:
        return "channels"

    def used(n):
        return n / (-(-n // lanes) * lanes)

    return "pixels" if used(out_width) > used(out_channels) else "channels"


def add(
    program: Program,
    name: str,
    x: Activation,
    weight: Posterior,
    bias: Posterior,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    groups: int = 1,
    form: str = "variance",
) -> Activation:
    """Apply the layer.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks, by which the schedules find them.
    x : Activation of images
    weight : Posterior of shape (O, C/g, K, L)
    bias : Posterior of shape (O,)
    stride, padding : (int, int)
    groups : int
    form : {"variance", "raw", "separate", "mean", "spread"}
        See `kernels.products`; the last gives the variance in the place of the mean.
    """
    if form == "separate":
        parts = [
            add(program, f"{name}_{part}", x, weight, bias, stride, padding, groups, part)
            for part in ("mean", "spread")
        ]
        return Activation(parts[0].layout, *(part.mean for part in parts))
    if form == "mean":
        x = Activation(x.layout, x.mean, None)
    lanes, known = program.target.lanes, x.var is None
    n_out, _, *size = weight.shape
    kernel = size[0], size[1]
    channels, height, width = images.images(x).shape
    rows, columns = output_size((height, width), kernel, stride, padding)
    chosen = way(n_out, columns, stride[1], groups, lanes)
    layout: Images = (Packs if chosen == "channels" else Planes)(n_out, rows, columns, lanes)

    before = len(program.steps)
    x = images.around(program, f"{name}_around", x, layout, kernel, stride, padding)

    # Weights by blocks of output channels, those of one block neighbours: one vector, or one group.
    block = lanes if chosen == "channels" else n_out // groups

    def packed(what: str, arrays: list[np.ndarray]) -> list[te.Tensor]:
        return [program.weight(f"{name}_{what}", pack(array, block)) for array in arrays]

    w = packed("weight", weight_terms(weight, form))
    b = packed("bias", bias_terms(bias, form))
    tensors = compute(name, x, w, b, layout, stride, groups, form)
    # Of planes NEON loads inputs by vectors of neighbours, and multiplies with any lane of them.
    # (Of packs, by vectors of channels: 2 and 28 % more instructions in two convolutions of 3 × 3.)
    by_lane = program.target.is_arm and (type(x.layout), type(layout)) == (Planes, Packs)
    inputs = (kernel, stride) if by_lane else None
    # Before the step that writes what is around the images by a block of its own: TVM makes copies
    # only of what one block writes.
    program.steps.insert(
        before,
        Step(
            workload=(
                f"conv2d {channels}x{height}x{width} to {n_out} "
                f"{images.in_words(kernel, stride, padding)} "
                f"groups {groups} batch {program.batch} {'known' if known else 'random'} {form} "
                f"from {type(x.layout).__name__} to {type(layout).__name__}"
            ),
            by_hand=tiles.of_images(layout, groups, n_sums(form, known), program.target, inputs),
            space=space(layout, groups),
            transform=partial(schedule, name=name, form=form, lanes=lanes, by_lane=by_lane),
        ),
    )
    return Activation(layout, tensors[0], tensors[1] if both_moments(form) else None)


def compute(
    name: str,
    x: Activation,
    w: list[te.Tensor],
    b: list[te.Tensor],
    layout: Images,
    stride: Pair,
    groups: int,
    form: str,
) -> list[te.Tensor]:
    """Say what is computed: the moments of y.

    Parameters
    ----------
    name, stride, groups, form : as in `add`
    x : Activation of images, zeros around them included
    w : list of (blocks of output channels, C/g, K, L, channels of a block)
        Terms of the weights. With several groups, a block is a group.
    b : list of (blocks, channels of a block)
        What is read of the biases.
    layout : Planes or Packs
        Of y.
    """
    source, mean, var = images.images(x), x.mean, x.var
    batch = int(mean.shape[0])
    *sizes, block = [int(n) for n in w[0].shape[1:]]

    def second_moment(*index):
        square = mean(*index) * mean(*index)
        return square if var is None else var(*index) + square

    x2 = te.compute(mean.shape, second_moment, name=f"{name}_second") if form != "mean" else None
    axes = [te.reduce_axis((0, n), name=axis) for n, axis in zip(sizes, "cab", strict=True)]
    c, down, right = axes

    def terms(i, *index):
        o, row, column = layout.place(*index)
        first = o // block * sizes[0] if groups > 1 else 0
        pixel = source.index(first + c, stride[0] * row + down, stride[1] * column + right)
        m, second, v = (None if t is None else t[(i, *pixel)] for t in (mean, x2, var))
        weights = [term[o // block, c, down, right, o % block] for term in w]
        return joint_sum(products(m, second, v, weights, form), axis=axes)

    sums = te.compute(layout.tensor_shape(batch), terms, name=f"{name}_sums")
    sums = sums if isinstance(sums, list | tuple) else [sums]

    def epilogue(i, *index):
        o, _, _ = layout.place(*index)
        biases = [term[o // block, o % block] for term in b]
        parts = moments([total(i, *index) for total in sums], biases, form)
        return tuple(parts) if both_moments(form) else parts[0]

    out = te.compute(layout.tensor_shape(batch), epilogue, name=name)
    return list(out) if both_moments(form) else [out]


def space(layout: Images, groups: int) -> dict[str, Sequence[int]]:
    """Sizes of a tile that are worth a search, in vectors."""
    _, rows, columns = layout.shape
    if isinstance(layout, Packs):
        channels = layout.packs
    else:
        channels, columns = layout.channels // groups, layout.pitch // layout.lanes
    return {
        "channels": range(1, min(channels, 8) + 1),
        "rows": range(1, min(rows, 4) + 1),
        "columns": range(1, min(columns, 12) + 1),
    }


def schedule(
    sch: tvm.s_tir.Schedule,
    decisions: Mapping[str, int],
    name: str,
    form: str,
    lanes: int,
    by_lane: bool,
) -> None:
    """Say how it is computed: one decision a paragraph; the sizes of a tile are decided."""
    # Second moments first, in a pass over whole vectors.
    if form != "mean":
        *_, column = sch.get_loops(sch.get_sblock(f"{name}_second"))
        _, lane = sch.split(column, [None, lanes])
        sch.vectorize(lane)

    # Whole vectors: the lanes of a pack, or as many neighbours of a plane's row.
    sums = sch.get_sblock(f"{name}_sums")
    out = sch.get_sblock(f"{name}_v0" if both_moments(form) else name)
    _, channel, row, column, *lane = sch.get_loops(out)
    if not lane:
        column, *lane = sch.split(column, [None, lanes])
    sch.vectorize(*lane)

    # Tiles of channels (packs of them, or one by one), rows and columns (one by one, or vectors of
    # them): a weight that is read serves all pixels of a tile, a pixel all its channels, and the
    # independent sums hide the latency of the multiply-adds.
    outside, within = [], []
    for loop, size in ((channel, "channels"), (row, "rows"), (column, "columns")):
        outer, inner = sch.split(loop, [None, decisions[size]])
        outside.append(outer)
        within.append(inner)
    sch.reorder(*outside, *within, *lane)
    for loop in within:
        sch.unroll(loop)

    # The sums of a tile stay in registers until biases are added.
    sch.compute_at(sums, outside[-1], preserve_unit_loops=True)
    *_, channel, row, column, lane, c, a, b = sch.get_loops(sums)
    sch.reorder(c, a, b, channel, row, column, lane)
    for loop in (channel, row, column):
        sch.unroll(loop)
    sch.vectorize(lane)

    # Where one operand of a multiply-add may be any lane of a register (NEON), the inputs of a row
    # of the kernel are loaded by whole vectors, once for all its columns: a quarter fewer
    # instructions in LeNet-5's second convolution. As in `kernels.dense`, the copy is kept where
    # LLVM makes registers of it.
    if by_lane:
        for loop in (a, b):
            sch.unroll(loop)
        for index, read in enumerate(sch.get(sums).reads):
            if len(read.region) == 4:  # an image, not weights
                copy = sch.cache_read(sums, index, "global", consumer_blocks=[sums])
                sch.compute_at(copy, a, preserve_unit_loops=True)
                *_, copied = sch.get_loops(copy)
                part, copied = sch.split(copied, [None, lanes])
                sch.annotate(part, "pragma_loop_partition_hint", True)
                sch.unroll(part)
                sch.vectorize(copied)

    # Sums are set to zero before that loop, not by a test inside it.
    sch.decompose_reduction(sums, c)

    # A last tile that is not full gets loops of its own, so that full ones test nothing.
    for loop in outside:
        sch.annotate(loop, "pragma_loop_partition_hint", True)


def build(
    weight: Posterior,
    bias: Posterior,
    image: Pair,
    batch: int,
    target: str = "host",
    schedule: str = "hand",
    known_input: bool = False,
    form: str = "variance",
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    groups: int = 1,
    device: str | Board = "local",
) -> Kernel:
    """Compile the layer alone.

    Parameters
    ----------
    weight, bias : Posterior of shapes (O, C/g, K, L) and (O,)
    image : (int, int)
        Height and width.
    batch : int
    target, schedule, device
        As in `kernels.compile_network`.
    known_input : bool
    form, stride, padding, groups
        As in `add`.

    Returns
    -------
    Kernel
        Called with m and v, or with x alone for known inputs, each (batch, C, H, W); gives mean
        and variance, (batch, O, OH, OW); in the form "mean" the mean alone.
    """
    cpu = targets.target(target)
    program = alone(weight, bias, image, batch, cpu, known_input, form, stride, padding, groups)
    return build_program(program, schedule, device=device)


def alone(
    weight: Posterior,
    bias: Posterior,
    image: Pair,
    batch: int,
    target: Target,
    known_input: bool,
    form: str = "variance",
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    groups: int = 1,
) -> Program:
    """The program of the layer alone; parameters as in `build`."""
    program = Program(target, batch)
    layout = Planes(weight.shape[1] * groups, *image, target.lanes)
    x = program.given(layout, known_input)
    y = add(program, "conv2d", x, weight, bias, stride, padding, groups, form)
    y = images.unpacked(program, "unpacked", y)
    images.one_by_one(program, y)
    program.give(y)
    return program
