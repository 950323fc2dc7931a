"""Memory that one input of a network takes, counted before any of it is asked for.

Sizes of images, padding and windows cost no weights: a small file may claim any, also inside a
residual block, whose output is small again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from refbnn.errors import InputError
from refbnn.layers import Conv2d, Layer, MaxPool2d, Residual
from refbnn.layers.images.pooling import Pool2d
from refbnn.layers.layer import Shape

MOST_ENTRIES = 2**24  # of an array that every input has, 0.13 GB; propagation holds about five
_MOST_COLUMNS = 50_000_000  # of the windows of a convolution, 0.4 GB: one input at a time has them
_Array = tuple[str, int, bool]  # name of the layer; entries; whether every input has its own


def largest_array(layers: Sequence[Layer], shape: Shape | None) -> int:
    """Count the entries of the largest array that every input takes; 1 where nothing is known.

    Examples
    --------
    >>> from refbnn.layers import Conv2d
    >>> largest_array([Conv2d(1, 1, 3, padding=1)], (1, 8, 8))
    100
    """
    own = (entries for _, entries, every in _arrays(layers, shape, "layer ") if every)
    return max(own, default=1)


def require_moderate(layers: Sequence[Layer], shape: Shape | None) -> None:
    """Raise InputError, which names the layer, if one input would take absurd memory.

    Where the shape of the input is unknown, padding alone is counted.

    Examples
    --------
    >>> from refbnn.layers import Conv2d
    >>> try:
    ...     require_moderate([Conv2d(1, 1, 3, padding=3000)], (1, 8, 8))
    ... except InputError as error:
    ...     print(error)
    layer 0: an array of 36096064 entries for one input; expected at most 16777216
    """
    for name, entries, every in _arrays(layers, shape, "layer "):
        most = MOST_ENTRIES if every else _MOST_COLUMNS
        if entries > most:
            raise InputError(
                f"{name}: an array of {entries} entries for one input; expected at most {most}"
            )


def _arrays(layers: Sequence[Layer], shape: Shape | None, prefix: str) -> Iterator[_Array]:
    """Yield every array of every layer."""
    for index, layer in enumerate(layers):
        name = f"{prefix}{index}"
        if shape is None:  # one pixel at least
            if isinstance(layer, Conv2d | Pool2d):
                yield name, math.prod(1 + 2 * p for p in layer.sizes[2]), True
        else:
            yield name, math.prod(shape), True
            if isinstance(layer, Conv2d | Pool2d):
                yield from _of_windows(layer, shape, name)
        if isinstance(layer, Residual):
            yield from _arrays(layer.layers, shape, f"{name}, layer ")
        if shape is not None:
            shape = layer.output_shape(shape)
            yield name, math.prod(shape), True


def _of_windows(layer: Conv2d | Pool2d, shape: Shape, name: str) -> Iterator[_Array]:
    """Yield the padded image, and the windows where these are copied."""
    (rows, columns), _, (p, q) = layer.sizes
    channels, height, width = shape
    yield name, channels * (height + 2 * p) * (width + 2 * q), True
    _, *windows = layer.output_shape(shape)
    if isinstance(layer, MaxPool2d):
        entries = channels * math.prod(windows) * rows * columns
        yield name, entries, True
        if layer.method == "window":  # and their covariances, one input at a time if need be
            yield name, max(entries, min(entries * rows * columns, MOST_ENTRIES)), True
    elif isinstance(layer, Conv2d):
        yield name, channels // layer.groups * rows * columns * math.prod(windows), False
