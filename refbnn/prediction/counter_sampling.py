"""Reproducible sampling: the same seed gives the same weights, whatever draws them.

Every weight's random word is a function of its place and of the seed alone
(`refbnn.numerics.random.philox`): not of the order of drawing, of other weights, or of the layout
in a kernel's memory. A layer whose arrays are (out, …) has a row of numbers for each output: the
weights of its fan-in in the order of the array, then its bias. Rows are cut into blocks of four,
and numbers 4b to 4b + 3 of row o are the words of the counter

    (o ⌈n/4⌉ + b,  layer,  sample,  0),      n numbers in a row, keyed by the seed.

The fourth word tells the purpose; 0 is sampling of weights. A word becomes noise as
`refbnn.noise.word_table` says, here by the law's own inverse in float64; kernels take the table.
"""

from __future__ import annotations

from math import prod

import numpy as np

from refbnn.errors import InputError
from refbnn.network.network import Network, Weights
from refbnn.noise.word_table import exact
from refbnn.numerics.random.philox import key_of, philox

PURPOSE = 0


def row_blocks(n: int) -> int:
    """Blocks of four in a row of n numbers."""
    return -(-n // 4)


def words(seed: int, layer: int, sample: int, n_out: int, n: int) -> np.ndarray:
    """Random words of one sample of a layer's weights, (n_out, n) uint32.

    Parameters
    ----------
    seed : int
    layer : int
        Its index in the network.
    sample : int
        Number of the sample, from 0.
    n_out, n : int
        Rows, and numbers in each.
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
            f"reproducible sampling: layers {sorted(net.correlation)} have correlated weights; "
            "expected independent ones"
        )
    weights: Weights = {}
    noise: Weights = {}
    for index, posteriors in enumerate(net.by_layer(net.parameters())):
        if not posteriors:
            continue
        shapes = {name: posterior.shape for name, posterior in posteriors.items()}
        rows = {shape[0] for shape in shapes.values()}
        if len(rows) > 1:
            raise InputError(
                f"layer {index}: arrays of shapes {list(shapes.values())}; expected one row for "
                "each output in all"
            )
        n_out = rows.pop()
        sizes = [prod(shape[1:]) for shape in shapes.values()]
        z = exact(net.law, words(seed, index, sample, n_out, sum(sizes)))
        parts = np.split(z, np.cumsum(sizes)[:-1], axis=1)
        for (name, posterior), part in zip(posteriors.items(), parts, strict=True):
            noise[f"{index}.{name}"] = part.reshape(posterior.shape)
            weights[f"{index}.{name}"] = posterior.mean + posterior.scale * noise[f"{index}.{name}"]
    return weights, noise


def sample(net: Network, x: np.ndarray, n_samples: int, seed: int) -> np.ndarray:
    """As `Network.sample`, with samples 0 to n_samples − 1 of a seed; (n_samples, B, ...).

    Raises
    ------
    InputError
        If x does not fit, or as `draw`.
    """
    x = np.asarray(x)
    shape = net.check_input(x.shape[1:])
    if n_samples < 1:
        raise InputError(f"n_samples is {n_samples}; expected at least 1")
    outputs = np.empty((n_samples, len(x), *shape))
    for number, output in enumerate(outputs):
        output[...] = net.forward(x.astype(float), draw(net, seed, number)[0])[0]
    return outputs
