"""Local reparameterisation: sampled pre-activations in place of sampled weights.

Formula
-------
A dense layer y = Σ w x + b with independent Gaussian weights has, for one known input x,
independent Gaussian outputs (Kingma, Salimans & Welling 2015, "Variational dropout and the local
reparameterization trick"):

    y_o = m_o + √v_o ε_o,    m = x µᵀ + µ_b,    v = x² σ²ᵀ + σ_b²,    ε ~ N(0, 1).

B inputs of n_out outputs take B n_out random numbers, in place of the n_out (n_in + 1) of weights.

Noise of a seed: ε is the law's quantile function of a random word, as in
`refbnn.network.counter_sampling`. Output o of input i has the number i n_out + o; its words in
samples 4q to 4q + 3 are those of the counter

    (i n_out + o,  layer,  q,  1),

keyed by the seed, where 1 is the purpose. An input's noise depends on its place in the batch, but
not on the other inputs or on the number of samples.

Range
-----
Exact for the outputs of one input: layers are independent, and each weight meets the input once.
Each input has noise of its own, where sampled weights are the same for all inputs of a batch: joint
statistics of several inputs, such as their covariance, are not those of the posterior. Layers with
shared weights (convolutions) and other laws are refused, since their outputs are neither
independent nor Gaussian.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from refbnn.errors import InputError
from refbnn.layers import Dense, Layer
from refbnn.layers.layer import Arrays
from refbnn.layers.moments import require_finite_outputs
from refbnn.noise.families.gaussian import Gaussian
from refbnn.noise.word_table import exact
from refbnn.numerics.random.philox import key_of, philox

if TYPE_CHECKING:
    from refbnn.network.network import Network

PURPOSE = 1

Noise = Callable[[int, tuple[int, ...]], np.ndarray]  # of a layer's outputs, by its index


def require_local(net: Network) -> None:
    """Raise InputError unless local reparameterisation is exact for the outputs of one input."""
    if not isinstance(net.law, Gaussian):
        raise InputError(
            f"local reparameterisation: the law is {type(net.law).__name__}; expected Gaussian"
        )
    if net.correlation:
        raise InputError(
            f"local reparameterisation: layers {sorted(net.correlation)} have correlated weights; "
            "expected independent ones"
        )
    for index, layer in enumerate(net.layers):
        if layer.parameter_shapes() and not isinstance(layer, Dense):
            raise InputError(
                f"local reparameterisation: layer {index} is {type(layer).__name__}; expected "
                "Dense and layers without weights"
            )


def mean_and_spread(
    layer: Layer, x: np.ndarray, mean: Arrays, var: Arrays
) -> tuple[np.ndarray, np.ndarray]:
    """Mean m and standard deviation √v of a layer's outputs, from µ and σ² of its weights."""
    return layer.forward(x, mean), np.sqrt(layer.forward(x * x, var))


def words(seed: int, layer: int, sample: int, rows: range, n_out: int) -> np.ndarray:
    """Random words (len(rows), n_out) of a layer's outputs for inputs of these numbers, uint32.

    Raises
    ------
    InputError
        If the outputs of a layer are more than counters can number.
    """
    if rows.stop * n_out > 2**32:
        raise InputError(
            f"local reparameterisation: {rows.stop} inputs of {n_out} outputs; expected at most "
            "2^32 outputs of a layer in one batch"
        )
    numbers = np.arange(rows.start * n_out, rows.stop * n_out)
    counter = np.zeros((len(numbers), 4), np.uint32)
    counter[:, 0] = numbers
    counter[:, 1:] = layer, sample // 4, PURPOSE
    return philox(counter, key_of(seed))[:, sample % 4].reshape(len(rows), n_out)


def fill(
    outputs: np.ndarray,
    net: Network,
    x: np.ndarray,
    blocks: Sequence[slice],
    rng: np.random.Generator | None,
    seed: int | None,
) -> None:
    """Write samples of the outputs of a network, block after block of its inputs.

    Parameters
    ----------
    outputs : (S, B, ...)
    net : Network
        Passes `require_local`.
    x : (B, ...)
    blocks : slices of the B inputs
    rng, seed
        Source of the noise, one of them.

    Raises
    ------
    InputError
        If a layer's output overflows, or `words` raises it.
    """
    for number, output in enumerate(outputs):
        for rows in blocks:
            if seed is not None:
                noise = _noise_of_seed(net, seed, number, rows.start)
            elif rng is not None:
                noise = partial(_noise_of_generator, rng)
            output[rows] = _outputs(net, x[rows].astype(float), noise)


def _noise_of_seed(net: Network, seed: int, sample: int, first: int) -> Noise:
    def noise(layer: int, shape: tuple[int, ...]) -> np.ndarray:
        n, n_out = shape
        return exact(net.law, words(seed, layer, sample, range(first, first + n), n_out))

    return noise


def _noise_of_generator(rng: np.random.Generator, layer: int, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape)


@np.errstate(over="ignore", invalid="ignore")  # what overflows is an InputError
def _outputs(net: Network, x: np.ndarray, noise: Noise) -> np.ndarray:
    """One sample of the outputs; those of every layer are checked."""
    for index, (layer, own) in enumerate(
        zip(net.layers, net.by_layer(net.parameters()), strict=True)
    ):
        if own:
            mean = {name: posterior.mean for name, posterior in own.items()}
            var = {name: posterior.var for name, posterior in own.items()}
            m, spread = mean_and_spread(layer, x, mean, var)
            x = m + spread * noise(index, m.shape)
        else:
            x = layer.forward(x, {})
        require_finite_outputs(x, f"layer {index}")
    return x
