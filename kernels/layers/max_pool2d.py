"""Max pooling: moments of the greatest entry of every window of an image, in float32.

Formulas
--------
The windows are those of `refbnn.layers.images.max_pool2d`: window (i, j) of kernel (K, L), stride
(s, t) and padding (p, q) holds pixels (s·i + a − p, t·j + b − q), a < K, b < L. The moments of the
greatest of them, by method:

    "window"        with the covariance that a convolution's outputs have
                    (`kernels.layers.shared_weights`, and `kernels.layers.window_covariance` for
                    windows of any kind); elsewhere as "exact"
    "exact"   by quadrature (`kernels.maximum.of_window`)
    "tree"          Clark's approximation by pairs: entries 0 and 1, 2 and 3, …, then the greater
                    ones; an odd last one waits for the next round

Each pair is a pass of its own over all windows: in a single expression, the moments of the first
pair would be written out wherever the second uses them. Known inputs give the maximum itself.

An entry outside the image has the mean −m₀, m₀ the greatest float32, and the variance 0, so that
every other entry is greater with certainty.

Range
-----
The range of the functions of `kernels.maximum.of_window`; errors of one pair are inputs of the
next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce

from tvm import te, tirx

from kernels.arithmetic.polynomials import nan_of
from kernels.layers import images, window_covariance
from kernels.maximum import of_window as maximum
from kernels.program import vectors
from kernels.program.program import Activation, Program
from refbnn.layers import MaxPool2d


def add(program: Program, name: str, layer: MaxPool2d, x: Activation) -> Activation:
    """Apply the layer to images; arguments as in `kernels.layers.layer.add_layer`."""
    (rows, columns), *_ = layer.sizes
    if (
        layer.method == "window"
        and x.shared is not None
        and x.var is not None
        and rows * columns > 1
    ):
        return window_covariance.max_pool(program, name, layer, x)[0]
    layout, parts, words = images.windows(program, name, layer, x, maximum.ABSENT)
    kernel, *_ = layer.sizes
    shape, n, known = layout.tensor_shape(program.batch), kernel[0] * kernel[1], x.var is None

    def element(j, *index):
        return tuple([part(j // kernel[1], j % kernel[1], *index) for part in parts])

    if known or n == 1:
        tensors = greatest_of_known(name, shape, n, element)
        blocks = [f"{name}_{part}" for part in range(len(tensors))]
    elif layer.method != "tree":
        tensors = maximum.exact(program, name, shape, n, element)
        blocks = maximum.blocks(name)
    else:
        pairs = tree(name, shape, n, element)
        tensors = pairs[-1]
        blocks = [f"{name}_{pair}_v0" for pair in range(len(pairs))]
    workload = f"max_pool2d {words} {'known' if known else layer.method}"
    vectors.add_step(program, workload, blocks)
    return Activation(layout, tensors[0], None if known else tensors[1])


def linearised(program: Program, name: str, layer: MaxPool2d, x: Activation) -> list:
    """Apply the layer to random images whose entries are independent, by quadrature.

    Returns
    -------
    Activation, the own variance, and the weight of each entry of a window
    """
    layout, parts, words = images.windows(program, name, layer, x, maximum.ABSENT)
    (rows, columns), *_ = layer.sizes

    def element(j, *index):
        return tuple([part(j // columns, j % columns, *index) for part in parts])

    shape = layout.tensor_shape(program.batch)
    tensors = maximum.exact(program, name, shape, rows * columns, element, linearised=True)
    vectors.add_step(program, f"max_pool2d {words} {layer.method}", maximum.blocks(name))
    mean, var, *more = tensors
    return [Activation(layout, mean, var), *more]


def greatest_of_known(
    name: str, shape: Sequence[int], n: int, element: Callable
) -> list[te.Tensor]:
    """The greatest of n known entries; for a single random entry its mean and variance.

    Parameters
    ----------
    name : str
        Starts the names of the blocks.
    shape : sequence of int
        Shape of the result.
    n : int
        Number of entries of a window.
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
    """Moments of the greater entry of every pair; the last pair gives those of the greatest.

    Parameters as in `greatest_of_known`.
    """
    pairs: list[list[te.Tensor]] = []
    entries: list[Callable] = [partial(element, j) for j in range(n)]

    def nan(*i):  # a pair would take a mean of −∞ for an entry that is not there
        return nan_of(*[part for j in range(n) for part in element(j, *i)])

    while len(entries) > 1:
        left_over = entries[-1:] if len(entries) % 2 else []
        neighbours = zip(entries[:-1:2], entries[1::2], strict=True)
        last = nan if len(entries) == 2 else None
        entries = [_pair(name, shape, *two, pairs, last) for two in neighbours] + left_over
    return pairs


def _pair(
    name: str,
    shape: Sequence[int],
    one: Callable,
    other: Callable,
    pairs: list[list[te.Tensor]],
    nan: Callable | None,
) -> Callable:
    """Append the moments of the greater of two entries, plus `nan`, and return them as an entry."""

    def greater(*i):
        moments = maximum.pairwise(*one(*i), *other(*i))
        return moments if nan is None else tuple([moment + nan(*i) for moment in moments])

    pairs.append(te.compute(shape, greater, name=f"{name}_{len(pairs)}"))
    mean, var = pairs[-1]
    return lambda *i: (mean(*i), var(*i))
