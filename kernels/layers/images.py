"""Images in memory: two layouts, and copies from one to another.

`Planes` keeps a channel's pixels together, so that a vector holds neighbours in a row; `Packs`
keeps a pixel's channels together, so that a vector holds as many channels. Which one suits a
convolution, it decides itself (`kernels.layers.conv2d`); whatever follows takes either.

A layout tells channel, row and column of a place in memory (`place`), and the place of a channel,
row and column (`index`), in TVM expressions or in numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import tvm
from tvm import te, tirx

from kernels.program.program import Activation, Program, Step
from refbnn.errors import InputError
from refbnn.layers.images.windows import Pair


@dataclass(frozen=True)
class Planes:
    """Layout of images as planes: (batch, channels, height, width rounded up to whole vectors).

    What the columns beyond the width hold is never used.

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

    def of_size(self, height: int, width: int) -> Planes:
        """The layout of images of another size."""
        return Planes(self.channels, height, width, self.lanes)

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
        """Where `by_channel` has the number for an index."""
        return (channel,)


@dataclass(frozen=True)
class Packs:
    """Layout of images as packs of channels: (batch, packs, height, width, lanes).

    Channels are padded to whole packs; those added hold finite numbers.

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

    @property
    def packs(self) -> int:
        """Packs of channels."""
        return -(-self.channels // self.lanes)

    def tensor_shape(self, batch: int) -> tuple[int, ...]:
        """(batch, packs, height, width, lanes)."""
        return batch, self.packs, self.height, self.width, self.lanes

    def view(self, memory: np.ndarray) -> np.ndarray:
        """Channels in two axes, (batch, packs, lanes, height, width); see `unpacked` for one."""
        return np.moveaxis(memory, -1, 2)

    def of_size(self, height: int, width: int) -> Packs:
        """The layout of images of another size."""
        return Packs(self.channels, height, width, self.lanes)

    def place(self, pack, row, column, lane) -> tuple:
        """(channel, row, column) of an index."""
        return pack * self.lanes + lane, row, column

    def index(self, channel, row, column) -> tuple:
        """Index of a channel, row and column."""
        return channel // self.lanes, row, column, channel % self.lanes

    def by_pack(self, images: np.ndarray) -> np.ndarray:
        """Images (batch, channels, height, width) as `view` has them, zeros in those added."""
        padded = np.zeros((len(images), self.packs * self.lanes, self.height, self.width))
        padded[:, : self.channels] = images
        return padded.reshape(len(images), self.packs, self.lanes, self.height, self.width)

    def by_channel(self, values: np.ndarray) -> np.ndarray:
        """Lay one number a channel out for `channel_index`, zeros in the channels added."""
        rows = np.zeros(self.packs * self.lanes)
        rows[: self.channels] = values
        return rows.reshape(self.packs, self.lanes)

    def channel_index(self, pack, row, column, lane) -> tuple:
        """Where `by_channel` has the number for an index."""
        return pack, lane


Images = Planes | Packs


def images(x: Activation) -> Images:
    """The layout of images.

    Raises
    ------
    InputError
        If the activation is none of images.
    """
    if not isinstance(x.layout, Planes | Packs):
        raise InputError(f"activation of shape {x.layout.shape}; expected images")
    return x.layout


def copied(
    program: Program,
    name: str,
    x: Activation,
    layout: Images,
    offset: Pair = (0, 0),
    outside: float = 0.0,
) -> Activation:
    """Copy images into a layout of another kind or size, amid zeros.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks.
    x : Activation of images
    layout : Planes or Packs
        Of the same channels, and not smaller.
    offset : (rows, columns)
        Where the copy begins.
    outside : float
        Mean around it, instead of 0.
    """
    source = images(x)
    around = []
    copies = []
    for tensor, part, fill in zip(x.tensors, ("mean", "var"), (outside, 0.0), strict=False):
        block = f"{name}_{part}"
        copies.append(compute(tensor, source, layout, offset, fill, block))
        around += [block] if _tests(source, layout, offset) else []
    program.steps.append(
        Step(
            workload=f"copy of {source} to {layout} at {offset} batch {program.batch}",
            by_hand={},
            space={},
            transform=partial(schedule, blocks=around),
        )
    )
    return Activation(layout, copies[0], copies[1] if x.var is not None else None)


def _tests(source: Images, layout: Images, offset: Pair) -> list[Callable]:
    """What tells whether a place (channel, row, column) of `layout` is one of the image."""
    channels, height, width = source.shape
    columns = layout.pitch if isinstance(layout, Planes) else layout.width
    top, left = offset
    tests: list[Callable] = []
    if layout.height > height:
        tests.append(lambda channel, row, column: tirx.all(row >= top, row < top + height))
    if columns > width:
        tests.append(lambda channel, row, column: tirx.all(column >= left, column < left + width))
    if isinstance(layout, Packs) and isinstance(source, Planes) and channels % layout.lanes:
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
    """Say how it is computed: all of it filled first, then the image written without tests."""
    for name in blocks:
        block = sch.get_sblock(name)
        _, first, *_ = sch.get_loops(block)
        sch.decompose_padding(block, first)


def in_words(kernel: Pair, stride: Pair, padding: Pair) -> str:
    """Windows, for the name of a workload."""
    return (
        f"by {kernel[0]}x{kernel[1]} stride {stride[0]}x{stride[1]} "
        f"padding {padding[0]}x{padding[1]}"
    )


def unpacked(program: Program, name: str, x: Activation) -> Activation:
    """Images in `Planes`, in which whoever called the kernel sees them; copied if need be."""
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
    """Images with all that windows read, copied if need be: rows and columns around them.

    Parameters
    ----------
    program, name : as in `copied`
    x : Activation of images
    layout : Planes or Packs
        Of what is made of the windows. Vectors of pixels reach past the last column, and what they
        find there must be in memory; they cannot be read of packs.
    kernel, stride, padding : (int, int)
    outside : float
        Mean of what is added.
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


