"""Gradients of a convolution with sampled weights, by means and scales, in float32.

Formulas
--------
As in `kernels.gradients.dense`, one draw of the weights a sample, W_s = µ + σ z_s. With x̄ the
image in its frame of zeros, kernel (K, L), stride (s, t) and padding (p, q)
(`refbnn.layers.images.conv2d`):

    G_ocab = Σ_batch Σ_ij g_oij x̄_{c, si+a, tj+b}        ∂L/∂µ = Σ_s G_s,   ∂L/∂σ = Σ_s G_s ∘ z_s
    ∂L/∂x_chw = Σ_o Σ_ab ḡ_{o, h+p−a, w+q−b} W_ocab

where ḡ is g spread out to every s-th row and t-th column, and 0 between and around. With groups an
output channel sees the input channels of its own group, and c counts within it.

Layout
------
Vectors run along the rows of images: over j for G, whose lanes are added up at the end, and over w
for ∂L/∂x. So images lie in memory in frames of zeros, wide enough that no vector leaves one, and
nothing is copied or tested inside the loops. At images narrower than a vector most of it is idle;
strides above 1 cost more (vectors are gathered, ḡ is formed first, and its zeros are multiplied).

Range
-----
With n = B OH OW terms of each G, while nothing overflows and no product underflows:

    |error of ∂L/∂µ| ≤ γ_{n+S+2} Σ|g x|,      |error of ∂L/∂σ| ≤ γ_{n+S+4} Σ|g x z|,
    |error of ∂L/∂x| ≤ γ_{OKL+6} Σ|g| (|µ| + |σz|).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import prod

import tvm
from tvm import te, tirx

from kernels.arithmetic import softplus
from kernels.arithmetic.polynomials import f32
from kernels.devices import Board, targets
from kernels.devices.targets import Target
from kernels.gradients import parameters as gradient_parameters
from kernels.gradients.frames import Sizes
from kernels.gradients.noise import Given, Noise, drawn
from kernels.layers.products import joint_sum
from kernels.program.kernel import Kernel
from kernels.program.kernel import build as build_program
from kernels.program.program import Padded, Plain, Program, Step
from kernels.sampling import weights as sampled_weights
from refbnn.noise import Law


def by_weights(program: Program, sizes: Sizes, x: te.Tensor, grad_y: te.Tensor, z: Noise):
    """∂L/∂µ and ∂L/∂σ of the weights, (O, C, K, L) each; x and g in their frames."""
    lanes = program.target.lanes
    (K, L), (s_row, s_column), (top, left) = sizes.kernel, sizes.stride, sizes.before
    n_out, S = sizes.layer.out_channels, sizes.samples
    of_group, C = sizes.per_group
    n = te.reduce_axis((0, sizes.batch), name="n")
    i = te.reduce_axis((0, sizes.output[0]), name="i")
    v = te.reduce_axis((0, sizes.vectors(lanes)), name="v")

    def of_lane(s, o, c, a, b, lane):
        j = v * lanes + lane
        channel = o // of_group * C + c if sizes.layer.groups > 1 else c
        place = (n, channel, i * s_row + a, j * s_column + b)
        pixel = x(*place) if sizes.first else x(s, *place)
        return te.sum(grad_y[s, n, o, i + top, j + left] * pixel, axis=[n, i, v])

    by_lane = te.compute((S, n_out, C, K, L, lanes), of_lane, name="by_lane")
    lane = te.reduce_axis((0, lanes), name="lane")
    G = te.compute((S, n_out, C, K, L), lambda *at: te.sum(by_lane(*at, lane), axis=lane), name="G")
    sample = te.reduce_axis((0, S), name="sample")

    def over_samples(o, c, a, b):
        at = (sample, o, c, a, b)
        return joint_sum([G(*at), G(*at) * z(sample, o, (c * K + a) * L + b)], axis=sample)

    result = te.compute((n_out, C, K, L), over_samples, name="by_weights")
    most = program.target.registers * 5 // 8 // L
    channels = max(1, min(n_out, most))
    program.steps.append(
        Step(
            workload=f"gradient by weights {sizes}",
            by_hand={"channels": channels, "images": min(sizes.batch, 2)},
            space={"channels": range(1, min(n_out, 16) + 1), "images": range(1, sizes.batch + 1)},
            transform=partial(schedule_by_weights, z=z),
        )
    )
    return result


def schedule_by_weights(sch: tvm.s_tir.Schedule, decisions: Mapping[str, int], z: Noise) -> None:
    """Say how ∂L/∂µ and ∂L/∂σ are computed: one decision a paragraph."""
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
    lanes = program.target.lanes
    n_out, S, (top, left) = sizes.layer.out_channels, sizes.samples, sizes.before
    n = te.reduce_axis((0, sizes.batch), name="n")
    i = te.reduce_axis((0, sizes.output[0]), name="i")
    v = te.reduce_axis((0, sizes.vectors(lanes)), name="v")
    by_lane = te.compute(
        (S, n_out, lanes),
        lambda s, o, lane: te.sum(grad_y[s, n, o, i + top, v * lanes + lane + left], [n, i, v]),
        name="bias_by_lane",
    )
    lane = te.reduce_axis((0, lanes), name="lane")
    g = te.compute((S, n_out), lambda s, o: te.sum(by_lane[s, o, lane], axis=lane), name="g")
    sample = te.reduce_axis((0, S), name="sample")
    n_weights = prod(sizes.layer.parameter_shapes()["weight"][1:])
    result = te.compute(
        (n_out,),
        lambda o: joint_sum([g[sample, o], g[sample, o] * z(sample, o, n_weights)], axis=sample),
        name="by_bias",
    )
    transform = partial(schedule_by_bias, z=z)
    program.steps.append(Step(f"gradient by bias {sizes}", {}, {}, transform))
    return result


def schedule_by_bias(sch: tvm.s_tir.Schedule, decisions, z: Noise) -> None:
    """Say how gradients of the bias are computed: whole vectors, added up at the end.

    Four channels side by side, whose additions need not wait for each other.
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
    program: Program,
    sizes: Sizes,
    grad_y: te.Tensor,
    mean: te.Tensor,
    scale: te.Tensor,
    z: Noise,
) -> te.Tensor:
    """∂L/∂x, (S, B, C, H, W padded); g in its frame, means and scales (O, C, K, L)."""
    lanes = program.target.lanes
    (K, L), (p, q), (top, left) = sizes.kernel, sizes.padding, sizes.before
    n_out, C, S = sizes.layer.out_channels, sizes.layer.in_channels, sizes.samples
    of_group, c_of_group = sizes.per_group
    H, W = sizes.image
    if sizes.stride != (1, 1):
        grad_y = _spread(program, sizes, grad_y)
    weights = te.compute(
        (S, n_out, K, L, c_of_group),
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
    result = te.compute((S, sizes.batch, C, H, columns), of_pixel, name="by_input")
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
    """ḡ for strides above 1, in the frame that ∂L/∂x reads."""
    (s_row, s_column), (OH, OW) = sizes.stride, sizes.output
    top, left = sizes.before

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
    """Say how ∂L/∂x is computed: one decision a paragraph."""
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


def alone(
    sizes: Sizes,
    target: Target,
    parameter: str = "scale",
    law: Law | None = None,
    layer: int = 0,
) -> Program:
    """The program of the layer alone; parameters as in `build`."""
    softplus.require_parameter(parameter)
    program, lanes = Program(target, 1), target.lanes
    weights, biases = (Plain(shape) for shape in sizes.layer.parameter_shapes().values())
    x = program.array(sizes.images(lanes), "x")
    grad_y = program.array(sizes.gradients(lanes), "grad_y")
    images = Padded((sizes.samples, sizes.batch, sizes.layer.in_channels, *sizes.image), lanes)
    gradient_parameters.add(
        program,
        weights,
        biases,
        parameter,
        noise=partial(_noise, program, sizes, law, layer),
        by_weights=partial(by_weights, program, sizes, x, grad_y),
        by_bias=partial(by_bias, program, sizes, grad_y),
        by_input=None if sizes.first else partial(by_input, program, sizes, grad_y),
        images=images,
    )
    return program


def _noise(program: Program, sizes: Sizes, law: Law | None, layer: int) -> Callable[[str], Noise]:
    """Noise for a gradient of that name: two inputs, or drawn, and the seed an input."""
    n_out, *fan_in = sizes.layer.parameter_shapes()["weight"]
    n = prod(fan_in)
    if law is None:
        z = program.array(Plain((sizes.samples, n_out, *fan_in)), "z")
        z_bias = program.array(Plain((sizes.samples, n_out)), "z_bias")
        _, K, L = fan_in
        weights = Given(lambda s, o, i: z[s, o, i // (K * L), i // L % K, i % L])
        biases = Given(lambda s, o, i: z_bias[s, o])
        return lambda name: biases if name == "by_bias" else weights
    source = sampled_weights.source(program, law, sizes.samples)
    return lambda name: drawn(program, name, layer, (n_out, n + 1), n, source)


def build(
    sizes: Sizes,
    target: str = "host",
    schedule: str = "hand",
    parameter: str = "scale",
    law: Law | None = None,
    layer: int = 0,
    device: str | Board = "local",
) -> Kernel:
    """Compile the gradients of a convolution.

    Parameters
    ----------
    sizes : Sizes
    target, schedule, parameter, law, layer, device
        As in `kernels.gradients.dense.build`.

    Returns
    -------
    Kernel
        Called with x, (S, B, C, H, W), or (B, C, H, W) if `first`; ∂L/∂y, (S, B, O, OH, OW); means
        and scales of the weights, (O, C, K, L) each; scales of the bias, (O,); and the words of a
        seed, (2,), or z of the weights, (S, O, C, K, L), and of the bias, (S, O). Gives the
        gradients by means and scales of the weights, by means and scales of the bias, and unless
        `first` by x.
    """
    program = alone(sizes, targets.target(target), parameter, law, layer)
    return build_program(program, schedule, device=device)
