"""Memory that one input of a network takes, counted before any of it is asked for.

Sizes of images, padding and windows cost no weights: a small file may claim any.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from refbnn.errors import InputError
from refbnn.layers import Conv2d, Layer, MaxPool2d, Residual
from refbnn.layers.images.pooling import Pool2d
from refbnn.layers.layer import Shape
from refbnn.network.network import Network

MOST_ENTRIES = 50_000_000  # of one array for one input, 0.4 GB


def largest_array(net: Network) -> int:
    """Count the entries of the largest array that one input takes; 0 where no shape is known.

    Raises
    ------
    InputError
        If they are more than `MOST_ENTRIES`; it names the layer.

    Examples
    --------
    >>> from refbnn import Network
    >>> from refbnn.layers import Conv2d
    >>> largest_array(Network([Conv2d(1, 1, 3, padding=1)], input_shape=(1, 8, 8)))
    100
    """
    largest = 0
    for name, entries in _arrays(net.layers, net.input_shape, "layer "):
        if entries > MOST_ENTRIES:
            raise InputError(
                f"{name}: an array of {entries} entries for one input; expected at most "
                f"{MOST_ENTRIES}"
            )
        largest = max(largest, entries)
    return largest


def _arrays(layers: Sequence[Layer], shape: Shape | None, prefix: str) -> Iterator[tuple[str, int]]:
    """Yield a layer's name and the entries of an array, for every array of every layer."""
    for index, layer in enumerate(layers):
        name = f"{prefix}{index}"
        if shape is None:  # one pixel at least
            if isinstance(layer, Conv2d | Pool2d):
                yield name, math.prod(1 + 2 * p for p in layer.sizes[2])
        else:
            yield name, math.prod(shape)
            if isinstance(layer, Conv2d | Pool2d):
                (rows, columns), _, (p, q) = layer.sizes
                channels, height, width = shape
                yield name, channels * (height + 2 * p) * (width + 2 * q)
                if isinstance(layer, MaxPool2d):
                    yield name, math.prod(layer.output_shape(shape)) * rows * columns
        if isinstance(layer, Residual):
            yield from _arrays(layer.layers, shape, f"{name}, layer ")
        if shape is not None:
            shape = layer.output_shape(shape)
            yield name, math.prod(shape)
