"""Convolution, y = W ∗ x + b: mean and variance in one loop, in float32.

Formula
-------
The sums are those of `refbnn.layers.images.conv2d`, over channels c of a group and places (a, b) of
the kernel, with the products of `kernels.layers.products`. For independent weights (mean µ,
variance σ²) and inputs (mean m, variance v), in the form "variance",

    m'_oij = Σ_cab m µ + µ_b        v'_oij = Σ_cab [ v µ² + (v + m²) σ² ] + σ_b²

where m and v are those of pixel (s·i + a − p, t·j + b − q) of channel c, zero outside the image.

Two ways to fill a vector
-------------------------
"channels"  holds the output channels of one pixel: weights are vectors, inputs are single numbers
            that serve every lane. It takes any stride and gives `Packs`.
"pixels"    holds neighbours in a row of one output channel: inputs are vectors, weights are single
            numbers. It gives `Planes`. It needs a stride of 1 along rows, since otherwise inputs
            are gathered one by one; and it serves groups, whose channels would not fill packs.

`way` takes the one that leaves fewer lanes idle: LeNet-5's first convolution has 6 channels and 28
columns, 6/16 or 28/32 of the lanes of AVX-512; its second has 16 channels and 10 columns.

Range
-----
The bounds of `kernels.layers.dense`, with n = C/g·K·L terms a sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import tvm
from tvm import te

from kernels.devices.targets import Target
from kernels.layers import half, images, tiles
from kernels.layers.dense import pack
from kernels.layers.images import Images, Packs, Planes
from kernels.layers.products import (
    add_up,
    bias_terms,
    both_moments,
    n_sums,
    panel,
    products,
    second_moments,
    weight_terms,
)
from kernels.program.program import Activation, Program, Step
from refbnn.layers import Conv2d
from refbnn.layers.posterior import Posterior

_TERMS = 3  # axis of the terms in the weights of `by_blocks`


def way(out_channels: int, out_width: int, column_stride: int, groups: int, lanes: int) -> str:
    """Choose "channels" or "pixels": the possible way that leaves fewer lanes idle."""
    if groups > 1:
        return "pixels"
    if column_stride > 1:
        return "channels"

    def used(n):
        return n / (-(-n // lanes) * lanes)

    return "pixels" if used(out_width) > used(out_channels) else "channels"


def shared_vectors(source: Images, layout: Images, groups: int, target: Target) -> str:
    """Choose the numbers that are loaded by vectors, while each serves all lanes of another one.

    On NEON a multiply-add can take one operand from any lane of a register.

    Parameters
    ----------
    source, layout : Planes or Packs
        Layouts of inputs and outputs.
    groups : int
    target : Target

    Returns
    -------
    {"weights", "columns", "channels", ""}
        "weights": the weights of a tile, where outputs fill vectors by columns. "columns",
        "channels": inputs that are neighbours in a row or in a pack, where outputs fill vectors by
        channels. "": none, on other processors and where the numbers fill no vectors.
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
    layer: Conv2d,
    posteriors: Mapping[str, Posterior],
    x: Activation,
    form: str,
) -> Activation:
    """Apply the layer to images; other arguments as in `kernels.layers.dense.add`.

    The weight has the shape (O, C/g, K, L), the bias (O,).
    """
    if form == "mean":
        x = Activation(x.layout, x.mean, None)
    target, known, sizes = program.target, x.var is None, layer.sizes
    channels, height, width = images.images(x).shape
    n_out, rows, columns = layer.output_shape((channels, height, width))
    chosen = way(n_out, columns, sizes[1][1], layer.groups, target.lanes)
    layout: Images = (Packs if chosen == "channels" else Planes)(n_out, rows, columns, target.lanes)

    before = len(program.steps)
    x = images.around(program, f"{name}_around", x, layout, *sizes)
    shared = shared_vectors(images.images(x), layout, layer.groups, target)
    tile = _tile_by_hand(layer, layout, n_sums(form, known), target, shared)
    block = _block(layer, layout, tile, shared)
    run = target.lanes if shared == "channels" else 1
    weights, biases = weight_terms(posteriors["weight"], form), bias_terms(posteriors["bias"], form)
    w, scales = _weights(program, name, weights, block, run)
    b = [program.weight(f"{name}_bias", pack(term, block)) for term in biases]
    y = compute(name, layer, x, w, b, scales, layout, form, shared)
    # This step stands before the step that fills the frame around the images by a block of its own:
    # TVM makes copies only of what one block writes.
    program.steps.insert(
        before,
        Step(
            workload=(
                f"conv2d {channels}x{height}x{width} to {n_out} {images.in_words(*sizes)} "
                f"groups {layer.groups} batch {program.batch} {'known' if known else 'random'} "
                f"{form} from {type(x.layout).__name__} to {type(layout).__name__}"
                f"{half.in_words(program.storage)}"
            ),
            by_hand=tile,
            space=space(layout, layer.groups),
            transform=partial(
                schedule,
                name=name,
                form=form,
                lanes=target.lanes,
                shared=shared,
                block=block,
                converted=bool(scales),
            ),
        ),
    )
    return y


