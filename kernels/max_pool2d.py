"""Max pooling: moments of the greatest entry of every window of an image, in float32.

Formulas
--------
Those of `refbnn.layers.max_pool2d`: window (i, j) of kernel (K, L), stride (s, t) and padding (p, q)
holds pixels (s·i + a − p, t·j + b − q), a < K, b < L, and its entries count as independent
Gaussians. Moments of the greatest of them by method:

    "exact"   by quadrature (`kernels.maximum`)
    "tree"    Clark's approximation by pairs: entries 0 and 1, 2 and 3, …, then the greater ones;
              an odd last one is left for the next round
    "chain"   Clark's approximation, one entry after another

each pair a pass of its own over all windows: as one expression, the moments of the first pair would
be written out wherever they occur in the second. Of known inputs, the maximum.

An entry outside the image is not there: it gets the mean −m₀, m₀ the greatest float32, and the
variance 0, against which every other entry wins with certainty.

Range
-----
As of the two functions of `kernels.maximum`: the reference rounds in float64, and nothing else
differs.
"""

from __future__ import annotations

from functools import partial, reduce

import numpy as np
import tvm
from tvm import te, tirx

from kernels import images, maximum, targets
from kernels.images import Entry, Planes
from kernels.kernel import Kernel
from kernels.kernel import build as build_program
from kernels.program import Activation, Program, Step
from refbnn.layers.windows import Pair, output_size

ABSENT = float(np.finfo(np.float32).min)


def add(
    program: Program,
    name: str,
    x: Activation,
    kernel: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    method: str = "exact",
) -> Activation:
    """Apply the layer.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks.
    x : Activation of images
    kernel, stride, padding : (int, int)
    method : {"exact", "tree", "chain"}
    """
    source = images.images(x)
    size = output_size(source.shape[1:], kernel, stride, padding)
    layout = source.of_size(*size)
    x = images.around(program, f"{name}_around", x, layout, kernel, stride, padding, ABSENT)
    entries = images.windows(name, x, layout, kernel, stride)
    shape = layout.tensor_shape(program.batch)
    if x.var is None:
        blocks = [name]
        mean = te.compute(shape, lambda *i: reduce(tirx.max, [e.mean(*i) for e in entries]), name)
        result = Activation(layout, mean, None)
    else:
        mean, var, blocks = _METHODS[method](name, shape, entries)
        result = Activation(layout, mean, var)
    program.steps.append(
        Step(
            workload=(
                f"max_pool2d {'x'.join(map(str, source.shape))} by {kernel[0]}x{kernel[1]} "
                f"stride {stride[0]}x{stride[1]} padding {padding[0]}x{padding[1]} "
                f"batch {program.batch} {'known' if x.var is None else method}"
            ),
            by_hand={},
            space={},
            transform=partial(schedule, blocks=blocks, lanes=program.target.lanes),
        )
    )
    return result


def tree(name: str, shape, entries: list[Entry]) -> tuple[te.Tensor, te.Tensor, list[str]]:
    """Moments by Clark's approximation, neighbours first, and the names of the blocks."""
    blocks: list[str] = []
    while len(entries) > 1:
        left_over = entries[-1:] if len(entries) % 2 else []
        pairs = zip(entries[:-1:2], entries[1::2], strict=True)
        entries = [_pair(name, shape, *pair, blocks) for pair in pairs] + left_over
    return _last(name, shape, entries[0], blocks)


def chain(name: str, shape, entries: list[Entry]) -> tuple[te.Tensor, te.Tensor, list[str]]:
    """Moments by Clark's approximation, entry after entry, and the names of the blocks."""
    blocks: list[str] = []
    first, *others = entries
    for entry in others:
        first = _pair(name, shape, first, entry, blocks)
    return _last(name, shape, first, blocks)


def exact(name: str, shape, entries: list[Entry]) -> tuple[te.Tensor, te.Tensor, list[str]]:
    """Moments by quadrature, and the name of the block."""
    raise NotImplementedError


_METHODS = {"tree": tree, "chain": chain, "exact": exact}


def _last(
    name: str, shape, entry: Entry, blocks: list[str]
) -> tuple[te.Tensor, te.Tensor, list[str]]:
    """The tensors of the last pair; of windows of one pixel, a copy."""
    if blocks:
        return entry.mean, entry.var, blocks
    copies = [te.compute(shape, part, f"{name}_{i}") for i, part in enumerate((entry.mean, entry.var))]
    return *copies, [f"{name}_0", f"{name}_1"]


def _pair(name: str, shape, one: Entry, other: Entry, blocks: list[str]) -> Entry:
    """The greater of two entries, as a pass of its own."""
    block = f"{name}_pair{len(blocks)}"
    blocks.append(f"{block}_v0")
    mean, var = te.compute(
        shape,
        lambda *i: maximum.pairwise(one.mean(*i), one.var(*i), other.mean(*i), other.var(*i)),
        name=block,
    )
    return Entry(mean, var)


def schedule(sch: tvm.s_tir.Schedule, decisions, blocks: list[str], lanes: int) -> None:
    """Say how it is computed: whole vectors at a time."""
    for block in blocks:
        *_, last = sch.get_loops(sch.get_sblock(block))
        _, lane = sch.split(last, [None, lanes])
        sch.vectorize(lane)


def build(
    image: tuple[int, int, int],
    kernel: Pair,
    batch: int,
    target: str = "host",
    schedule: str = "hand",
    stride: Pair | None = None,
    padding: Pair = (0, 0),
    method: str = "exact",
    known_input: bool = False,
) -> Kernel:
    """Compile the layer alone.

    Parameters
    ----------
    image : (channels, height, width)
    kernel : (int, int)
    batch : int
    target, schedule : str
        As in `kernels.compile_network`.
    stride : (int, int), optional
        The kernel's size by default.
    padding, method
        As in `add`.
    known_input : bool

    Returns
    -------
    Kernel
        Called with mean and variance, or with x alone for known inputs, each (batch, C, H, W);
        gives mean and variance, or y alone, (batch, C, OH, OW).
    """
    cpu = targets.target(target)
    program = Program(cpu, batch)
    layout = Planes(*image, cpu.lanes)
    x = program.known(layout) if known_input else program.random(layout)
    stride = kernel if stride is None else stride
    program.give(add(program, "max_pool2d", x, kernel, stride, padding, method))
    return build_program(program, schedule)
