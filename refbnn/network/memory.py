"""Sizes of the arrays that one input makes on its way through a network.

Padding, strides and windows cost no weights, so that a small file can describe activations that
fill any memory; so can a block of layers whose output is small again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from refbnn.errors import InputError, cut
from refbnn.layers import AvgPool2d, Conv2d, Layer, Residual
from refbnn.layers.images.windows import WindowSizes
from refbnn.layers.layer import Shape

MOST_ENTRIES = 2**24  # of one activation: 0.13 GB, of which propagation holds about five
_MOST_COLUMNS = 50_000_000  # of the windows of an image, which a layer holds once: 0.4 GB


def most_entries(layers: Sequence[Layer], shape: Shape) -> int:
    """Entries of the largest activation of one input, padding and layers inside blocks included.

    Examples
    --------
    >>> most_entries([Conv2d(1, 6, 5, padding=2)], (1, 28, 28))
    4704
    """
    return max(prod(held) for _, what, held in _arrays(layers, shape) if what != "windows")


def require_moderate(layers: Sequence[Layer], shape: Shape | None) -> None:
    """Raise InputError if one input of this shape would take absurd memory.

    Of an unknown shape, an image has one pixel at least.

    Examples
    --------
    >>> try:
    ...     require_moderate([Conv2d(1, 6, 5, padding=10_000)], (1, 28, 28))
    ... except InputError as error:
    ...     print(error)
    layer 0: padded input of shape (1, 20028, 20028); expected at most 16777216 entries
    """
    for layer, what, held in _arrays(layers, shape):
        most = _MOST_COLUMNS if what == "windows" else MOST_ENTRIES
        if prod(held) > most:
            raise InputError(f"{layer}{what} of shape {cut(held)}; expected at most {most} entries")


def _arrays(layers: Sequence[Layer], shape: Shape | None) -> Iterator[tuple[str, str, Shape]]:
    """Where, what, and the shape of every array that could be large, in their order."""
    if shape is None:
        for index, layer in enumerate(layers):
            if isinstance(layer, WindowSizes):
                yield f"layer {index}: ", "padded input", tuple(1 + 2 * p for p in layer.sizes[2])
        return
    yield "", "input", shape
    for index, layer in enumerate(layers):
        where = f"layer {index}: "
        after = layer.output_shape(shape)
        if isinstance(layer, Residual):
            for inside, what, held in _arrays(layer.layers, shape):
                yield f"{where}{inside}", what, held
        elif isinstance(layer, WindowSizes):
            kernel, _, padding = layer.sizes
            channels, *image = shape
            size = (n + 2 * p for n, p in zip(image, padding, strict=True))
            yield where, "padded input", (channels, *size)
            if not isinstance(layer, AvgPool2d):
                groups = layer.groups if isinstance(layer, Conv2d) else 1
                yield where, "windows", (channels // groups, *kernel, *after[1:])
        yield where, "output", after
        shape = after
