"""Convolution, y = W ∗ x + b: mean and variance in one loop, in float32.

Formula
-------
The sums of `refbnn.layers.images.conv2d` over channels c of a group and places (a, b) of the
kernel, with the products of `kernels.layers.products`: of independent weights (mean µ, variance σ²)
and inputs (mean m, variance v), in the form "variance",

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
As in `kernels.layers.dense`, with n = C/g·K·L terms a sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import tvm
from tvm import te

from kernels.devices import Board, targets
from kernels.devices.targets import Target
from kernels.layers import images, tiles
from kernels.layers.dense import pack
from kernels.layers.images import Images, Packs, Planes
from kernels.layers.products import (
    bias_terms,
    both_moments,
    joint_sum,
    moments,
    n_sums,
    panel,
    products,
    second_moments,
    weight_terms,
)
from kernels.program.kernel import Kernel
from kernels.program.kernel import build as build_program
from kernels.program.program import Activation, Program, Step
from refbnn.layers.images.windows import Pair, output_size
from refbnn.layers.posterior import Posterior


def way(out_channels: int, out_width: int, column_stride: int, groups: int, lanes: int) -> str:
    """Choose "channels" or "pixels": the way that leaves fewer lanes idle, of those that can."""
    if groups > 1:
        return "pixels"
    if column_stride > 1:
        return "channels"

    def used(n):
        return n / (-(-n // lanes) * lanes)

    return "pixels" if used(out_width) > used(out_channels) else "channels"


def shared_vectors(source: Images, layout: Images, groups: int, target: Target) -> str:
    """What is loaded by vectors of numbers that each serve all lanes of another vector.

    Parameters
    ----------
    source, layout : Planes or Packs
        Of inputs and outputs.
    groups : int
    target : Target

    Returns
    -------
    {"weights", "columns", "channels", ""}
        The weights of a tile, where outputs fill vectors by columns; inputs that are neighbours in
        a row, or in a pack, where they do so by channels; or nothing: where a multiply-add cannot
        take one operand from any lane of a register, as on NEON, or they fill no vectors.
    """
    if not target.is_arm or groups > 1:
        return ""
    if isinstance(layout, Planes):
        return "weights"
    if isinstance(source, Planes):
        return "columns"
    return "" if source.channels % source.lanes else "channels"


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
        See `kernels.layers.products`; the last gives the variance in the place of the mean.
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

    shared = shared_vectors(images.images(x), layout, groups, program.target)
    cpu, sums = program.target, n_sums(form, known)
    if shared:
        tile = tiles.of_images_by_lanes(layout, sums, cpu, shared, kernel, stride)
    else:
        tile = tiles.of_images(layout, groups, sums, cpu)

    # Weights by blocks of output channels, those of one block neighbours: one vector, or one group,
    # or, where they are loaded by vectors, those of one tile.
    if chosen == "channels":
        block = lanes
    else:
        block = tile["channels"] if shared == "weights" else n_out // groups
    run = lanes if shared == "channels" else 1
    w = program.weight(f"{name}_weight", by_blocks(weight_terms(weight, form), block, run))
    b = [program.weight(f"{name}_bias", pack(term, block)) for term in bias_terms(bias, form)]
    tensors = compute(name, x, w, b, layout, stride, groups, form, shared)
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
            by_hand=tile,
            space=space(layout, groups),
            transform=partial(
                schedule, name=name, form=form, lanes=lanes, shared=shared, block=block
            ),
        ),
    )
    return Activation(layout, tensors[0], tensors[1] if both_moments(form) else None)


def by_blocks(terms: list[np.ndarray], block: int, run: int) -> np.ndarray:
    """Lay weights out in the order in which the hand schedule reads them.

    First µ of a row of the kernel, then σ² of it: on Arm two vectors are loaded at once in more
    places than if the two of every weight were neighbours, or all µ came first (0.95 instructions a
    product in LeNet-5's second convolution, in place of 0.96 and 0.98).

    Parameters
    ----------
    terms : list of (O, C/g, K, L)
        What is read of a weight.
    block : int
        Output channels that are neighbours.
    run : int
        Input channels of one place that are neighbours, a divisor of C/g.

    Returns
    -------
    (blocks, C/g/run, K, terms, L, run, block)
    """
    packed = np.stack([pack(term, block) for term in terms], axis=3)
    n_blocks, n_in, *rest = packed.shape  # K, terms, L, block
    return np.moveaxis(packed.reshape(n_blocks, n_in // run, run, *rest), 2, 5)


def compute(
    name: str,
    x: Activation,
    w: te.Tensor,
    b: list[te.Tensor],
    layout: Images,
    stride: Pair,
    groups: int,
    form: str,
    shared: str,
) -> list[te.Tensor]:
    """Say what is computed: the moments of y.

    Parameters
    ----------
    name, stride, groups, form : as in `add`
    x : Activation of images, zeros around them included
    w : (blocks, C/g/run, K, terms, L, run, block)
        Weights, as `by_blocks` has them. With several groups, a block is a group.
    b : list of (blocks, channels of a block)
        What is read of the biases.
    layout : Planes or Packs
        Of y.
    shared : str
        As `shared_vectors` says.
    """
    source = images.images(x)
    shape = tuple(map(int, x.mean.shape))
    n_runs, height, n_terms, width, run, block = [int(n) for n in w.shape[1:]]
    sizes = n_runs * run, height, width
    if shared:
        entry = panel(f"{name}_inputs", x, form, shape, len(shape) - 1)
    else:
        entry = second_moments(f"{name}_inputs", x, form)
    axes = [te.reduce_axis((0, n), name=axis) for n, axis in zip(sizes, "cab", strict=True)]
    c, down, right = axes

    def terms(i, *index):
        o, row, column = layout.place(*index)
        first = o // block * sizes[0] if groups > 1 else 0
        pixel = source.index(first + c, stride[0] * row + down, stride[1] * column + right)
        weights = [
            w[o // block, c // run, down, term, right, c % run, o % block]
            for term in range(n_terms)
        ]
        m, second, v = entry(i, *pixel)
        return joint_sum(products(m, second, v, weights, form), axis=axes)

    sums = te.compute(layout.tensor_shape(shape[0]), terms, name=f"{name}_sums")
    sums = sums if isinstance(sums, list | tuple) else [sums]

    def epilogue(i, *index):
        o, _, _ = layout.place(*index)
        biases = [term[o // block, o % block] for term in b]
        parts = moments([total(i, *index) for total in sums], biases, form)
        return tuple(parts) if both_moments(form) else parts[0]

    out = te.compute(layout.tensor_shape(shape[0]), epilogue, name=name)
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
    shared: str,
    block: int,
) -> None:
    """Say how it is computed: one decision a paragraph; the sizes of a tile are decided."""
    # Second moments first, in a pass over whole vectors. Where some are loaded by vectors (below),
    # it lays all that is read of the inputs out side by side, as in `kernels.layers.dense`.
    if form != "mean" or shared:
        *_, term, column = sch.get_loops(sch.get_sblock(f"{name}_inputs"))
        if shared:
            sch.unroll(term)
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

    # Numbers that serve all lanes are loaded by vectors, where a multiply-add takes one operand
    # from any lane (`shared_vectors`): of inputs, those for all columns of a row of the kernel, or
    # those of one pack; weights for all columns. Loops over them are unrolled. As in
    # `kernels.layers.dense`, copies are kept where LLVM makes registers of them.
    at = a
    if shared == "columns":
        sch.unroll(a)  # a third of what is not multiply-adds is addresses, else
    if shared in ("columns", "weights"):
        sch.unroll(b)
    if shared == "channels":
        c, run = sch.split(c, [None, lanes])
        sch.reorder(c, a, b, run, channel)
        sch.unroll(run)
        at = b
    if shared and (shared != "weights" or decisions["channels"] == block):
        buffer = f"{name}_weight" if shared == "weights" else f"{name}_inputs"
        copy = sch.cache_read(sums, buffer, "global", consumer_blocks=[sums])
        sch.compute_at(copy, at, preserve_unit_loops=True)
        loops = sch.get_loops(copy)
        outer = [sch.get(loop).same_as(sch.get(at)) for loop in loops].index(True)
        *others, last = loops[outer + 1 :]
        if shared == "weights":  # those of a row of the kernel, for all channels: one piece
            *others, right, run = others
            last = sch.fuse(right, run, last)
        vector, last = sch.split(last, [None, lanes])
        sch.annotate(vector, "pragma_loop_partition_hint", True)
        for loop in (*others, vector):
            sch.unroll(loop)
        sch.vectorize(last)

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