def _weights(
    program: Program, name: str, weights: list[np.ndarray], block: int, run: int
) -> tuple[te.Tensor, list[te.Tensor | None]]:
    """Declare the weights; those in half precision are converted before each image.

    A weight serves all pixels, so one pass over the weights costs little, and the loops over them
    are those of float32. Parameters as in `by_blocks`; results as in `compute`.
    """
    arrays, scales = half.groups(weights, program.storage)
    if not scales:
        return program.weight(f"{name}_weight", by_blocks(weights, block, run)), []
    stored = [
        program.weight(f"{name}_stored{place}", by_blocks(terms, block, run), dtype)
        for place, (dtype, terms) in enumerate(arrays)
    ]
    return half.float32_copy(f"{name}_weight", stored, _TERMS), [
        None if one is None else program.weight(f"{name}_scale", pack(one, block)) for one in scales
    ]


def _tile_by_hand(
    layer: Conv2d, layout: Images, sums: int, target: Target, shared: str
) -> dict[str, int]:
    kernel, stride, _ = layer.sizes
    if shared:
        return tiles.of_images_by_lanes(layout, sums, target, shared, kernel, stride)
    return tiles.of_images(layout, layer.groups, sums, target)


def _block(layer: Conv2d, layout: Images, tile: Mapping[str, int], shared: str) -> int:
    """Number of output channels whose weights are neighbours in memory.

    One vector, or one tile where weights are loaded by vectors, or one group.
    """
    if isinstance(layout, Packs):
        return layout.lanes
    return tile["channels"] if shared == "weights" else layer.out_channels // layer.groups


