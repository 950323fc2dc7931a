"""Covariance of a convolution's outputs in the windows of any pooling behind it, in float32.

Formulas
--------
Those of `refbnn.layers.images.shared_weights`: with the product g of the gains E[f′] of the layers
between, each of which acts entry by entry, entries at p and q = p + d have

    Cov = g_p g_q (σ_b² + Σ σ² m_{p+w} m_{q+w} + Σ_a µ_a µ_{a−d} v_{p+a}).

Where only batch normalisation of slope a stands between, maxima take the variance of the difference
itself, γ = a² (Σ σ² (m_{p+w} − m_{q+w})² + Σ (σ² + µ²)(v_{p+w} + v_{q+w}) − 2 Σ_a µ_a µ_{a−d}
v_{p+a}), which keeps its digits where entries are nearly equal.

All pairs of a window are summed one by one, i ≠ j twice. Max pooling of small windows directly
behind a convolution is `kernels.layers.shared_weights`, several times as fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import tvm
from tvm import te, tirx

from kernels.arithmetic.polynomials import f32
from kernels.layers import conv2d, images
from kernels.layers.activations import elementwise
from kernels.layers.dense import pack
from kernels.layers.images import Images, Packs
from kernels.maximum import correlated
from kernels.maximum.of_window import ABSENT
from kernels.program import vectors
from kernels.program.program import Activation, Program, Step
from refbnn.errors import InputError
from refbnn.layers import AvgPool2d, BatchNorm2d, Conv2d, Layer, MaxPool2d
from refbnn.layers.posterior import Posterior

_MOST = 64  # entries of a window: each pair is a statement


@dataclass(frozen=True, eq=False)
class SharedWeights:
    """The convolution whose outputs an activation is, and the layers passed since.

    Parameters
    ----------
    x : Activation of images
        Input of the convolution.
    conv : Conv2d
    posteriors : mapping of str to Posterior
    passed : tuple of (layer, Activation)
        Layers behind it that act entry by entry, with their inputs.
    """

    x: Activation
    conv: Conv2d
    posteriors: Mapping[str, Posterior]
    passed: tuple[tuple[Layer, Activation], ...] = ()

    def behind(self, layer: Layer, x: Activation) -> SharedWeights:
        """These weights behind one more layer, whose inputs are x."""
        return replace(self, passed=(*self.passed, (layer, x.alone)))

    @property
    def norms(self) -> list[BatchNorm2d]:
        """Batch normalisation among the layers passed."""
        return [layer for layer, _ in self.passed if isinstance(layer, BatchNorm2d)]

    @property
    def is_linear(self) -> bool:
        """Whether all layers passed are batch normalisation."""
        return len(self.norms) == len(self.passed)


def max_pool(
    program: Program, name: str, layer: MaxPool2d, x: Activation, linearised: bool = False
) -> list:
    """Max pooling by pairs, of windows of at least two entries.

    Entries have the covariance that x.shared tells; they are independent by the method "tree".

    Returns
    -------
    Activation, and with `linearised` the own variance and π of each entry

    Raises
    ------
    InputError
        If a window has more than 64 entries.
    """
    (rows, columns), *_ = layer.sizes
    n = rows * columns
    if n > _MOST:
        behind, left_out = " behind a convolution", ", which leaves out their covariance"
        if layer.method == "tree":
            behind = left_out = ""
        raise InputError(
            f"{layer}: a window of {n} entries{behind}; expected at most {_MOST} in a kernel (or "
            f"method='exact'{left_out})"
        )
    layout, parts, words = images.windows(program, name, layer, x, ABSENT)
    shape = layout.tensor_shape(program.batch)
    entries = [
        _entries(f"{name}_{which}", (shape[0], n, *shape[1:]), part, columns)
        for which, part in zip("mv", parts, strict=True)
    ]
    independent = layer.method == "tree" or x.shared is None
    linear = not independent and x.shared.is_linear
    between = []
    if not independent:
        between = [_between(program, name, layer, x, layout, apart=linear)]
    index_of = {(i, j): i * n + j for j in range(n) for i in range(j)}

    def window(buffers, index):
        i, *at = index
        mean, var, *pairs = buffers
        m, v = ([part[(i, e, *at)] for e in range(n)] for part in (mean, var))
        if independent:
            return correlated.Window(m, v, {(j, k): v[j] + v[k] for j, k in index_of})
        (all_pairs,) = pairs
        gamma = {pair: all_pairs[(i, k, *at)] for pair, k in index_of.items()}
        if not linear:
            gamma = {
                (j, k): tirx.max(f32(0.0), v[j] + v[k] - f32(2.0) * c)  # NaN stays NaN
                for (j, k), c in gamma.items()
            }
        return correlated.Window(m, v, gamma)

    lanes = program.target.lanes
    mean, var, *more = correlated.greatest(
        name, shape, [*entries, *between], [], window, lanes, weights=n if linearised else 0
    )
    vectors.add_step(program, f"max_pool2d {words} window", [f"{name}_m", f"{name}_v"])
    return [Activation(layout, mean, var), *more]


def between_sum(
    program: Program, name: str, layer: AvgPool2d, x: Activation, layout: Images
) -> te.Tensor:
    """Sum of the covariances of different entries of every window of x with x.shared."""
    (rows, columns), *_ = layer.sizes
    n = rows * columns
    between = _between(program, name, layer, x, layout, apart=False)
    i, j = te.reduce_axis((0, n), name="i"), te.reduce_axis((0, n), name="j")

    def total(b, *at):
        c = between[(b, i * n + j, *at)]
        return te.sum(tirx.Select(tirx.NE(i, j), c, f32(0.0)), axis=[i, j])

    result = te.compute(layout.tensor_shape(program.batch), total, name=f"{name}_total")
    _sums_by_vectors(program, f"{name}_total", 2, f"sum of {n} x {n} {layout}")
    return result


def _entries(name: str, shape: tuple, part: Callable, columns: int) -> te.Tensor:
    """Entries of all windows by the part of `images.windows`, (batch, n, ...)."""
    return te.compute(shape, lambda i, e, *at: part(e // columns, e % columns, i, *at), name=name)


def _between(
    program: Program,
    name: str,
    layer: MaxPool2d | AvgPool2d,
    x: Activation,
    layout: Images,
    apart: bool,
) -> te.Tensor:
    """Covariances of all pairs of entries i·n + j, or γ of them, (batch, n², ...)."""
    (_, columns), (down, right), (above, left) = layer.sizes
    _, height, width = images.images(x).shape
    sums = _pair_sums(program, name, layer, x.shared, layout, apart)
    batch, n_pairs, *inner = [int(k) for k in sums.shape]
    n = round(n_pairs**0.5)
    block = _block(x.shared.conv, layout)
    bias = program.weight(f"{name}_bias_var", pack(x.shared.posteriors["bias"].var, block))
    gains = _gains(program, name, layer, x, (batch, n, *inner))
    slopes = [
        program.weight(f"{name}_slope{k}", layout.by_channel(norm.slope**2))
        for k, norm in enumerate(x.shared.norms)
    ]

    def inside(e, *at):
        _, row, column = layout.place(*at)
        y, z = down * row + e // columns - above, right * column + e % columns - left
        return tirx.all(y >= 0, y < height, z >= 0, z < width)

    def value(i, pair, *at):
        total = sums[(i, pair, *at)]
        if not apart:
            o, *_ = layout.place(*at)
            total = total + bias[o // block, o % block]
        for slope in slopes:
            total = slope[layout.channel_index(*at)] * total
        for g in gains:
            total = total * g[(i, pair // n, *at)] * g[(i, pair % n, *at)]
        if above or left:
            total = tirx.Select(inside(pair // n, *at), total, f32(0.0))
            total = tirx.Select(inside(pair % n, *at), total, f32(0.0))
        return tirx.max(f32(0.0), total) if apart else total  # NaN stays NaN

    result = te.compute(sums.shape, value, name=f"{name}_between")
    workload = f"pairs {n} {layout} of {columns} batch {batch}"
    vectors.add_step(program, workload, [*[g.op.name for g in gains], f"{name}_between"])
    return result


def _gains(
    program: Program, name: str, layer: MaxPool2d | AvgPool2d, x: Activation, shape: tuple
) -> list[te.Tensor]:
    """E[f′] of each entry, of each layer passed but batch normalisation."""
    (_, columns), *_ = layer.sizes
    tensors = []
    for k, (passed, before) in enumerate(x.shared.passed):
        if not isinstance(passed, BatchNorm2d):
            f = elementwise.function_of(passed)
            assert f is not None  # else the layer would have had no kernel
            y = elementwise.add(program, f"{name}_gain{k}", f, before, linearised=True)
            tensors.append(y.gain)
    source, result = images.images(x), []
    for k, tensor in enumerate(tensors):
        known = Activation(source, tensor, None)
        _, (part,), _ = images.windows(program, f"{name}_gain{k}_windows", layer, known)
        result.append(_entries(f"{name}_gains{k}", shape, part, columns))
    return result


def _block(conv: Conv2d, layout: Images) -> int:
    """Channels whose weights are neighbours in memory: one vector, or a group."""
    return layout.lanes if isinstance(layout, Packs) else conv.out_channels // conv.groups


def _pair_sums(
    program: Program,
    name: str,
    layer: MaxPool2d | AvgPool2d,
    shared: SharedWeights,
    layout: Images,
    apart: bool,
) -> te.Tensor:
    """Covariances without gains and biases, or γ without slopes, (batch, n², ...)."""
    conv, x = shared.conv, shared.x
    (kernel, (s, t), (p, q)), (window, (down, right), (above, left)) = conv.sizes, layer.sizes
    patch = kernel[0] + s * (window[0] - 1), kernel[1] + t * (window[1] - 1)
    steps, padding = (s * down, t * right), (p + s * above, q + t * left)
    x = images.around(program, f"{name}_inputs", x, layout, patch, steps, padding)
    source, n = images.images(x), window[0] * window[1]
    block, weight = _block(conv, layout), shared.posteriors["weight"]
    terms = [weight.mean, weight.var, weight.mean**2 + weight.var]
    w = program.weight(f"{name}_weight", conv2d.by_blocks(terms, block, 1))
    channels = conv.in_channels // conv.groups
    extents = zip((channels, *kernel), "cab", strict=True)
    axes = [te.reduce_axis((0, extent), name=axis) for extent, axis in extents]
    c, a, b = axes

    def term(i, pair, *at):
        o, row, column = layout.place(*at)
        first = o // block * channels if conv.groups > 1 else 0
        places = [(s * (e // window[1]), t * (e % window[1])) for e in (pair // n, pair % n)]

        def weight_at(k, a, b):
            return w[o // block, c, a, k, b, 0, o % block]

        def pixels(tensor):
            return [
                tensor[
                    (
                        i,
                        *source.index(first + c, steps[0] * row + y + a, steps[1] * column + z + b),
                    )
                ]
                for y, z in places
            ]

        one, other = pixels(x.mean)
        product = (one - other) * (one - other) if apart else one * other
        total = product * weight_at(1, a, b)
        if x.var is None:
            return te.sum(total, axis=axes)
        v_one, v_other = pixels(x.var)
        there = [k - (z[1] - z[0]) for k, z in zip((a, b), zip(*places, strict=True), strict=True)]
        inside = tirx.all(*[tirx.all(k >= 0, k < n) for k, n in zip(there, kernel, strict=True)])
        common = tirx.if_then_else(inside, weight_at(0, *there), f32(0.0))
        common = weight_at(0, a, b) * common * v_one
        if apart:
            total = total + weight_at(2, a, b) * (v_one + v_other) - f32(2.0) * common
        else:
            total = total + common
        return te.sum(total, axis=axes)

    batch, *inner = layout.tensor_shape(program.batch)
    result = te.compute((batch, n * n, *inner), term, name=f"{name}_pairs")
    _sums_by_vectors(program, f"{name}_pairs", 3, f"pairs {n} {layout} of {conv} {apart}")
    return result


def _sums_by_vectors(program: Program, block: str, n_summed: int, workload: str) -> None:
    transform = partial(schedule, block=block, n_summed=n_summed, lanes=program.target.lanes)
    program.steps.append(Step(f"{workload} batch {program.batch}", {}, {}, transform))


def schedule(sch: tvm.s_tir.Schedule, decisions, block: str, n_summed: int, lanes: int) -> None:
    """Whole vectors of sums over the last `n_summed` axes, set to zero before these loops."""
    sums = sch.get_sblock(block)
    loops = sch.get_loops(sums)
    outer, summed = loops[:-n_summed], loops[-n_summed:]
    column, lane = sch.split(outer[-1], [None, lanes])
    sch.reorder(*outer[:-1], column, *summed, lane)
    sch.vectorize(lane)
    sch.decompose_reduction(sums, summed[0])
