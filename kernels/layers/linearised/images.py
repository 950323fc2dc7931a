"""Layers of images, backward: what is uncorrelated with their inputs, and the Jacobian by these.

Formulas
--------
Those of `refbnn.layers.linearisation` for J (K rows for each example) by the outputs of a layer:

    flatten             J as images
    batch normalisation J ← J a
    average pooling     J ← J/n at every entry of a window
    max pooling         C += J diag(r) Jᵀ;  J ← J π at the entries, with π and r of
                        `kernels.maximum.correlated`, or `kernels.maximum.of_window` for
                        independent entries
    convolution         C += Σ_w σ_w² G_kw G_lw + Σ σ_b² (ΣJ_k)(ΣJ_l) + J diag(σ² ∗ v) Jᵀ,
                        G_kw = Σ_p J_kp m_{sp+w};  J ← Σ_w J µ_w at sp + w

Max pooling that is one operator with its convolution goes back as one, too: only the windows have
rows of J. With m̄_w = Σ_e π_e m_{e+w}, the average of a window's patches,

    G_kw = Σ_windows J_k m̄_w,      own variance r + Σ_e π_e² (σ² ∗ v)_e,

a quarter of the products for windows of four; m̄ is formed once for all K rows.

Rows of J lie in memory as their images do, zeros in the padding: symmetric products sum all of it.
`noise` adds to C what the weights and biases of a convolution do; `spread` brings J to the entries
of windows. J by the inputs of a convolution is a convolution of J, spread out to the stride in a
frame of zeros, with the kernels turned round (`kernels.layers.conv2d`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import tvm
from tvm import te, tirx

from kernels.arithmetic.polynomials import f32
from kernels.layers import conv2d, images
from kernels.layers.activations import elementwise
from kernels.layers.images import Images, Packs, Planes
from kernels.layers.linearised import noise
from kernels.layers.linearised.backward import Backward, Jacobian
from kernels.layers.linearised.spread import Spread, Weight
from kernels.layers.shared_weights import Pooled, Windows, pixels_of
from kernels.program import vectors
from kernels.program.program import Activation, Program, Step
from refbnn.layers import AvgPool2d, BatchNorm2d, Conv2d, MaxPool2d
from refbnn.layers.posterior import Posterior

ONE_BY_ONE = "back one by one"  # starts the name of that step's workload


def flatten(backward: Backward, J: Jacobian, name: str, x: Activation) -> Jacobian:
    """Rows of features as images; x are the images."""
    if J.rows is None:
        backward.settle(name, J)
        J = Jacobian(J.layout, backward.scaled(name, J))
    layout, program, k = images.images(x), backward.program, backward.n_outputs
    shape = layout.tensor_shape(program.batch)[1:]

    def as_images(what: str, tensor: te.Tensor | None) -> te.Tensor | None:
        if tensor is None:
            return None
        block = f"{name}_{what}"
        if what == "rows" and int(tensor.shape[0]) == k and program.batch > 1:
            block = f"all_{block}"  # of all examples: `one_by_one` leaves it alone
        return te.compute((tensor.shape[0], *shape), partial(_pixel, tensor, layout), name=block)

    return Jacobian(
        layout, *[as_images(part, getattr(J, part)) for part in ("rows", "gain", "own")]
    )


def _pixel(tensor: te.Tensor, layout: Images, r, *index):
    """A feature at the place of a pixel, 0 in the padding."""
    channel, row, column = layout.place(*index)
    channels, height, width = layout.shape
    there = tensor[r, (channel * height + row) * width + column]
    if isinstance(layout, Planes):
        inside, whole = column < width, layout.pitch == width
    else:
        inside, whole = channel < channels, channels % layout.lanes == 0
    return there if whole else tirx.if_then_else(inside, there, f32(0.0))


def batch_norm(
    backward: Backward, J: Jacobian, name: str, layer: BatchNorm2d, x: Activation
) -> Jacobian:
    """The gain a."""
    layout, program = images.images(x), backward.program
    slope = program.weight(f"{name}_slope", layout.by_channel(layer.slope))
    workload = f"batch_norm gain {layout} batch {program.batch}"
    gain = elementwise.computed(
        program,
        f"{name}_slopes",
        workload,
        layout,
        lambda _, *i: slope[layout.channel_index(*i)],
        True,
    )
    return backward.through(name, J, gain.mean)


def pool(
    backward: Backward,
    J: Jacobian,
    name: str,
    layer: MaxPool2d | AvgPool2d,
    x: Activation,
    own: te.Tensor | None,
    weights: Sequence[Weight],
) -> Jacobian:
    """Pooling whose results are Σ weight · entry, and a rest of variance `own`.

    Parameters
    ----------
    weights : list of tensor (B, *memory of the layer's output), or float
        Weight of each entry in its window.
    """
    J = backward.through(name, J, own=own)
    backward.settle(name, J)
    spread = Spread(images.images(J), layer.sizes, (1, 1), (0, 0), images.images(x))
    rows = spread.compute(backward, name, backward.scaled(name, J), weights)
    return Jacobian(x.layout, rows)


def convolution(
    backward: Backward,
    J: Jacobian,
    name: str,
    layer: Conv2d,
    posteriors: Mapping[str, Posterior],
    x: Activation,
    products: te.Tensor | None,
) -> Jacobian | None:
    """A convolution alone; `products` are σ² ∗ v, for random inputs x."""
    layout, program = images.images(J), backward.program
    windows = Windows(layer, MaxPool2d(1))
    J = backward.through(name, J, own=products)
    backward.settle(name, J)
    mean = Activation(x.layout, x.mean, None)
    pixels, (m,) = pixels_of(program, f"{name}_pixels", windows, mean, layout)
    weight, bias = posteriors["weight"], posteriors["bias"]
    pooled = Pooled(windows, weight, bias, pixels, m, None, [], [])
    return _of_windows(backward, J, name, pooled, x)


def pooled_convolution(
    backward: Backward, J: Jacobian, name: str, pooled: Pooled, x: Activation
) -> Jacobian | None:
    """A convolution with the max pooling behind it."""
    own, program = pooled.own, backward.program
    if pooled.products:
        parts = list(zip(pooled.entries, pooled.products, strict=True))

        def total(*i):
            return sum((p(*i) * p(*i) * v(*i) for p, v in parts), own(*i))

        shape = [int(n) for n in own.shape]
        own = te.compute(shape, total, name=f"{name}_own_of_windows")
        vectors.add_step(program, f"own variances of windows {shape}", [own.op.name])
    J = backward.through(name, J, own=own)
    backward.settle(name, J)
    return _of_windows(backward, J, name, pooled, x)


def _of_windows(
    backward: Backward, J: Jacobian, name: str, pooled: Pooled, x: Activation
) -> Jacobian | None:
    """Noise of the weights, and J by the inputs, for J by the outputs or by their windows."""
    windows, layout = pooled.windows, images.images(J)
    conv, P = windows.conv, backward.scaled(name, J)
    noise.add(backward, name, P, layout, pooled)
    if x.var is None:
        return None
    (kernel, steps, padding), source = conv.sizes, images.images(x)
    n_in, height, width = source.shape
    lanes = backward.program.target.lanes
    chosen = conv2d.way(n_in, width, 1, conv.groups, lanes)
    kind = Packs if chosen == "channels" else Planes
    framed = kind(conv.out_channels, height + kernel[0] - 1, width + kernel[1] - 1, lanes)
    before = padding[0] - kernel[0] + 1, padding[1] - kernel[1] + 1
    spread = Spread(layout, windows.pool.sizes, steps, before, framed)
    J_y = spread.compute(backward, name, P, pooled.entries or [1.0])
    turned = Conv2d(conv.out_channels, n_in, kernel, groups=conv.groups)
    own = {
        "weight": _fixed(_turned(pooled.weight.mean, conv.groups)),
        "bias": _fixed(np.zeros(n_in)),
    }
    J_x = conv2d.add(
        backward.program, f"{name}_inputs", turned, own, Activation(framed, J_y, None), "mean"
    )
    if J_x.layout != source:  # a copy has zeros in the padding
        J_x = images.copied(backward.program, f"{name}_by_inputs", J_x, source)
    elif isinstance(source, Planes) and source.pitch > width:
        J_x = Activation(source, _within(backward, f"{name}_by_inputs", J_x.mean, width), None)
    return Jacobian(source, J_x.mean)


def _within(backward: Backward, name: str, tensor: te.Tensor, width: int) -> te.Tensor:
    """Planes with zeros beyond the width."""

    def entry(*i):
        return tirx.Select(i[-1] < width, tensor(*i), f32(0.0))

    result = te.compute(tensor.shape, entry, name=name)
    vectors.add_step(backward.program, f"within {width} {[int(n) for n in tensor.shape]}", [name])
    return result


def _fixed(mean: np.ndarray) -> Posterior:
    return Posterior(mean, np.zeros(mean.shape))


def _turned(mean: np.ndarray, groups: int) -> np.ndarray:
    """Kernels (O, C/g, K, L) turned round, from outputs to inputs: (C, O/g, K, L)."""
    n_out, per_group, *kernel = mean.shape
    by_group = mean.reshape(groups, n_out // groups, per_group, *kernel)
    turned = by_group.swapaxes(1, 2)[..., ::-1, ::-1]
    return turned.reshape(groups * per_group, n_out // groups, *kernel)


def one_by_one(program: Program, names: Sequence[str]) -> None:
    """Let all blocks of the pass back that are named so work on one example before the next.

    Their arrays, K rows for each example, then stay in the second cache.
    """
    if program.batch > 1 and names:
        transform = partial(_merge, names=tuple(names), batch=program.batch)
        program.steps.append(Step(f"{ONE_BY_ONE} batch {program.batch}", {}, {}, transform))


def _merge(sch: tvm.s_tir.Schedule, decisions, names: tuple[str, ...], batch: int) -> None:
    runs: list[list] = [[]]
    for block in sch.get_child_blocks(sch.get_sblock("root")):
        if sch.get(block).name_hint.startswith(names):
            runs[-1].append(block)
        else:
            runs.append([])
    for blocks in runs:
        images.merge(sch, blocks, batch)
