"""Sampled convolution, y_s = W_s ∗ x_s + b_s: S samples of the weights, made where they are used.

Formula
-------
With the noise z of `refbnn.network.counter_sampling`, for output channel o and places (a, b) of
the kernel,

    y_soij = Σ_cab x_s,c,ti+a−p,uj+b−q (µ_ocab + σ_ocab z_socab) + (µ_o + σ_o z_so),

with zeros outside the image (`kernels.sampling.weights`). A vector holds the output channels of one
pixel. The weights of one vector of channels, C/g·K·L of them, are made for one sample at a time.

Range
-----
The bound of `kernels.sampling.dense`, with n = C/g·K·L terms a sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import tvm
from tvm import te

from kernels.layers import images, tiles
from kernels.layers.images import Packs
from kernels.program.program import Activation, Program, Step
from kernels.sampling import weights as sampled_weights
from kernels.sampling.weights import Source
from refbnn.layers import Conv2d
from refbnn.layers.posterior import Posterior


def add(
    program: Program,
    name: str,
    index: int,
    layer: Conv2d,
    posteriors: Mapping[str, Posterior],
    x: Activation,
    source: Source,
) -> Activation:
    """Apply the layer to images; other arguments as in `kernels.sampling.dense.add`.

    The weight has the shape (O, C/g, K, L), the bias (O,).
    """
    lanes, batch, sizes = program.target.lanes, program.batch, layer.sizes
    channels, height, width = images.images(x).shape
    n_out, rows, columns = layer.output_shape((channels, height, width))
    layout = Packs(n_out, rows, columns, lanes)
    whole = program
    if int(x.mean.shape[0]) > batch:
        whole = sampled_weights.under_samples(program, source)
    x = images.around(whole, f"{name}_around", x, layout, *sizes)
    theta = sampled_weights.weights(program, name, index, posteriors, source)
    out = compute(name, layer, x, theta, layout, batch)
    program.steps.append(
        Step(
            workload=(
                f"sampled conv2d {channels}x{height}x{width} to {n_out} {images.in_words(*sizes)} "
                f"groups {layer.groups} batch {batch} samples {source.n_samples}"
            ),
            by_hand={"columns": tiles.of_single_sums(columns, program.target.registers)},
            space={"columns": range(1, min(columns, 24) + 1)},
            transform=partial(schedule, name=name, batch=batch),
        )
    )
    return Activation(layout, out, None)


def compute(
    name: str, layer: Conv2d, x: Activation, theta: te.Tensor, layout: Packs, batch: int
) -> te.Tensor:
    """Say what is computed: y, (samples·batch, packs, rows, columns, lanes).

    Parameters
    ----------
    name, layer, batch
        As in `add`.
    x : Activation of images, zeros around them included
        Images of batch or samples·batch inputs.
    theta : (packs, samples, numbers of a row / 8, 8, lanes)
    layout : Packs
        Layout of y.
    """
    _, n_samples, _, group, lanes = (int(n) for n in theta.shape)
    n_out, *sizes = layer.parameter_shapes()["weight"]
    per_group, height, width = sizes
    source, (_, stride, _) = images.images(x), layer.sizes
    first = batch if int(x.mean.shape[0]) > batch else 0
    c, a, b = (te.reduce_axis((0, n), name=axis) for n, axis in zip(sizes, "cab", strict=True))

    def number(n, p, s, lane):
        return theta[p, s, n // group, n % group, lane]

    def term(s, i, p, row, column, lane):
        # Channels added by padding read the last group's images, with weights of 0.
        channel = te.min(p * lanes + lane, n_out - 1)
        of_group = channel // (n_out // layer.groups) if layer.groups > 1 else 0
        pixel = source.index(of_group * per_group + c, stride[0] * row + a, stride[1] * column + b)
        weight = number((c * height + a) * width + b, p, s, lane)
        return te.sum(x.mean[(s * first + i, *pixel)] * weight, axis=[c, a, b])

    shape = layout.tensor_shape(batch)
    sums = te.compute((n_samples, *shape), term, name=f"{name}_sums")

    def epilogue(r, p, row, column, lane):
        s, i = r // batch, r % batch
        bias = number(per_group * height * width, p, s, lane)
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