def windows(name: str, x: Activation, layout: Images, kernel: Pair, stride: Pair) -> list[Callable]:
    """Entries of all windows: of their mean, and of their variance where there is one.

    Parameters
    ----------
    name : str
        Starts the names of the blocks.
    x : Activation of images
        With all that windows read, see `around`.
    layout : Planes or Packs
        Of what is made of the windows, of the same kind.
    kernel, stride : (int, int)

    Returns
    -------
    list of callable (a, b, i, *index) -> expression
        Entry in row a and column b of the window that `index` of `layout` stands for, of example i.
    """
    source = images(x)

    def entries(tensor: te.Tensor, block: str) -> Callable:
        if isinstance(source, Packs) or stride[1] == 1:

            def there(a, b, i, *index):
                channel, row, column = layout.place(*index)
                at = stride[0] * row + a, stride[1] * column + b
                return tensor[(i, *source.index(channel, *at))]

            return there

        # Of planes, column b of all windows is put together first: vectors are read of neighbours
        # only. LLVM makes shuffles of these copies.
        batch, channels, height, _ = tensor.shape
        columns = te.compute(
            (batch, kernel[1], channels, height, layout.tensor_shape(1)[-1]),
            lambda i, b, channel, row, column: tensor[i, channel, row, stride[1] * column + b],
            name=block,
        )
        return lambda a, b, i, channel, row, column: columns[
            i, b, channel, stride[0] * row + a, column
        ]

    return [
        entries(tensor, f"{name}_columns_{part}")
        for tensor, part in zip(x.tensors, ("mean", "var"), strict=False)
    ]


def one_by_one(program: Program, x: Activation) -> None:
    """Let all operators up to x work on one image before the next.

    What they hand on then stays in the second cache, 200 kB in a LeNet-5: a batch of 64 takes
    three quarters of the time.

    Parameters
    ----------
    program : Program
        Its steps so far, of operators whose outermost loops are those over examples.
    x : Activation
    """
    names = {tensor.op.name for tensor in x.tensors}
    program.steps.append(
        Step(
            workload=f"images one by one batch {program.batch}",
            by_hand={},
            space={},
            transform=partial(merge, last=names),
        )
    )


def merge(sch: tvm.s_tir.Schedule, decisions, last: set[str]) -> None:
    """Merge the loops over the images of all blocks up to those named."""
    loops: list = []
    for block in sch.get_child_blocks(sch.get_sblock("root")):
        loop, *_ = sch.get_loops(block)
        if not any(sch.get(loop).same_as(sch.get(other)) for other in loops):
            loops.append(loop)
        block_name = sch.get(block).name_hint
        last = last - {block_name, block_name.removesuffix("_v1")}  # of moments the variance's
        if not last:
            break
    if len(loops) > 1:
        sch.merge(*loops)
