"""Counter-based sampling: the same seed gives the same weights here and in the kernels.

A weight's random word depends on its index and on the seed alone (`refbnn.numerics.random.philox`):
not on the order of drawing, on other weights, or on the layout in a kernel's memory. A layer whose
arrays are (out, …) has a row of numbers for each output: the weights of its fan-in in the order of
the array, then its bias. Rows are cut into blocks of four, and numbers 4b to 4b + 3 of row o are
the words of the counter

    (o ⌈n/4⌉ + b,  layer,  sample,  0),      n numbers in a row, keyed by the seed.

The fourth word is the purpose; 0 stands for sampling of weights. Words become noise by the law's
inverse distribution function in float64; kernels use the table of `refbnn.noise.word_table`.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from refbnn.errors import InputError
from refbnn.noise.word_table import exact
from refbnn.numerics.random.philox import key_of, philox

if TYPE_CHECKING:
    from refbnn.network.network import Network, Weights

PURPOSE = 0


def row_blocks(n: int) -> int:
    """Blocks of four in a row of n numbers."""
    return -(-n // 4)


def words(seed: int, layer: int, sample: int, n_out: int, n: int) -> np.ndarray:
    """Random words of a layer's weights in sample number `sample`: n_out rows of n, uint32.

    `layer` is the layer's index in the network.
    """
    counter = np.zeros((n_out * row_blocks(n), 4), np.uint32)
    counter[:, 0] = np.arange(len(counter))
    counter[:, 1:] = layer, sample, PURPOSE
    return philox(counter, key_of(seed)).reshape(n_out, -1)[:, :n]


def draw(net: Network, seed: int, sample: int) -> tuple[Weights, Weights]:
    """Sample number `sample` of the weights θ = µ + σz, and the noise z, by name.

    Raises
    ------
    InputError
        If weights are correlated, or the arrays of a layer differ in their number of rows.
    """
    if net.correlation:
        raise InputError(
            f"sampling by seed: layers {sorted(net.correlation)} have correlated weights; "
            "expected independent ones, or a generator (rng=)"
        )
    weights: Weights = {}
    noise: Weights = {}
    for index, posteriors in enumerate(net.by_layer(net.parameters())):
        if not posteriors:
            continue
        shapes = [posterior.shape for posterior in posteriors.values()]
        rows = {shape[0] for shape in shapes}
        if len(rows) > 1:
            raise InputError(
                f"layer {index}: arrays of shapes {shapes}; expected one row for each output in all"
            )
        sizes = [prod(shape[1:]) for shape in shapes]
        z = exact(net.law, words(seed, index, sample, rows.pop(), sum(sizes)))
        parts = np.split(z, np.cumsum(sizes)[:-1], axis=1)
        for (name, posterior), part in zip(posteriors.items(), parts, strict=True):
            own = part.reshape(posterior.shape)
            noise[f"{index}.{name}"] = own
            weights[f"{index}.{name}"] = posterior.mean + posterior.scale * own
    return weights, noise
