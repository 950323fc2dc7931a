"""Images in memory: two layouts, copies from one to the other, and windows.

`Planes` keeps a channel's pixels together, so that a vector holds neighbours in a row; `Packs`
keeps a pixel's channels together, so that a vector holds as many channels. A convolution chooses
the layout of its output (`kernels.layers.conv2d`); all other layers take either.

A layout tells the channel, row and column of an index in memory (`place`), and the index of a
channel, row and column (`index`), in TVM expressions or in numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, Self

import numpy as np
import tvm
from tvm import te, tirx

from kernels.program.program import Activation, Layout, Program, Step
from refbnn.errors import InputError
from refbnn.layers import AvgPool2d, MaxPool2d
from refbnn.layers.images.windows import Pair


@dataclass(frozen=True)
class _Sizes:
    """Sizes that both layouts share.

    Parameters
    ----------
    channels, height, width : int
    lanes : int
        float32 numbers in one vector.
    """

    channels: int
    height: int
    width: int
    lanes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.channels, self.height, self.width

    def of_size(self, height: int, width: int) -> Self:
        """The layout of images of another size."""
        return replace(self, height=height, width=width)


@dataclass(frozen=True)
class Planes(_Sizes):
    """Layout of images as planes: (batch, channels, height, width rounded up to whole vectors).

    The numbers in the columns beyond the width reach no result. They are computed with, whole
    vectors at a time, and of the size of others.
    """

    @property
    def pitch(self) -> int:
        """Columns in memory."""
        return -(-self.width // self.lanes) * self.lanes

    def tensor_shape(self, batch: int) -> tuple[int, ...]:
        """(batch, channels, height, pitch)."""
        return batch, self.channels, self.height, self.pitch

    def view(self, memory: np.ndarray) -> np.ndarray:
        """The columns within the width."""
        return memory[..., : self.width]

    def place(self, channel, row, column) -> tuple:
        """(channel, row, column) of an index."""
        return channel, row, column

    def index(self, channel, row, column) -> tuple:
        """Index of a channel, row and column."""
        return channel, row, column

    def by_channel(self, values: np.ndarray) -> np.ndarray:
        """Lay one number a channel out for `channel_index`."""
        return values

    def channel_index(self, channel, row, column) -> tuple:
        """Index in `by_channel` for an index of the image."""
        return (channel,)


@dataclass(frozen=True)
class Packs(_Sizes):
    """Layout of images as packs of channels: (batch, packs, height, width, lanes).

    Channels are padded to whole packs; the added channels hold finite numbers.
    """

    @property
    def packs(self) -> int:
        """Packs of channels."""
        return -(-self.channels // self.lanes)

    def tensor_shape(self, batch: int) -> tuple[int, ...]:
        """(batch, packs, height, width, lanes)."""
        return batch, self.packs, self.height, self.width, self.lanes

    def view(self, memory: np.ndarray) -> np.ndarray:
        """Channels in two axes, (batch, packs, lanes, height, width); `unpacked` joins them."""
        return np.moveaxis(memory, -1, 2)

    def place(self, pack, row, column, lane) -> tuple:
        """(channel, row, column) of an index."""
        return pack * self.lanes + lane, row, column

    def index(self, channel, row, column) -> tuple:
        """Index of a channel, row and column."""
        return channel // self.lanes, row, column, channel % self.lanes

    def by_pack(self, images: np.ndarray) -> np.ndarray:
        """Images (batch, channels, height, width) in the axes of `view`, with zeros added."""
        padded = np.zeros((len(images), self.packs * self.lanes, self.height, self.width))
        padded[:, : self.channels] = images
        return padded.reshape(len(images), self.packs, self.lanes, self.height, self.width)

    def by_channel(self, values: np.ndarray) -> np.ndarray:
        """Lay one number a channel out for `channel_index`, zeros in added channels."""
        return np.pad(values, (0, -self.channels % self.lanes)).reshape(self.packs, self.lanes)

    def channel_index(self, pack, row, column, lane) -> tuple:
        """Index in `by_channel` for an index of the image."""
        return pack, lane


Images = Planes | Packs


class _HasLayout(Protocol):
    """An activation, or a Jacobian by one."""

    @property
    def layout(self) -> Layout: ...


def images(x: _HasLayout) -> Images:
    """The layout of an activation of images.

    Raises
    ------
    InputError
        If the activation is not made of images.
    """
    if not isinstance(x.layout, Planes | Packs):
        raise InputError(f"an activation has shape {x.layout.shape}; expected images")
    return x.layout


def copied(
    program: Program,
    name: str,
    x: Activation,
    layout: Images,
    offset: Pair = (0, 0),
    outside: float = 0.0,
) -> Activation:
    """Copy images into a layout of another kind or size, in a frame of zeros.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks.
    x : Activation of images
    layout : Planes or Packs
        Layout of the copy: the same channels, and not smaller.
    offset : (rows, columns)
        Place of the image's first pixel in the copy.
    outside : float
        Mean in the frame, instead of 0.
    """
    source = images(x)
    blocks = [f"{name}_{part}" for part in ("mean", "var")][: len(x.tensors)]
    mean, *var = (
        compute(tensor, source, layout, offset, fill, block)
        for tensor, fill, block in zip(x.tensors, (outside, 0.0), blocks, strict=False)
    )
    # A condition on pack and lane together cannot be decomposed: it stays in the loop.
    framed = blocks if _tests(source, layout, offset) and not _ragged(source, layout) else []
    workload = f"copy of {source} to {layout} at {offset} batch {program.batch}"
    program.steps.append(Step(workload, {}, {}, partial(schedule, blocks=framed)))
    return Activation(layout, mean, var[0] if var else None)


def _ragged(source: Images, layout: Images) -> bool:
    """Whether planes become packs of which the last has lanes without a channel."""
    of_planes = isinstance(layout, Packs) and isinstance(source, Planes)
    return of_planes and source.channels % layout.lanes != 0


def _tests(source: Images, layout: Images, offset: Pair) -> list[Callable]:
    """Conditions on a place (channel, row, column) of `layout`; all hold inside the image."""
    channels, height, width = source.shape
    columns = layout.pitch if isinstance(layout, Planes) else layout.width
    top, left = offset
    tests: list[Callable] = []
    if layout.height > height:
        tests.append(lambda channel, row, column: tirx.all(row >= top, row < top + height))
    if columns > width:
        tests.append(lambda channel, row, column: tirx.all(column >= left, column < left + width))
    if _ragged(source, layout):
        tests.append(lambda channel, row, column: channel < channels)
    return tests


def compute(
    tensor: te.Tensor, source: Images, layout: Images, offset: Pair, fill: float, name: str
) -> te.Tensor:
    """Say what is computed: the image from `offset` on, elsewhere `fill`."""
    top, left = offset
    tests = _tests(source, layout, offset)

    def element(i, *index):
        channel, row, column = layout.place(*index)
        there = tensor[(i, *source.index(channel, row - top, column - left))]
        if not tests:
            return there
        inside = tirx.all(*[test(channel, row, column) for test in tests])
        return tirx.if_then_else(inside, there, tirx.const(fill, "float32"))

    return te.compute(layout.tensor_shape(int(tensor.shape[0])), element, name=name)


def schedule(sch: tvm.s_tir.Schedule, decisions, blocks: list[str]) -> None:
    """Say how it is computed: fill all of it first, then write the image without tests."""
    for name in blocks:
        block = sch.get_sblock(name)
        _, first, *_ = sch.get_loops(block)
        sch.decompose_padding(block, first)


def in_words(kernel: Pair, stride: Pair, padding: Pair) -> str:
    """Describe windows for the name of a workload."""
    words = zip(("by", "stride", "padding"), (kernel, stride, padding), strict=True)
    return " ".join(f"{word} {rows}x{columns}" for word, (rows, columns) in words)


def unpacked(program: Program, name: str, x: Activation) -> Activation:
    """Images in `Planes`, the layout that callers of a kernel see; copied if need be."""
    source = images(x)
    if isinstance(source, Planes):
        return x
    return copied(program, name, x, Planes(*source.shape, source.lanes))


def around(
    program: Program,
    name: str,
    x: Activation,
    layout: Images,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    outside: float = 0.0,
) -> Activation:
    """Add all rows and columns around images that windows read, in a copy if need be.

    Parameters
    ----------
    program, name, x, outside
        As in `copied`.
    layout : Planes or Packs
        Layout of the result of the windows. Vectors of pixels reach past the last column, so there
        must be memory; they cannot be read from packs.
    kernel, stride, padding : (int, int)
    """
    source = images(x)
    channels, height, width = source.shape
    if isinstance(layout, Planes):
        kind: type[Images] = Planes
        windows = layout.pitch
    else:
        kind, windows = type(source), layout.width
    (p, q), reach = padding, stride[1] * (windows - 1) + kernel[1]
    there = source.pitch if isinstance(source, Planes) else source.width
    if isinstance(source, kind) and not p and not q and reach <= there:
        return x
    size = height + 2 * p, max(width + 2 * q, reach)
    return copied(program, name, x, kind(channels, *size, source.lanes), padding, outside)


def windows(
    program: Program, name: str, layer: MaxPool2d | AvgPool2d, x: Activation, outside: float = 0.0
) -> tuple[Images, list[Callable], str]:
    """Read the entries of all windows of a pooling layer.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks.
    layer : MaxPool2d or AvgPool2d
    x : Activation of images
    outside : float
        Mean of entries outside the image, in windows that reach into the image.

    Returns
    -------
    layout : Planes or Packs
        Layout of the layer's output.
    entries : list of callable (a, b, i, *index) -> expression
        Entries of the mean, and of the variance where there is one: row a and column b of the
        window of example i at an `index` of `layout`.
    words : str
        The windows in words, for the name of a workload.
    """
    source, (kernel, stride, padding) = images(x), layer.sizes
    _, *size = layer.output_shape(source.shape)
    layout = source.of_size(*size)
    frame = outside if any(padding) else 0.0
    x = around(program, f"{name}_around", x, layout, kernel, stride, padding, frame)
    entries = [
        _entries(f"{name}_columns_{part}", tensor, images(x), layout, kernel, stride, framed)
        for tensor, part, framed in zip(
            x.tensors, ("mean", "var"), (frame != 0.0, False), strict=False
        )
    ]
    words = f"{'x'.join(map(str, source.shape))} {in_words(kernel, stride, padding)}"
    return layout, entries, f"{words} batch {program.batch}"


def _entries(
    name: str,
    tensor: te.Tensor,
    source: Images,
    layout: Images,
    kernel: Pair,
    stride: Pair,
    framed: bool,
) -> Callable:
    """Entries of one tensor; other parameters and result as in `windows`.

    With `framed`, numbers other than 0 surround the image. Windows of columns beyond the width,
    which may hold nothing else, then get entries 0: later layers compute with those columns.
    """

    def within(column, there):
        if not (framed and isinstance(layout, Planes) and layout.pitch > layout.width):
            return there
        return tirx.Select(column < layout.width, there, tirx.const(0.0, "float32"))

    if isinstance(source, Packs) or stride[1] == 1:

        def entry(a, b, i, *index):
            channel, row, column = layout.place(*index)
            at = stride[0] * row + a, stride[1] * column + b
            return within(column, tensor[(i, *source.index(channel, *at))])

        return entry

    # In planes, column b of all windows is put together first, because vectors are read from
    # neighbours only. LLVM makes shuffles of these copies.
    batch, channels, height, _ = tensor.shape
    columns = te.compute(
        (batch, kernel[1], channels, height, layout.tensor_shape(1)[-1]),
        lambda i, b, channel, row, column: within(
            column, tensor[i, channel, row, stride[1] * column + b]
        ),
        name=name,
    )
    return lambda a, b, i, channel, row, column: columns[i, b, channel, stride[0] * row + a, column]


def one_by_one(program: Program, x: Activation) -> None:
    """Let all operators up to x work on one image before the next.

    Their results then stay in the second cache, 200 kB in a LeNet-5: a batch of 64 takes three
    quarters of the time.

    Parameters
    ----------
    program : Program
        Its steps so far must be of operators whose outermost loops run over examples.
    x : Activation
    """
    names = {tensor.op.name for tensor in x.tensors}
    transform = partial(_merge_up_to, last=names, own=_operators(x))
    program.steps.append(Step(f"images one by one batch {program.batch}", {}, {}, transform))


def _operators(x: Activation) -> set[str]:
    """Names of all operations that x is computed by."""
    names: set[str] = set()
    operations = [tensor.op for tensor in x.tensors]
    while operations:
        operation = operations.pop()
        if operation.name not in names:
            names.add(operation.name)
            operations += [tensor.op for tensor in operation.input_tensors]
    return names


def _merge_up_to(sch: tvm.s_tir.Schedule, decisions, last: set[str], own: set[str]) -> None:
    """Merge the loops over images of all blocks up to those named.

    Blocks of other operations between them stay as they are: where each moment has an operator of
    its own, all operators of the mean come first. Such a block parts those before from those after.
    """
    runs: list[list] = [[]]
    blocks = sch.get_child_blocks(sch.get_sblock("root"))
    there = {sch.get(block).name_hint.removesuffix("_v1") for block in blocks}
    last = last & there  # the variance of outputs may not be wanted
    for block in blocks:
        name = sch.get(block).name_hint
        # A block has the name of its operation, and an ending: of its moment, or of its part.
        if name in own or any(name.startswith(f"{operation}_") for operation in own):
            runs[-1].append(block)
        else:
            runs.append([])
        last = last - {name, name.removesuffix("_v1")}  # mean and variance: the variance's block
        if not last:
            break
    for run in runs:
        merge(sch, run)


def merge(sch: tvm.s_tir.Schedule, blocks: Iterable, extent: int | None = None) -> None:
    """Merge the outermost loops of blocks; `extent`, where given, splits longer ones first."""
    loops: list = []
    for block in blocks:
        loop, *_ = sch.get_loops(block)
        if any(sch.get(loop).same_as(sch.get(other)) for other in loops):
            continue
        if extent is not None and int(sch.get(loop).extent) > extent:
            loop, _ = sch.split(loop, [extent, None])
        loops.append(loop)
    if len(loops) > 1:
        sch.merge(*loops)
