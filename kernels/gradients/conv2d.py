"""Gradients of a convolution with sampled weights, by means and scales, in float32.

Formulas
--------
Each sample draws its weights, W_s = µ + σ z_s, as in `kernels.gradients.dense`. With x̄ the image
in its frame of zeros, kernel (K, L), stride (s, t) and padding (p, q)
(`refbnn.layers.images.conv2d`):

    G_ocab = Σ_batch Σ_ij g_oij x̄_{c, si+a, tj+b}        ∂L/∂µ = Σ_s G_s,   ∂L/∂σ = Σ_s G_s ∘ z_s
    ∂L/∂x_chw = Σ_o Σ_ab ḡ_{o, h+p−a, w+q−b} W_ocab

where ḡ is g spread out to every s-th row and t-th column, and 0 between and around. With groups, an
output channel sees the input channels of its own group, and c counts within it.

Layout
------
Vectors run along the rows of images: over j for G, whose lanes are added up at the end, and over w
for ∂L/∂x. Images lie in memory in frames of zeros (`kernels.gradients.frames`), wide enough that no
vector leaves one: the loops copy nothing and test nothing. In images narrower than a vector most
lanes are idle. Strides above 1 cost more: vectors are gathered, ḡ is formed first, and its zeros
are multiplied.

Range
-----
With n = B OH OW terms of each G, while nothing overflows and no product underflows:

    |error of ∂L/∂µ| ≤ γ_{n+S+2} Σ|g x|,      |error of ∂L/∂σ| ≤ γ_{n+S+4} Σ|g x z|,
    |error of ∂L/∂x| ≤ γ_{OKL+6} Σ|g| (|µ| + |σz|).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import prod

import tvm
from tvm import te, tirx

from kernels.arithmetic.polynomials import f32
from kernels.gradients.frames import Sizes
from kernels.gradients.noise import Noise, over_samples
from kernels.program.program import Program, Step


def by_weights(program: Program, sizes: Sizes, x: te.Tensor, grad_y: te.Tensor, z: Noise):
    """∂L/∂µ and ∂L/∂σ of the weights, (O, C, K, L) each; x and g in their frames."""
    (K, L), (s_row, s_column), _ = sizes.layer.sizes
    (top, left), (of_group, C) = sizes.before, sizes.per_group
    n_out = sizes.layer.out_channels
    n, i, v, lanes = _places(program, sizes)

    def of_lane(s, o, c, a, b, lane):
        j = v * lanes + lane
        channel = o // of_group * C + c if sizes.layer.groups > 1 else c
        place = (n, channel, i * s_row + a, j * s_column + b)
        pixel = x(*place) if sizes.first else x(s, *place)
        return te.sum(grad_y[s, n, o, i + top, j + left] * pixel, axis=[n, i, v])

    by_lane = te.compute((sizes.samples, *sizes.weight_shape, lanes), of_lane, name="by_lane")
    channels = max(1, min(n_out, program.target.registers * 5 // 8 // L))
    program.steps.append(
        Step(
            workload=f"gradient by weights {sizes}",
            by_hand={"channels": channels, "images": min(sizes.batch, 2)},
            space={"channels": range(1, min(n_out, 16) + 1), "images": range(1, sizes.batch + 1)},
            transform=partial(schedule_by_weights, z=z),
        )
    )
    G = _over_lanes("G", by_lane)
    return over_samples("by_weights", G, z, lambda c, a, b: (c * K + a) * L + b)


def _places(program: Program, sizes: Sizes):
    """Axes of the sums over outputs: image, row, vector of a row; and the lanes of a vector."""
    lanes = program.target.lanes
    n = te.reduce_axis((0, sizes.batch), name="n")
    i = te.reduce_axis((0, sizes.output[0]), name="i")
    v = te.reduce_axis((0, sizes.vectors(lanes)), name="v")
    return n, i, v, lanes


def _over_lanes(name: str, by_lane: te.Tensor) -> te.Tensor:
    """Sum over the last axis."""
    lane = te.reduce_axis((0, by_lane.shape[-1]), name="lane")
    return te.compute(
        by_lane.shape[:-1], lambda *at: te.sum(by_lane(*at, lane), axis=lane), name=name
    )


def schedule_by_weights(sch: tvm.s_tir.Schedule, decisions: Mapping[str, int], z: Noise) -> None:
    """Schedule ∂L/∂µ and ∂L/∂σ of the weights: one decision a paragraph."""
    # Samples one after the other, the noise of one at a time: sums over samples grow in place.
    out = sch.get_sblock("by_weights")
    *places, sample = sch.get_loops(out)
    sch.reorder(sample, *places)
    z.schedule(sch, sample)
    sch.decompose_reduction(out, sample)
    total = sch.get_sblock("G")
    sch.compute_at(total, sample, preserve_unit_loops=True)

    # A tile holds some output channels at all columns of one row of the kernel: a vector of g
    # serves each column, a vector of x each channel.
    by_lane = sch.get_sblock("by_lane")
    sch.compute_at(by_lane, sample, preserve_unit_loops=True)
    o, c, a, b, lane, n, i, v = sch.get_loops(by_lane)[-8:]
    o_tile, o = sch.split(o, [None, decisions["channels"]])

    # A few images at a time, that they and their g stay in the cache while all tiles pass.
    n_tile, n = sch.split(n, [None, decisions["images"]])
    sch.reorder(n_tile, c, a, o_tile, n, i, v, o, b, lane)
    for loop in (o, b):
        sch.unroll(loop)
    sch.vectorize(lane)
    for loop in (o_tile, n_tile):
        sch.annotate(loop, "pragma_loop_partition_hint", True)
    sch.decompose_reduction(by_lane, n_tile)


def by_bias(program: Program, sizes: Sizes, grad_y: te.Tensor, z: Noise):
    """∂L/∂µ and ∂L/∂σ of the bias, (O,) each; g in its frame."""
    top, left = sizes.before
    n, i, v, lanes = _places(program, sizes)
    by_lane = te.compute(
        (sizes.samples, sizes.layer.out_channels, lanes),
        lambda s, o, lane: te.sum(grad_y[s, n, o, i + top, v * lanes + lane + left], [n, i, v]),
        name="bias_by_lane",
    )
    transform = partial(schedule_by_bias, z=z)
    program.steps.append(Step(f"gradient by bias {sizes}", {}, {}, transform))
    n_weights = prod(sizes.weight_shape[1:])
    return over_samples("by_bias", _over_lanes("g", by_lane), z, lambda: n_weights)


def schedule_by_bias(sch: tvm.s_tir.Schedule, decisions, z: Noise) -> None:
    """Schedule the gradients of the bias: whole vectors, added up at the end.

    Four channels side by side: their additions need not wait for each other.
    """
    by_lane = sch.get_sblock("bias_by_lane")
    s, o, lane, n, i, v = sch.get_loops(by_lane)
    o_tile, o = sch.split(o, [None, 4])
    sch.reorder(s, o_tile, n, i, v, o, lane)
    sch.unroll(o)
    sch.vectorize(lane)
    sch.annotate(o_tile, "pragma_loop_partition_hint", True)
    sch.decompose_reduction(by_lane, n)

    # The noise of one sample at a time.
    out = sch.get_sblock("by_bias")
    o, sample = sch.get_loops(out)
    sch.reorder(sample, o)
    z.schedule(sch, sample)
    sch.decompose_reduction(out, sample)


def by_input(
    program: Program, sizes: Sizes, grad_y: te.Tensor, mean: te.Tensor, scale: te.Tensor, z: Noise
) -> te.Tensor:
    """∂L/∂x, (S, B, C, H, W padded); g in its frame, means and scales (O, C, K, L)."""
    lanes = program.target.lanes
    (K, L), stride, (p, q) = sizes.layer.sizes
    top, left = sizes.before
    of_group, c_of_group = sizes.per_group
    C, H, W = sizes.input_shape
    if stride != (1, 1):
        grad_y = _spread(program, sizes, grad_y)
    weights = te.compute(
        (sizes.samples, sizes.layer.out_channels, K, L, c_of_group),
        lambda s, o, a, b, c: mean[o, c, a, b] + scale[o, c, a, b] * z(s, o, (c * K + a) * L + b),
        name="W",
    )
    o = te.reduce_axis((0, of_group), name="o")
    a = te.reduce_axis((0, K), name="a")
    b = te.reduce_axis((0, L), name="b")

    def of_pixel(s, n, c, h, w):
        place = h + (p + top) - a, w + (q + left) - b
        first = c // c_of_group * of_group if sizes.layer.groups > 1 else 0
        weight = weights[s, first + o, a, b, c % c_of_group]
        return te.sum(grad_y(s, n, first + o, *place) * weight, axis=[o, a, b])

    columns = -(-W // lanes) * lanes
    result = te.compute((sizes.samples, sizes.batch, C, H, columns), of_pixel, name="by_input")
    channels = -(-C // -(-C // 6))
    rows = min(H, max(1, program.target.registers * 3 // 4 // channels))
    program.steps.append(
        Step(
            workload=f"gradient by input {sizes}",
            by_hand={"channels": channels, "rows": -(-H // -(-H // rows))},
            space={"channels": range(1, min(C, 12) + 1), "rows": range(1, min(H, 12) + 1)},
            transform=partial(schedule_by_input, lanes=lanes, z=z),
        )
    )
    return result


def _spread(program: Program, sizes: Sizes, grad_y: te.Tensor) -> te.Tensor:
    """Spread g out to ḡ for strides above 1, in the frame that ∂L/∂x reads."""
    _, (s_row, s_column), _ = sizes.layer.sizes
    (OH, OW), (top, left) = sizes.output, sizes.before

    def spread(s, n, o, row, column):
        i, j = row - top, column - left
        inside = tirx.all(
            i >= 0,
            j >= 0,
            i < OH * s_row,
            j < OW * s_column,
            tirx.floormod(i, s_row) == 0,
            tirx.floormod(j, s_column) == 0,
        )
        place = tirx.floordiv(i, s_row) + top, tirx.floordiv(j, s_column) + left
        return tirx.if_then_else(inside, grad_y(s, n, o, *place), f32(0.0))

    shape = (*grad_y.shape[:3], *sizes.spread(program.target.lanes))
    return te.compute(shape, spread, name="spread")


def schedule_by_input(
    sch: tvm.s_tir.Schedule, decisions: Mapping[str, int], lanes: int, z: Noise
) -> None:
    """Schedule ∂L/∂x: one decision a paragraph."""
    # A tile holds some rows of some channels of one image: a vector of g serves each channel, a
    # weight each row. The loops over what is summed go around it.
    out = sch.get_sblock("by_input")
    s, n, c, h, w, o, a, b = sch.get_loops(out)
    c_tile, c = sch.split(c, [None, decisions["channels"]])
    h_tile, h = sch.split(h, [None, decisions["rows"]])
    vector, lane = sch.split(w, [None, lanes])
    sch.reorder(s, n, c_tile, h_tile, vector, o, a, b, c, h, lane)
    for loop in (c, h):
        sch.unroll(loop)
    sch.vectorize(lane)
    for loop in (c_tile, h_tile):
        sch.annotate(loop, "pragma_loop_partition_hint", True)
    sch.decompose_reduction(out, o)

    # The weights of one sample at a time, and their noise.
    sch.compute_at(sch.get_sblock("W"), s, preserve_unit_loops=True)
    z.schedule(sch, s)
