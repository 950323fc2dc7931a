"""Layers of images, backward: what is uncorrelated with their inputs, and the Jacobian by these.

Formulas
--------
Those of `refbnn.layers.linearisation` for J (K rows for each example) by the outputs of a layer:

    flatten             J as images
    batch normalisation J ← J a
    average pooling     J ← J/n at every entry of a window
    max pooling         C += J diag(r) Jᵀ;  J ← J π at the entries, with π and r of
                        `kernels.maximum.correlated`
    convolution         C += Σ_w σ_w² G_kw G_lw + Σ σ_b² (ΣJ_k)(ΣJ_l) + J diag(σ² ∗ v) Jᵀ,
                        G_kw = Σ_p J_kp m_{sp+w};  J ← Σ_w J µ_w at sp + w

Max pooling that is one operator with its convolution goes back as one, too: only the windows have
rows of J. With m̄_w = Σ_e π_e m_{e+w}, the average of a window's patches,

    G_kw = Σ_windows J_k m̄_w,      own variance r + Σ_e π_e² (σ² ∗ v)_e,

a quarter of the products for windows of four; m̄ is formed once for all K rows.

Rows of J lie in memory as their images do, zeros in the padding: symmetric products sum all of it.
Vectors hold channels in `Packs`; in `Planes` they hold neighbours in a row, whose sums G are added
up at the end. J by the inputs is a convolution of J, spread out to the stride in a frame of zeros,
with the kernels turned round (`kernels.layers.conv2d`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import tvm
from tvm import te, tirx

from kernels.arithmetic.polynomials import f32
from kernels.layers import conv2d, images
from kernels.layers.activations import elementwise
from kernels.layers.images import Images, Packs, Planes
from kernels.layers.linearised.backward import Backward, Jacobian
from kernels.layers.shared_weights import Pooled, Windows, pixels_of
from kernels.program import vectors
from kernels.program.program import Activation, Program, Step
from refbnn.layers import AvgPool2d, BatchNorm2d, Conv2d, MaxPool2d
from refbnn.layers.images.windows import Pair
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
    weights: Sequence[Callable],
) -> Jacobian:
    """Pooling whose results are Σ weight · entry, and a rest of variance `own`.

    Parameters
    ----------
    weights : list of callable (example, *index) -> expression
        Weight of each entry in the window at an index of the layer's output.
    """
    J = backward.through(name, J, own=own)
    backward.settle(name, J)
    spread = _Spread(images.images(J), layer.sizes, (1, 1), (0, 0), images.images(x))
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
        _by_vectors(program, f"own variances of windows {shape}", [own.op.name])
    J = backward.through(name, J, own=own)
    backward.settle(name, J)
    return _of_windows(backward, J, name, pooled, x)


def _of_windows(
    backward: Backward, J: Jacobian, name: str, pooled: Pooled, x: Activation
) -> Jacobian | None:
    """Noise of the weights, and J by the inputs, for J by the outputs or by their windows."""
    windows, layout = pooled.windows, images.images(J)
    conv, P = windows.conv, backward.scaled(name, J)
    _noise(backward, name, P, layout, pooled)
    if x.var is None:
        return None
    (kernel, steps, padding), source = conv.sizes, images.images(x)
    n_in, height, width = source.shape
    lanes = backward.program.target.lanes
    chosen = conv2d.way(n_in, width, 1, conv.groups, lanes)
    kind = Packs if chosen == "channels" else Planes
    framed = kind(conv.out_channels, height + kernel[0] - 1, width + kernel[1] - 1, lanes)
    before = padding[0] - kernel[0] + 1, padding[1] - kernel[1] + 1
    spread = _Spread(layout, windows.pool.sizes, steps, before, framed)
    weights: list[Callable] = [partial(_element, tensor) for tensor in pooled.entries]
    weights = weights or [_one]
    J_y = spread.compute(backward, name, P, weights)
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
    _by_vectors(backward.program, f"within {width} {[int(n) for n in tensor.shape]}", [name])
    return result


def _element(tensor: te.Tensor, *index):
    return tensor(*index)


def _one(*_):
    return f32(1.0)


def _fixed(mean: np.ndarray) -> Posterior:
    return Posterior(mean, np.zeros(mean.shape))


def _turned(mean: np.ndarray, groups: int) -> np.ndarray:
    """Kernels (O, C/g, K, L) turned round, from outputs to inputs: (C, O/g, K, L)."""
    n_out, per_group, *kernel = mean.shape
    by_group = mean.reshape(groups, n_out // groups, per_group, *kernel)
    turned = by_group.swapaxes(1, 2)[..., ::-1, ::-1]
    return turned.reshape(groups * per_group, n_out // groups, *kernel)


@dataclass(frozen=True, eq=False)
class _Spread:
    """Rows of J by the results of windows, brought to their entries.

    Parameters
    ----------
    source : Planes or Packs
        Layout of the results.
    windows : kernel, stride and padding
    steps : (int, int)
        Rows and columns between entries that are neighbours, in the result.
    before : (int, int)
        Rows and columns of entries that the result leaves out before its first one; negative for a
        frame of zeros. A kernel of 3 and padding of 1 take a frame of 1 all around, (-1, -1); to a
        kernel of 1 and padding of 1, the outermost entries are of the padding alone, (1, 1).
    layout : Planes or Packs
        Layout of the result.
    """

    source: Images
    windows: tuple[Pair, Pair, Pair]
    steps: Pair
    before: Pair
    layout: Images

    def compute(
        self, backward: Backward, name: str, P: te.Tensor, weights: Sequence[Callable]
    ) -> te.Tensor:
        """Σ weight · P over the windows that hold an entry; rows of P are those of J."""
        k, program = backward.n_outputs, backward.program
        shape = (int(P.shape[0]), *self.layout.tensor_shape(program.batch)[1:])
        tiled = self.windows[0] == self.windows[1] and self.windows[2] == (0, 0)
        formula = self._of_one if tiled else self._of_several
        result = te.compute(shape, partial(formula, P, weights, k), name=f"{name}_spread")
        # In place, TVM would fill P itself: it takes for in place what reads where it writes.
        moved = any(self.before) or self.windows[0] != (1, 1)
        memory = self.layout.tensor_shape(1)[2:4]
        entries = [k * n for k, n in zip(self.windows[0], self.source.shape[1:], strict=True)]
        beyond = any(
            first < 0 or first + m > n
            for first, m, n in zip(self.before, memory, entries, strict=True)
        )
        framed = tiled and self.steps == (1, 1) and moved and beyond
        block = f"{name}_spread"
        transform = partial(
            _schedule_spread, block=block, k=k, window=self.windows[0], framed=framed
        )
        workload = f"spread {self} rows {shape[0]}"
        program.steps.append(Step(workload, {}, {}, transform))
        return result

    def _of_one(self, P, weights, k, r, *index):
        """For windows side by side: each entry is in one of them."""
        channel, *at = self.layout.place(*index)
        places, tests = [], []
        for y, before, step, size, n in self._axes(at):
            if step == 1:
                tests += [y >= -before, y < size * n - before]
                place = y + before
            else:
                there = y + before
                tests += [there >= 0, there < step * size * n, tirx.floormod(there, step) == 0]
                place = tirx.floordiv(there, step)
            places.append((tirx.floordiv(place, size), tirx.floormod(place, size)))
        tests += self._channels(channel)
        (row, a), (column, b) = places
        value = self._term(r, channel, (row, column), 0, P, weights, k)
        for e in range(1, len(weights)):
            of_entry = self._term(r, channel, (row, column), e, P, weights, k)
            value = tirx.if_then_else(a * self.windows[0][1] + b == e, of_entry, value)
        return tirx.if_then_else(tirx.all(*tests), value, f32(0.0))

    def _of_several(self, P, weights, k, r, *index):
        """For windows of any kind: the sum over all places of an entry in a window."""
        channel, *at = self.layout.place(*index)
        (rows, columns), (down, right), (above, left) = self.windows
        total = f32(0.0)
        (y, top, s, _, n), (z, before, t, _, m) = self._axes(at)
        for e, (a, b) in enumerate(np.ndindex(rows, columns)):
            tests, place = [*self._channels(channel), *self._columns(z)], []
            for there, apart, most in (
                (y + top + s * (above - a), s * down, n),
                (z + before + t * (left - b), t * right, m),
            ):
                tests += [there >= 0, there < apart * most, tirx.floormod(there, apart) == 0]
                place.append(tirx.floordiv(there, apart))
            term = self._term(r, channel, place, e, P, weights, k)
            total = total + tirx.if_then_else(tirx.all(*tests), term, f32(0.0))
        return total

    def _axes(self, at):
        """Row and column: index, entries before, step, size of a window, number of windows."""
        return zip(at, self.before, self.steps, self.windows[0], self.source.shape[1:], strict=True)

    def _channels(self, channel) -> list:
        """Test of the channels that are only padding, where the layouts differ in them."""
        padded = isinstance(self.layout, Packs) and isinstance(self.source, Planes)
        return [channel < self.source.channels] if padded else []

    def _columns(self, column) -> list:
        """Test of the columns that are only padding of planes, where a window may reach them."""
        padded = isinstance(self.layout, Planes) and self.layout.pitch > self.layout.width
        return [column < self.layout.width] if padded and self.windows[2][1] else []

    def _term(self, r, channel, place, e, P, weights, k):
        index = self.source.index(channel, *place)
        return P[(r, *index)] * weights[e](tirx.floordiv(r, k), *index)


def _schedule_spread(
    sch: tvm.s_tir.Schedule, decisions, block: str, k: int, window: Pair, framed: bool
) -> None:
    """Say how rows are spread: one decision a paragraph."""
    # With a frame, zeros first, then the rest without tests.
    spread = sch.get_sblock(block)
    r, first, row, column, *lane = sch.get_loops(spread)
    if framed:
        sch.decompose_padding(spread, first)

        # Window by window, its entries unrolled: the place in a window is then known.
        _, _, row, column, *lane = sch.get_loops(spread)
        for loop, size in ((row, window[0]), (column, window[1])):
            _, entry = sch.split(loop, [None, size])
            sch.unroll(entry)

    # Whole vectors of channels.
    for loop in lane:
        sch.vectorize(loop)

    # Rows of one example after the other: no index is divided.
    sch.split(r, [None, k])


def _noise(backward: Backward, name: str, P: te.Tensor, layout: Images, pooled: Pooled) -> None:
    """Add Σ σ_w² G_kw G_lw and Σ σ_b² (ΣJ_k)(ΣJ_l) to the covariance."""
    G = _gradients(backward, f"{name}_gradient", P, layout, pooled)
    sums = _totals(backward, f"{name}_total", P, layout)
    for what, rows, posterior in (("weights", G, pooled.weight), ("biases", sums, pooled.bias)):
        var = backward.program.weight(f"{name}_{what}_var", _laid_out(posterior.var, layout))
        k, shape = backward.n_outputs, [int(n) for n in rows.shape[1:]]

        formula = partial(_scaled, rows, var, k)
        A = te.compute((backward.program.batch, k, *shape), formula, name=f"{name}_{what}_scaled")
        _by_vectors(backward.program, f"scaled {shape} rows {k}", [A.op.name])
        backward.add(f"{name}_{what}", A, rows)


def _scaled(rows: te.Tensor, var: te.Tensor, k: int, b, r, *i):
    return rows(b * k + r, *i) * var(*i)


def _laid_out(values: np.ndarray, layout: Images) -> np.ndarray:
    """Weights or biases by output channel as G has them: channels in lanes, or the last axis."""
    lanes = layout.lanes
    if isinstance(layout, Packs):
        padded = np.pad(values, [(0, -len(values) % lanes)] + [(0, 0)] * (values.ndim - 1))
        return np.moveaxis(padded.reshape(-1, lanes, *values.shape[1:]), 1, -1)
    width = values.shape[-1]
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, -width % lanes)])


def _gradients(
    backward: Backward, name: str, P: te.Tensor, layout: Images, pooled: Pooled
) -> te.Tensor:
    """G, (B·K, packs, C/g, K, L, lanes) of `Packs`, (B·K, O, C/g, K, L padded) of `Planes`."""
    conv, program, k = pooled.windows.conv, backward.program, backward.n_outputs
    kernel, channels, lanes = conv.sizes[0], conv.in_channels // conv.groups, layout.lanes
    of_group = conv.out_channels // conv.groups
    outer, rows, columns = _vectors(layout)
    i, j = te.reduce_axis((0, rows), name="i"), te.reduce_axis((0, columns), name="j")

    def patch(b, q, row, vector, c, a, z, lane):
        index = _index(layout, q, row, vector, lane)
        o, down, right = layout.place(*index)
        first = o // of_group * channels if conv.groups > 1 else 0
        terms = [
            pooled.pixels.read(pooled.mean, b, first + c, (down, right), (y + a, x + z))
            for y, x in pooled.windows.entries
        ]
        if not pooled.entries:
            return terms[0]
        shares = [weight(b, *index) for weight in pooled.entries]
        return sum(
            (w * t for w, t in zip(shares[1:], terms[1:], strict=True)), shares[0] * terms[0]
        )

    average = patch
    if pooled.entries:
        of_pixel = (program.batch, outer, rows, columns, channels, *kernel, lanes)
        average = te.compute(of_pixel, patch, name=f"{name}_average")

    def gradient(r, q, c, a, z, lane):
        g = P[(r, *_index(layout, q, i, j, lane))]
        return te.sum(g * average(tirx.floordiv(r, k), q, i, j, c, a, z, lane), axis=[i, j])

    shape = (int(P.shape[0]), outer, channels, *kernel, lanes)
    G = te.compute(shape, gradient, name=name)
    rows_of_tile = _balanced(k, 10)
    columns_of_tile = _balanced(kernel[1], program.target.registers * 5 // 8 // rows_of_tile)
    decisions = {"rows": rows_of_tile, "columns": columns_of_tile}
    average_name = f"{name}_average" if pooled.entries else ""
    transform = partial(_schedule_gradients, name=name, k=k, average=average_name)
    workload = f"gradients {conv} of {pooled.windows.pool} {layout} rows {shape[0]}"
    program.steps.append(Step(workload, decisions, {}, transform))
    return G if isinstance(layout, Packs) else _over_lanes(backward, name, G)


def _totals(backward: Backward, name: str, P: te.Tensor, layout: Images) -> te.Tensor:
    """Sums of P over all pixels: (B·K, packs, lanes) of `Packs`, (B·K, O padded) of `Planes`."""
    outer, rows, columns = _vectors(layout)
    i, j = te.reduce_axis((0, rows), name="i"), te.reduce_axis((0, columns), name="j")

    def total(r, q, lane):
        return te.sum(P[(r, *_index(layout, q, i, j, lane))], axis=[i, j])

    result = te.compute((int(P.shape[0]), outer, layout.lanes), total, name=name)
    transform = partial(_schedule_totals, name=name)
    workload = f"totals {layout} rows {int(P.shape[0])}"
    backward.program.steps.append(Step(workload, {}, {}, transform))
    return result if isinstance(layout, Packs) else _over_lanes(backward, name, result)


def _vectors(layout: Images) -> tuple[int, int, int]:
    """Packs or channels, rows, and vectors of a row."""
    if isinstance(layout, Packs):
        return layout.packs, layout.height, layout.width
    return layout.channels, layout.height, layout.pitch // layout.lanes


def _index(layout: Images, q, row, vector, lane) -> tuple:
    if isinstance(layout, Packs):
        return q, row, vector, lane
    return q, row, vector * layout.lanes + lane


def _balanced(n: int, most: int) -> int:
    return -(-n // -(-n // max(1, most)))


def _over_lanes(backward: Backward, name: str, by_lane: te.Tensor) -> te.Tensor:
    """Sums over the last axis, halves added to halves; the axis before it in whole vectors."""
    *shape, lanes = [int(n) for n in by_lane.shape]
    blocks, now, width = [], by_lane, lanes
    while width > 1:
        width //= 2
        blocks.append(f"{name}_lanes{width}")
        now = te.compute((*shape, width), partial(_halves, now, width), name=blocks[-1])
    n = shape[-1]
    padded = (*shape[:-1], -(-n // lanes) * lanes)
    result = te.compute(padded, partial(_first, now, n), name=f"{name}_rows")
    transform = partial(_schedule_halves, blocks=blocks[:-1])
    backward.program.steps.append(Step(f"over lanes {shape} of {lanes}", {}, {}, transform))
    return result


def _halves(tensor: te.Tensor, width: int, *i):
    return tensor(*i) + tensor(*i[:-1], i[-1] + width)


def _first(tensor: te.Tensor, n: int, *i):
    return tirx.if_then_else(i[-1] < n, tensor(*i, 0), f32(0.0))


def _schedule_halves(sch: tvm.s_tir.Schedule, decisions, blocks: list[str]) -> None:
    for block in blocks:
        sch.vectorize(sch.get_loops(sch.get_sblock(block))[-1])


def _schedule_totals(sch: tvm.s_tir.Schedule, decisions, name: str) -> None:
    sums = sch.get_sblock(name)
    *_, lane, i, j = sch.get_loops(sums)
    sch.reorder(i, j, lane)
    sch.vectorize(lane)
    sch.decompose_reduction(sums, i)


def _schedule_gradients(
    sch: tvm.s_tir.Schedule, decisions: Mapping[str, int], name: str, k: int, average: str
) -> None:
    """Say how G is computed: one decision a paragraph."""
    # Tiles of rows of J by columns of the kernel in registers: a vector of J serves each column, an
    # averaged vector of patches each row.
    sums = sch.get_sblock(name)
    r, q, c, a, z, lane, i, j = sch.get_loops(sums)
    example, r = sch.split(r, [None, k])
    r_tile, r = sch.split(r, [None, decisions["rows"]])
    z_tile, z = sch.split(z, [None, decisions["columns"]])
    sch.reorder(example, r_tile, q, c, a, z_tile, i, j, r, z, lane)
    for loop in (r, z):
        sch.unroll(loop)
    sch.vectorize(lane)
    for loop in (r_tile, z_tile):
        sch.annotate(loop, "pragma_loop_partition_hint", True)

    # Patches are averaged where they are used.
    if average:
        block = sch.get_sblock(average)
        sch.compute_at(block, j, preserve_unit_loops=True)
        *_, z, lane = sch.get_loops(block)
        sch.unroll(z)
        sch.vectorize(lane)
    sch.decompose_reduction(sums, i)


def _by_vectors(program: Program, workload: str, blocks: list[str]) -> None:
    transform = partial(vectors.schedule, blocks=blocks, lanes=program.target.lanes)
    program.steps.append(Step(workload, {}, {}, transform))


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
