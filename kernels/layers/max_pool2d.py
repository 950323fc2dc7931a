"""Max pooling: moments of the greatest entry of every window of an image, in float32.

Formulas
--------
Those of `refbnn.layers.images.max_pool2d`: window (i, j) of kernel (K, L), stride (s, t) and
padding (p, q) holds pixels (s·i + a − p, t·j + b − q), a < K, b < L, and its entries count as
independent Gaussians. Moments of the greatest of them by method:

    "exact"   by quadrature (`kernels.maximum.of_window`)
    "tree"    Clark's approximation by pairs: entries 0 and 1, 2 and 3, …, then the greater ones;
              an odd last one is left for the next round
    "chain"   Clark's approximation, one entry after another

Each pair is a pass of its own over all windows: as one expression, the moments of the first pair
would be written out wherever they occur in the second. Of known inputs, the maximum.

An entry outside the image is not there: it gets the mean −m₀, m₀ the greatest float32, and the
variance 0, against which every other entry wins with certainty.

Range
-----
As of the functions of `kernels.maximum.of_window`; errors of one pair are inputs of the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce

import numpy as np
from tvm import te, tirx

from kernels.arithmetic.polynomials import nan_of
from kernels.devices import Board, targets
from kernels.layers import images
from kernels.layers.images import Planes
from kernels.maximum import of_window as maximum
from kernels.program import vectors
from kernels.program.kernel import Kernel
from kernels.program.kernel import build as build_program
from kernels.program.program import Activation, Program, Step
from refbnn.layers.images.windows import Pair, output_size

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
    source, lanes = images.images(x), program.target.lanes
    layout = source.of_size(*output_size(source.shape[1:], kernel, stride, padding))
    x = images.around(program, f"{name}_around", x, layout, kernel, stride, padding, ABSENT)
    entries = images.windows(name, x, layout, kernel, stride)
    shape, n = layout.tensor_shape(program.batch), kernel[0] * kernel[1]

    def element(j, *index):
        return tuple([part(j // kernel[1], j % kernel[1], *index) for part in entries])

    if x.var is None or n == 1:
        tensors = greatest_of_known(name, shape, n, element)
        transform = partial(
            vectors.schedule, blocks=[f"{name}_{part}" for part in range(len(tensors))]
        )
    elif method == "exact":
        tensors = maximum.exact(program, name, shape, n, element)
        transform = partial(maximum.schedule, name=name)
    else:
        pairs = {"tree": tree, "chain": chain}[method](name, shape, n, element)
        tensors = pairs[-1]
        transform = partial(
            vectors.schedule, blocks=[f"{name}_{pair}_v0" for pair in range(len(pairs))]
        )
    program.steps.append(
        Step(
            workload=(
                f"max_pool2d {'x'.join(map(str, source.shape))} "
                f"{images.in_words(kernel, stride, padding)} "
                f"batch {program.batch} {'known' if x.var is None else method}"
            ),
            by_hand={},
            space={},
            transform=partial(transform, lanes=lanes),
        )
    )
    return Activation(layout, tensors[0], tensors[1] if x.var is not None else None)


def greatest_of_known(
    name: str, shape: Sequence[int], n: int, element: Callable
) -> list[te.Tensor]:
    """The greatest of n known entries; of one random entry, its mean and variance.

    Parameters
    ----------
    name : str
        Starts the names of the blocks.
    shape : sequence of int
        Of the result.
    n : int
        Entries of a window.
    element : callable (j, *index) -> (mean,) or (mean, var)
        Entry j of the window at `index`.
    """

    def greatest(part: int):
        def entry(*i):
            entries = [element(j, *i)[part] for j in range(n)]
            return reduce(tirx.max, entries) + nan_of(*entries)

        return entry

    parts = len(element(0, *[tirx.const(0, "int32")] * len(shape)))
    return [te.compute(shape, greatest(part), name=f"{name}_{part}") for part in range(parts)]


def tree(name: str, shape: Sequence[int], n: int, element: Callable) -> list[list[te.Tensor]]:
    """Moments of all pairs, the last those of the greatest; parameters as above."""
    pairs: list[list[te.Tensor]] = []
    entries: list[Callable] = [partial(element, j) for j in range(n)]
    while len(entries) > 1:
        left_over = entries[-1:] if len(entries) % 2 else []
        neighbours = zip(entries[:-1:2], entries[1::2], strict=True)
        entries = [_pair(name, shape, *two, pairs) for two in neighbours] + left_over
    return pairs


def chain(name: str, shape: Sequence[int], n: int, element: Callable) -> list[list[te.Tensor]]:
    """Moments of all pairs, the last those of the greatest; parameters as above."""
    pairs: list[list[te.Tensor]] = []
    first: Callable = partial(element, 0)
    for j in range(1, n):
        first = _pair(name, shape, first, partial(element, j), pairs)
    return pairs


def _pair(
    name: str, shape: Sequence[int], one: Callable, other: Callable, pairs: list[list[te.Tensor]]
) -> Callable:
    """Append the moments of the greater of two entries; these as an entry."""
    pairs.append(
        te.compute(
            shape,
            lambda *i: maximum.pairwise(*one(*i), *other(*i)),
            name=f"{name}_{len(pairs)}",
        )
    )
    mean, var = pairs[-1]
    return lambda *i: (mean(*i), var(*i))


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
    device: str | Board = "local",
) -> Kernel:
    """Compile the layer alone.

    Parameters
    ----------
    image : (channels, height, width)
    kernel : (int, int)
    batch : int
    target, schedule, device
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
    x = program.given(layout, known_input)
    stride = kernel if stride is None else stride
    program.give(add(program, "max_pool2d", x, kernel, stride, padding, method))
    return build_program(program, schedule, device=device)
