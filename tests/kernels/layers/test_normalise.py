"""Normalised inputs in compiled networks, against the float64 reference."""

import numpy as np
import pytest

from kernels import compile_network, compile_sampled
from refbnn import Network
from refbnn.layers import Conv2d, Dense, Flatten, Layer, MaxPool2d, Normalise, ReLU
from refbnn.layers.moments import Moments
from verification.kernels.layers import accuracy

NETWORKS: dict[str, tuple[list[Layer], tuple[int, ...]]] = {
    "rows, one": ([Normalise(0.13, 0.31), Dense(19, 5), ReLU(), Dense(5, 3)], (19,)),
    "rows, by feature": (
        [Normalise(np.arange(19.0) / 7, np.arange(1.0, 20.0)), Dense(19, 3)],
        (19,),
    ),
    "images as rows": ([Normalise([0.1, 0.2], [0.5, 0.6]), Flatten(), Dense(18, 3)], (2, 3, 3)),
    "padded images": (
        [Normalise([0.1, 0.2], [0.5, 0.6]), Conv2d(2, 3, 3, padding=1), ReLU(), MaxPool2d(2)],
        (2, 5, 4),
    ),
    "images without padding": ([Normalise(0.3, 2.0), Conv2d(2, 3, 3), Flatten()], (2, 5, 4)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_compiled_network_takes_raw_inputs(name):
    layers, shape = NETWORKS[name]
    net = Network(layers, input_shape=shape, seed=0)
    x = np.random.default_rng(1).uniform(0.0, 1.0, (3, *shape))
    x[0] = 0.0  # an empty image
    result, expected = compile_network(net, 3)(x), net.propagate(x)
    for got, wanted, allowed in zip(
        (result.mean, result.var),
        (expected.mean, expected.var),
        accuracy(Moments(expected.mean, expected.var)),
        strict=True,
    ):
        assert (np.abs(got - wanted) <= allowed).all()


def test_sampled_kernels_take_raw_inputs():
    layers, shape = NETWORKS["padded images"]
    net = Network([*layers, Flatten(), Dense(12, 2)], input_shape=shape, seed=0)
    x = np.random.default_rng(2).uniform(0.0, 1.0, (2, *shape))
    expected = net.sample(x, 3, seed=4)
    # float32: some 40 roundings a sum of at most 18 products of order 1, three layers deep.
    np.testing.assert_allclose(compile_sampled(net, 2, 3)(x, seed=4), expected, rtol=0, atol=1e-5)
