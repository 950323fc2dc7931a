"""A convolution's outputs in the windows of the max pooling behind it, in float32.

Formulas
--------
All positions of a channel share its weights, so the outputs in a window are correlated
(`refbnn.layers.images.shared_weights`). Max pooling takes their means, variances, and the variances
of their differences (`kernels.maximum.correlated`). For known inputs m and entries at p and q,

    E = Σ µ m_{p+w} + µ_b      v = S_p + σ_b²      γ_pq = Σ σ² (m_{p+w} − m_{q+w})²

with S_p = Σ σ² m²_{p+w}. Random inputs add T_p = Σ (σ² + µ²) v_{p+w} to the variance and
T_p + T_q − 2 Σ_a µ_a µ_{a−d} v_{p+a} to γ_pq, d = q − p. No sum of the means cancels. The
last one does where a kernel is smooth, by a factor of its size at most: its ends remain.

Work
----
A window of 2×2 with stride 2 takes 14 products an input for four outputs, or 24 for random inputs.
That is the least: means, variances and the six γ are independent numbers. Products of means,
m² and (m_p − m_q)² at each offset q − p, are images that all channels share; the products of
weights are laid out ahead of time.

Two ways to fill a vector, as in `kernels.layers.conv2d`: output channels of one window, which reads
pixels as single numbers and gives `Packs`, or neighbouring windows of one channel, which gives
`Planes`. In the second, each column of a window is put together for all windows first.

Range
-----
With n = C/g·K·L terms a sum and u = 2⁻²⁴: |error of E| ≤ γ_{n+2} Σ|m µ|, that of v and of each
part of γ_pq at most γ_{n+6} relative to the terms of that part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import numpy as np
import tvm
from tvm import te, tirx

from kernels.arithmetic.polynomials import f32
from kernels.layers import conv2d, images, tiles
from kernels.layers.dense import pack
from kernels.layers.images import Images, Packs, Planes
from kernels.layers.products import joint_sum, listed
from kernels.maximum import correlated
from kernels.program import vectors
from kernels.program.program import Activation, Program, Step
from refbnn.layers import AvgPool2d, BatchNorm2d, Conv2d, Layer, MaxPool2d
from refbnn.layers.images.shared_weights import times_shifted
from refbnn.layers.images.windows import Pair
from refbnn.layers.posterior import Posterior

_MOST = 4  # entries of a window: their sums fit the registers


def covered(layers: Sequence[Layer], linearised: bool = False) -> int:
    """Number of layers that one operator computes: Conv2d up to MaxPool2d, 0 if there is none.

    With `linearised`, no entry may be in two windows: what reaches it from both adds up before it
    is squared.
    """
    if not layers or not isinstance(layers[0], Conv2d):
        return 0
    for index, layer in enumerate(layers[1:], 1):
        if isinstance(layer, MaxPool2d):
            kernel, stride, padding = layer.sizes
            if linearised and any(s < k for s, k in zip(stride, kernel, strict=True)):
                return 0
            small = 1 < kernel[0] * kernel[1] <= _MOST and padding == (0, 0)
            return index + 1 if small and layer.method == "window" else 0
        if not isinstance(layer, BatchNorm2d):
            return 0
    return 0


@dataclass(frozen=True)
class Windows:
    """Sizes of a convolution and of the windows behind it.

    Parameters
    ----------
    conv : Conv2d
    pool : MaxPool2d or AvgPool2d
    """

    conv: Conv2d
    pool: MaxPool2d | AvgPool2d

    @property
    def entries(self) -> list[Pair]:
        """Place of each entry in a window of inputs, in row order."""
        (s, t), (rows, columns) = self.conv.sizes[1], self.pool.sizes[0]
        return [(s * a, t * b) for a in range(rows) for b in range(columns)]

    @property
    def patch(self) -> tuple[Pair, Pair, Pair]:
        """Kernel, stride and padding of the windows of inputs that one result reads."""
        kernel, (s, t), (p, q) = self.conv.sizes
        _, (rows, columns), around = self.pool.sizes
        last = self.entries[-1]
        size = kernel[0] + last[0], kernel[1] + last[1]
        return size, (s * rows, t * columns), (p + s * around[0], q + t * around[1])

    @property
    def pairs(self) -> list[tuple[int, int, Pair]]:
        """Entries i < j, and the place of j beside i."""
        places = self.entries
        return [
            (i, j, (places[j][0] - places[i][0], places[j][1] - places[i][1]))
            for j in range(len(places))
            for i in range(j)
        ]

    @property
    def offsets(self) -> list[Pair]:
        """Different places of one entry beside another."""
        return list(dict.fromkeys(d for *_, d in self.pairs))

    @property
    def common(self) -> list[tuple[int, int, Pair]]:
        """Pairs of entries that read pixels in common, those in one row first."""
        rows, columns = self.conv.sizes[0]
        pairs = [pair for pair in self.pairs if pair[2][0] < rows and abs(pair[2][1]) < columns]
        return sorted(pairs, key=_rows)


# Kernels (O, C/g, K, L), and sums of pixels times one of them: a tensor, the place in a window that
# the first weight multiplies, and the kernel's number.
_Group = tuple[list[np.ndarray], list[tuple[te.Tensor, Pair, int]]]


@dataclass(frozen=True, eq=False)
class Pooled:
    """Arrays of the pass forth of `add` that the pass back takes.

    Parameters
    ----------
    windows : Windows
    weight, bias : Posterior
        Of the convolution with batch normalisation behind it: the slopes are factors.
    pixels, mean
        Inputs' means as the windows read them.
    own : tensor
        r of the maximum (`kernels.maximum.correlated`).
    entries : list of tensors
        π of each entry.
    products : list of tensors
        (σ² ∗ v) of each entry, for random inputs.
    """

    windows: Windows
    weight: Posterior
    bias: Posterior
    pixels: Pixels
    mean: te.Tensor
    own: te.Tensor
    entries: list[te.Tensor]
    products: list[te.Tensor]


def add(
    program: Program,
    name: str,
    layers: Sequence[Layer],
    posteriors: Mapping[str, Posterior],
    x: Activation,
    linearised: bool = False,
) -> tuple[Activation, Pooled | None]:
    """Apply the layers that `covered` counts.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks.
    layers : Conv2d, BatchNorm2d any number of times, MaxPool2d
    posteriors : mapping of str to Posterior
        The weights of the convolution.
    x : Activation of images
    linearised : bool
        Whether the pass back follows.

    Returns
    -------
    y : Activation of images
    Pooled, or None
        Where the pass back follows.
    """
    conv, *between, pool = layers
    assert isinstance(conv, Conv2d)
    assert isinstance(pool, MaxPool2d)
    norms = [norm for norm in between if isinstance(norm, BatchNorm2d)]
    windows, target = Windows(conv, pool), program.target
    n_out, rows, columns = pool.output_shape(conv.output_shape(images.images(x).shape))
    chosen = conv2d.way(n_out, columns, 1, conv.groups, target.lanes)
    layout: Images = (Packs if chosen == "channels" else Planes)(n_out, rows, columns, target.lanes)
    block = target.lanes if chosen == "channels" else n_out // conv.groups
    pixels, tensors = pixels_of(program, name, windows, x, layout)
    add_up = partial(_add_up, program, windows=windows, pixels=pixels, layout=layout, block=block)
    groups = _groups(program, name, windows, posteriors["weight"], x, pixels, tensors)
    sums = [total for k, group in enumerate(groups) for total in add_up(f"{name}_{k}", group)]
    n = len(windows.entries)
    constants = [
        program.weight(f"{name}_bias", pack(posteriors["bias"].mean, block)),
        program.weight(f"{name}_bias_var", pack(posteriors["bias"].var, block)),
    ]
    for index, norm in enumerate(norms):
        constants += _norm(program, f"{name}_norm{index}", norm, layout)
    window = partial(_window, sizes=windows, layout=layout, block=block, known=x.var is None)
    mean, var, *more = correlated.greatest(
        name,
        layout.tensor_shape(program.batch),
        sums,
        constants,
        window,
        target.lanes,
        weights=n if linearised else 0,
        together=1 if target.is_arm else 2,
    )
    y = Activation(layout, mean, var)
    if not linearised:
        return y, None
    slope = np.prod([norm.slope for norm in norms], axis=0) * np.ones(n_out)
    weight, bias = (_scaled(posteriors[part], slope) for part in ("weight", "bias"))
    products = []
    if x.var is not None:
        group = [weight.var], [(tensors[1], place, 0) for place in windows.entries]
        products = add_up(f"{name}_products", group)
    own, *entries = more
    return y, Pooled(windows, weight, bias, pixels, tensors[0], own, entries, products)


def _scaled(posterior: Posterior, slope: np.ndarray) -> Posterior:
    """The posterior of these weights times a slope for each output channel."""
    factor = slope.reshape(-1, *[1] * (posterior.mean.ndim - 1))
    return Posterior(posterior.mean * factor, posterior.scale * np.abs(factor))


def _norm(program: Program, name: str, norm: BatchNorm2d, layout: Images) -> list[te.Tensor]:
    parts = {"slope": norm.slope, "centre": norm.mean, "shift": norm.beta, "square": norm.slope**2}
    return [program.weight(f"{name}_{k}", layout.by_channel(v)) for k, v in parts.items()]


def _window(
    buffers: Sequence, index: tuple, sizes: Windows, layout: Images, block: int, known: bool
) -> correlated.Window:
    """Entries of one window from its sums; `buffers` in the order of `add`."""
    n, pairs = len(sizes.entries), sizes.pairs
    common = [pair[:2] for pair in sizes.common]
    counts = [n, n, len(pairs)] if known else [n, n, len(pairs), n, len(common)]
    read = iter(buffers)
    m, squares, between, *random = ([next(read)[index] for _ in range(k)] for k in counts)
    bias, bias_var, *norms = read
    _, *at = index
    o, *_ = layout.place(*at)
    mean = [part + bias[o // block, o % block] for part in m]
    var = [part + bias_var[o // block, o % block] for part in squares]
    apart = dict(zip([pair[:2] for pair in pairs], between, strict=True))
    if random:
        own, twice = random[0], dict(zip(common, random[1], strict=True))
        var = [part + more for part, more in zip(var, own, strict=True)]
        for i, j in apart:
            rest = own[i] + own[j]
            if (i, j) in twice:
                rest = tirx.max(f32(0.0), rest - f32(2.0) * twice[i, j])  # NaN stays NaN
            apart[i, j] = apart[i, j] + rest
    place = layout.channel_index(*at)
    for first in range(0, len(norms), 4):
        slope, centre, shift, square = (part[place] for part in norms[first : first + 4])
        mean = [slope * (part - centre) + shift for part in mean]
        var = [square * part for part in var]
        apart = {pair: square * part for pair, part in apart.items()}
    return correlated.Window(mean, var, apart)


@dataclass(frozen=True, eq=False)
class Pixels:
    """Inputs as the windows read them.

    Parameters
    ----------
    source : Planes or Packs, or None
        Layout of the tensors; None where column b of all windows is put together,
        (batch, b, channel, row, window).
    stride : (int, int)
        Of the windows.
    columns : int
        Columns of images that are read, in `Planes` whole vectors.
    """

    source: Images | None
    stride: Pair
    columns: int = 0

    def read(self, tensor: te.Tensor, i, channel, window: Pair, place: Pair):
        """The pixel at a place of a window."""
        row = self.stride[0] * window[0] + place[0]
        if self.source is None:
            return tensor[i, place[1], channel, row, window[1]]
        column = self.stride[1] * window[1] + place[1]
        return tensor[(i, *self.source.index(channel, row, column))]

    def products(self, name: str, m: te.Tensor, d: Pair | None) -> te.Tensor:
        """m², or for an offset d (m_p − m_{p+d})² at the corner of the rectangle they span."""
        rows, columns = (2, 3) if self.source is not None else (3, 1)
        shape = [int(n) for n in m.shape]
        if isinstance(self.source, Planes):
            shape[columns] = self.columns  # there is memory behind them
        if d is None:
            return te.compute(shape, lambda *at: m(*at) * m(*at), name=name)
        shape[rows] -= d[0]
        if not isinstance(self.source, Planes):
            shape[columns] -= abs(d[1])

        def square(*at):
            one, other = list(at), list(at)
            other[rows] += d[0]
            (one if d[1] < 0 else other)[columns] += abs(d[1])
            apart = m(*one) - m(*other)
            return apart * apart

        return te.compute(shape, square, name=name)


def pixels_of(
    program: Program, name: str, sizes: Windows, x: Activation, layout: Images
) -> tuple[Pixels, list[te.Tensor]]:
    """Means, and variances where there are any, as `Pixels` reads them."""
    size, stride, padding = sizes.patch
    if isinstance(layout, Packs):
        source = images.images(x)
        if isinstance(source, Packs):
            x = images.around(program, f"{name}_around", x, layout, size, stride, padding)
            return Pixels(images.images(x), stride), x.tensors
        whole = replace(source, width=source.width + 2 * padding[1])
        reach = 1, 1 + max((abs(d[1]) for d in sizes.offsets), default=0)
        x = images.around(program, f"{name}_around", x, whole, reach, (1, 1), padding)
        return Pixels(images.images(x), stride, whole.pitch), x.tensors
    x = images.around(program, f"{name}_around", x, layout, size, stride, padding)
    batch, channels, height, _ = x.mean.shape
    shape = batch, size[1], channels, height, layout.pitch

    def columns(tensor):
        return lambda i, b, c, row, window: tensor[i, c, row, stride[1] * window + b]

    blocks = [f"{name}_columns_{part}" for part in ("mean", "var")][: len(x.tensors)]
    tensors = [
        te.compute(shape, columns(tensor), name=block)
        for tensor, block in zip(x.tensors, blocks, strict=True)
    ]
    workload = f"columns {sizes.patch} of {images.images(x)} batch {program.batch}"
    vectors.add_step(program, workload, blocks)
    return Pixels(None, stride), tensors


def _groups(
    program: Program,
    name: str,
    sizes: Windows,
    weight: Posterior,
    x: Activation,
    pixels: Pixels,
    tensors: list[te.Tensor],
) -> list[_Group]:
    """Sums of all windows: each entry's mean, S, γ of each pair, T, common pixels by offset.

    Those of a group run side by side.
    """
    m, *var = tensors
    offsets = sizes.offsets
    blocks = [f"{name}_square", *[f"{name}_apart{k}" for k in range(len(offsets))]]
    square, *apart = [
        pixels.products(block, m, d) for block, d in zip(blocks, [None, *offsets], strict=True)
    ]
    workload = f"products at {offsets} of {x.layout} batch {program.batch}"
    vectors.add_step(program, workload, blocks)

    entries = sizes.entries
    of_mean = [(m, place, 0) for place in entries]
    of_squares = [(square, place, 0) for place in entries]
    of_squares += [
        (apart[offsets.index(d)], (entries[i][0], min(entries[i][1], entries[j][1])), 0)
        for i, j, d in sizes.pairs
    ]
    groups: list[_Group] = [([weight.mean], of_mean), ([weight.var], of_squares)]
    if var:
        squares = weight.mean**2 + weight.var
        groups.append(([squares], [(var[0], place, 0) for place in entries]))
        for _, pairs in groupby(sizes.common, key=_rows):
            common = list(pairs)
            kernels, parts = _of_common(common, entries, weight.mean, var[0])
            if _rows(common[0]):
                groups.append((kernels, parts))
            else:
                groups[-1][0].extend(kernels)
                groups[-1][1].extend([(v, place, 1 + k) for v, place, k in parts])
    return groups


def _rows(pair: tuple[int, int, Pair]) -> int:
    """Rows between the two entries of a pair."""
    return pair[2][0]


def _of_common(
    pairs: list[tuple[int, int, Pair]], entries: list[Pair], mean: np.ndarray, var: te.Tensor
) -> _Group:
    """Sums over the pixels in common, of pairs as many rows apart; no rows of zeros above them."""
    offsets = list(dict.fromkeys(d for *_, d in pairs))
    rows = _rows(pairs[0])
    kernels = [times_shifted(mean, d)[:, :, rows:] for d in offsets]
    return kernels, [
        (var, (entries[i][0] + rows, entries[i][1]), offsets.index(d)) for i, _, d in pairs
    ]


def _add_up(
    program: Program,
    name: str,
    group: _Group,
    windows: Windows,
    pixels: Pixels,
    layout: Images,
    block: int,
) -> list[te.Tensor]:
    """Sums of one group, by kernels (O, C/g, K, L)."""
    kernels, parts = group
    _, channels, height, width = kernels[0].shape
    w = program.weight(f"{name}_weight", conv2d.by_blocks(kernels, block, 1))
    extents = zip((channels, height, width), "cab", strict=True)
    axes = [te.reduce_axis((0, n), name=axis) for n, axis in extents]
    c, down, right = axes

    def total(i, *index):
        o, y, x = layout.place(*index)
        first = o // block * channels if windows.conv.groups > 1 else 0
        terms = [
            pixels.read(tensor, i, first + c, (y, x), (place[0] + down, place[1] + right))
            * w[o // block, c, down, k, right, 0, o % block]
            for tensor, place, k in parts
        ]
        return joint_sum(terms, axes)

    shape = layout.tensor_shape(program.batch)
    sums = listed(te.compute(shape, total, name=f"{name}_sums"))
    several = len(parts) > 1

    def copied(*at):  # the sums stay in registers up to here
        return tuple([part(*at) for part in sums]) if several else sums[0](*at)

    result = listed(te.compute(shape, copied, name=name))
    tile = tiles.of_images(layout, windows.conv.groups, len(parts), program.target)
    workload = (
        f"sums {len(parts)} by {len(kernels)} of {channels} channels by {height}x{width} to "
        f"{'x'.join(map(str, layout.shape))} {images.in_words(*windows.patch)} "
        f"groups {windows.conv.groups} batch {program.batch} to {type(layout).__name__}"
    )
    space = conv2d.space(layout, windows.conv.groups)
    out = f"{name}_v0" if several else name
    transform = partial(schedule, name=name, out=out, lanes=program.target.lanes)
    program.steps.append(Step(workload, tile, space, transform))
    return result


def schedule(
    sch: tvm.s_tir.Schedule, decisions: Mapping[str, int], name: str, out: str, lanes: int
) -> None:
    """Say how sums are computed: in tiles, as those of `kernels.layers.conv2d.schedule`."""
    conv2d.schedule_tiles(sch, decisions, name, out, lanes, rows_first=True)
