"""Sampled convolution, y_s = W_s ∗ x_s + b_s: S samples of the weights, made where they are used.

Formula
-------
With the noise z of `refbnn.network.counter_sampling`, for output channel o and places (a, b) of
the kernel,

    y_soij = Σ_cab x_s,c,ti+a−p,uj+b−q (µ_ocab + σ_ocab z_socab) + (µ_o + σ_o z_so),

zeros outside the image. See `kernels.sampling.weights`. A vector holds the output channels of one
pixel: the weights of one vector of channels, C/g·K·L of them, are made for one sample at a time.

Range
-----
As in `kernels.sampling.dense`, with n = C/g·K·L terms a sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import tvm
from tvm import te

from kernels.devices import Board, targets
from kernels.devices.targets import Target
from kernels.layers import images, tiles
from kernels.layers.images import Images, Packs, Planes
from kernels.program.kernel import Kernel
from kernels.program.kernel import build as build_program
from kernels.program.program import Activation, Program, Step
from kernels.sampling import weights as sampled_weights
from kernels.sampling.weights import Source
from refbnn.layers.images.windows import Pair, output_size
from refbnn.layers.posterior import Posterior
from refbnn.noise.law import Law


def add(
    program: Program,
    name: str,
    layer: int,
    x: Activation,
    weight: Posterior,
    bias: Posterior,
    noise_: Source,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    groups: int = 1,
) -> Activation:
    """Apply the layer.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks, by which `schedule` finds them.
    layer : int
        Its index in the network.
    x : Activation of images
        Of B inputs, the same for all samples, or of S·B.
    weight : Posterior of shape (O, C/g, K, L)
    bias : Posterior of shape (O,)
    noise_ : Source
    stride, padding : (int, int)
    groups : int
    """
    lanes, batch = program.target.lanes, program.batch
    n_out, per_group, *_ = weight.shape
    kernel = weight.shape[2], weight.shape[3]
    channels, height, width = images.images(x).shape
    rows, columns = output_size((height, width), kernel, stride, padding)
    layout = Packs(n_out, rows, columns, lanes)
    whole = program
    if int(x.mean.shape[0]) > batch:
        whole = sampled_weights.under_samples(program, noise_)
    x = images.around(whole, f"{name}_around", x, layout, kernel, stride, padding)
    theta = sampled_weights.weights(program, name, layer, weight, bias, noise_)
    sizes = per_group, kernel[0], kernel[1]
    out = compute(name, x, theta, layout, sizes, stride, groups, batch)
    program.steps.append(
        Step(
            workload=(
                f"sampled conv2d {channels}x{height}x{width} to {n_out} "
                f"{images.in_words(kernel, stride, padding)} "
                f"groups {groups} batch {batch} samples {noise_.n_samples}"
            ),
            by_hand={"columns": tiles.of_single_sums(columns, program.target.registers)},
            space={"columns": range(1, min(columns, 24) + 1)},
            transform=partial(schedule, name=name, batch=batch),
        )
    )
    return Activation(layout, out, None)


def compute(
    name: str,
    x: Activation,
    theta: te.Tensor,
    layout: Images,
    sizes: tuple[int, int, int],
    stride: Pair,
    groups: int,
    batch: int,
) -> te.Tensor:
    """Say what is computed: y, (samples·batch, packs, rows, columns, lanes).

    Parameters
    ----------
    name, stride, groups, batch
        As in `add`.
    x : Activation of images, zeros around them included
        Of batch or samples·batch.
    theta : (packs, samples, numbers of a row / 8, 8, lanes)
    layout : Packs
        Of y.
    sizes : (C/g, K, L)
    """
    _, n_samples, _, group, lanes = (int(n) for n in theta.shape)
    n_out, per_group = layout.channels, sizes[0]
    source = images.images(x)
    first = batch if int(x.mean.shape[0]) > batch else 0
    c, a, b = (te.reduce_axis((0, n), name=axis) for n, axis in zip(sizes, "cab", strict=True))

    def number(n, p, s, lane):
        return theta[p, s, n // group, n % group, lane]

    def term(s, i, p, row, column, lane):
        # Channels added by padding read the last group's images, with weights of 0.
        of_group = te.min(p * lanes + lane, n_out - 1) // (n_out // groups) if groups > 1 else 0
        pixel = source.index(of_group * per_group + c, stride[0] * row + a, stride[1] * column + b)
        weight = number((c * sizes[1] + a) * sizes[2] + b, p, s, lane)
        return te.sum(x.mean[(s * first + i, *pixel)] * weight, axis=[c, a, b])

    shape = layout.tensor_shape(batch)
    sums = te.compute((n_samples, *shape), term, name=f"{name}_sums")

    def epilogue(r, p, row, column, lane):
        s, i = r // batch, r % batch
        bias = number(sizes[0] * sizes[1] * sizes[2], p, s, lane)
        return sums[s, i, p, row, column, lane] + bias

    return te.compute(layout.tensor_shape(n_samples * batch), epilogue, name=name)


def schedule(sch: tvm.s_tir.Schedule, decisions: Mapping[str, int], name: str, batch: int) -> None:
    """Say how it is computed: one decision a paragraph; the columns of a tile are decided."""
    # Samples outside, so that a network can do one after the other (`sampled_weights.one_by_one`);
    # in each, pack after pack of the channels.
    image, pack_, row, column, lane = sch.get_loops(sch.get_sblock(name))
    sample, image = sch.split(image, [None, batch])
    sch.reorder(sample, pack_, image, row, column, lane)
    sch.vectorize(lane)

    # Tiles of columns: a weight that is read serves all pixels of a tile, and the independent sums
    # hide the latency of the multiply-adds; biases are added to them in the registers. A last tile
    # that is not full gets loops of its own.
    column_tile, column = sch.split(column, [None, decisions["columns"]])
    sch.annotate(column_tile, "pragma_loop_partition_hint", True)
    sums = sch.get_sblock(f"{name}_sums")
    sch.compute_at(sums, column_tile, preserve_unit_loops=True)
    sch.unroll(column)

    # The weights of one sample and pack, for all images of the batch.
    sampled_weights.schedule(sch, name, pack_)

    # The tile inside the loops over the window, unrolled, its lanes vectorised: each sum is one
    # register, set to zero before those loops.
    *_, column, lane, c, a, b = sch.get_loops(sums)
    sch.reorder(c, a, b, column, lane)
    sch.unroll(column)
    sch.vectorize(lane)
    sch.decompose_reduction(sums, c)


def build(
    weight: Posterior,
    bias: Posterior,
    law: Law,
    image: Pair,
    batch: int,
    n_samples: int,
    target: str = "host",
    schedule: str = "hand",
    layer: int = 0,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    groups: int = 1,
    device: str | Board = "local",
) -> Kernel:
    """Compile the layer alone.

    Parameters
    ----------
    weight, bias : Posterior of shapes (O, C/g, K, L) and (O,)
    law : Law
    image : (int, int)
        Height and width.
    batch, n_samples : int
    target, schedule, device
        As in `kernels.compile_network`.
    layer : int
        Index in the network that random numbers are drawn for.
    stride, padding, groups
        As in `add`.

    Returns
    -------
    Kernel
        Called with the words of a seed and x, (batch, C, H, W); gives y, (samples, batch, O, OH,
        OW).
    """
    cpu = targets.target(target)
    steps = stride, padding, groups
    program = alone(weight, bias, law, image, batch, n_samples, cpu, layer, *steps)
    return build_program(program, schedule, device=device)


def alone(
    weight: Posterior,
    bias: Posterior,
    law: Law,
    image: Pair,
    batch: int,
    n_samples: int,
    target: Target,
    layer: int = 0,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    groups: int = 1,
) -> Program:
    """The program of the layer alone; parameters as in `build`."""
    program = Program(target, batch)
    noise_ = sampled_weights.source(program, law, n_samples)
    x = program.known(Planes(weight.shape[1] * groups, *image, target.lanes))
    y = add(program, "conv2d", layer, x, weight, bias, noise_, stride, padding, groups)
    unpacked = images.unpacked(sampled_weights.under_samples(program, noise_), "unpacked", y)
    sampled_weights.give(program, unpacked, noise_)
    return program