def by_blocks(terms: list[np.ndarray], block: int, run: int) -> np.ndarray:
    """Lay weights out in the order in which the hand schedule reads them.

    µ of a row of the kernel comes first, then σ² of that row. On Arm more loads then take two
    vectors at once than if the two numbers of every weight were neighbours, or all µ came first
    (0.95 instructions a product in LeNet-5's second convolution, in place of 0.96 and 0.98).

    Parameters
    ----------
    terms : list of (O, C/g, K, L)
        Entries of `kernels.layers.products.weight_terms`.
    block : int
        Output channels that are neighbours in memory.
    run : int
        Input channels of one place that are neighbours in memory, a divisor of C/g.

    Returns
    -------
    (blocks, C/g/run, K, terms, L, run, block)
    """
    packed = np.stack([pack(term, block) for term in terms], axis=3)
    n_blocks, n_in, *rest = packed.shape  # K, terms, L, block
    return np.moveaxis(packed.reshape(n_blocks, n_in // run, run, *rest), 2, 5)


def compute(
    name: str,
    layer: Conv2d,
    x: Activation,
    w: te.Tensor,
    b: list[te.Tensor],
    scales: list[te.Tensor | None],
    layout: Images,
    form: str,
    shared: str,
) -> Activation:
    """Say what is computed: the moments of y.

    Parameters
    ----------
    name, layer, form : as in `add`
    x : Activation of images, zeros around them included
    w : (blocks, C/g/run, K, terms, L, run, block)
        Weights in the order of `by_blocks`. With several groups, a block is a group.
    b : list of (blocks, channels of a block)
        Entries of `kernels.layers.products.bias_terms`, packed.
    scales : list of (blocks, channels of a block) or None
        Powers of two of `kernels.layers.half.groups`, packed.
    layout : Planes or Packs
        Layout of y.
    shared : str
        Result of `shared_vectors`.
    """
    source, (_, stride, _) = images.images(x), layer.sizes
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
        first = o // block * sizes[0] if layer.groups > 1 else 0
        pixel = source.index(first + c, stride[0] * row + down, stride[1] * column + right)
        weights = [
            w[o // block, c // run, down, term, right, c % run, o % block]
            for term in range(n_terms)
        ]
        m, second, v = entry(i, *pixel)
        return products(m, second, v, weights, form)

    def to_sums(i, *index):
        o, _, _ = layout.place(*index)
        at = o // block, o % block
        return (i, *index), [term[at] for term in b], [None if s is None else s[at] for s in scales]

    return add_up(name, layout.tensor_shape(shape[0]), terms, axes, layout, to_sums, form)


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
    converted: bool = False,
) -> None:
    """Say how it is computed: one decision a paragraph; the sizes of a tile are decided.

    `converted` tells whether weights are converted to float32 before.
    """
    # Second moments first, in a pass over whole vectors. Where numbers are loaded by vectors
    # (below), the pass lays all numbers of the inputs out side by side, as in
    # `kernels.layers.dense`.
    if form != "mean" or shared:
        *_, term, column = sch.get_loops(sch.get_sblock(f"{name}_inputs"))
        if shared:
            sch.unroll(term)
        _, lane = sch.split(column, [None, lanes])
        sch.vectorize(lane)

    out = f"{name}_v0" if both_moments(form) else name
    schedule_tiles(sch, decisions, name, out, lanes, shared, block)

    # Weights in half precision are converted once an image.
    if converted:
        image, *_ = sch.get_loops(sch.get_sblock(out))
        half.schedule_copy(sch, f"{name}_weight", _TERMS, lanes, image)


def schedule_tiles(
    sch: tvm.s_tir.Schedule,
    decisions: Mapping[str, int],
    name: str,
    out: str,
    lanes: int,
    shared: str = "",
    block: int = 0,
    rows_first: bool = False,
) -> None:
    """Say how sums of images, `name`_sums, and the block `out` behind them are computed.

    With `rows_first`, a row of the result is computed for all channels before the next, where
    inputs are larger than the first cache.
    """
    # Whole vectors: the lanes of a pack, or as many neighbours of a plane's row.
    _, channel, row, column, *lane = sch.get_loops(sch.get_sblock(out))
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
    first = [outside[1], outside[0]] if rows_first else outside[:2]
    sch.reorder(*first, outside[2], *within, *lane)
    for loop in within:
        sch.unroll(loop)

    # The sums of a tile stay in registers until biases are added. They are set to zero before the
    # loops over what is summed, not by a test inside them.
    sums = sch.get_sblock(f"{name}_sums")
    sch.compute_at(sums, outside[-1], preserve_unit_loops=True)
    c = _schedule_sums(sch, sums, name, lanes, shared, decisions["channels"] == block)
    sch.decompose_reduction(sums, c)

    # A last tile that is not full gets loops of its own, so that full tiles test nothing.
    for loop in outside:
        sch.annotate(loop, "pragma_loop_partition_hint", True)


def _schedule_sums(
    sch: tvm.s_tir.Schedule, sums, name: str, lanes: int, shared: str, whole_blocks: bool
):
    """Order the loops of the sums of one tile, and load by vectors the numbers that are `shared`.

    Loops over such numbers are unrolled: over the inputs of all columns of a row of the kernel, or
    of one pack, or over the weights of all columns.

    Parameters
    ----------
    whole_blocks : bool
        Whether a tile holds all channels of a block of weights.

    Returns
    -------
    The outermost loop over what is summed.
    """
    *_, channel, row, column, lane, c, a, b = sch.get_loops(sums)
    sch.reorder(c, a, b, channel, row, column, lane)
    for loop in (channel, row, column):
        sch.unroll(loop)
    sch.vectorize(lane)
    at = a
    if shared == "columns":
        sch.unroll(a)  # else addresses are a third of what is not multiply-adds
    if shared in ("columns", "weights"):
        sch.unroll(b)
    if shared == "channels":
        c, run = sch.split(c, [None, lanes])
        sch.reorder(c, a, b, run, channel)
        sch.unroll(run)
        at = b
    if shared and (shared != "weights" or whole_blocks):
        _load_by_vectors(sch, sums, name, lanes, shared, at)
    return c


def _load_by_vectors(sch: tvm.s_tir.Schedule, sums, name: str, lanes: int, shared: str, at) -> None:
    """Copy weights or inputs by vectors where LLVM keeps them in registers (`dense.schedule`)."""
    buffer = f"{name}_weight" if shared == "weights" else f"{name}_inputs"
    copy = sch.cache_read(sums, buffer, "global", consumer_blocks=[sums])
    sch.compute_at(copy, at, preserve_unit_loops=True)
    loops = sch.get_loops(copy)
    outer = [sch.get(loop).same_as(sch.get(at)) for loop in loops].index(True)
    *others, last = loops[outer + 1 :]
    if shared == "weights":  # of one row of the kernel, for all channels: one piece of memory
        *others, right, run = others
        last = sch.fuse(right, run, last)
    vector, last = sch.split(last, [None, lanes])
    sch.annotate(vector, "pragma_loop_partition_hint", True)
    for loop in (*others, vector):
        sch.unroll(loop)
    sch.vectorize(last)
