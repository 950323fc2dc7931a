"""Compiled linearised propagation of images against the float64 reference."""

from typing import Any

import numpy as np
import pytest

from kernels import compile_network
from refbnn.errors import InputError
from refbnn.layers import (
    GELU,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    MaxPool2d,
    ReLU,
    Residual,
    Tanh,
)
from refbnn.network.network import Network

ACCURACY = 1e-5  # of products of deviations; observed 2e-6


def norm(channels):
    return BatchNorm2d([0.1] * channels, [2.0] * channels, [-1.3] * channels, [0.2] * channels)


def behind(*layers: Any, shape=(2, 8, 9), outputs=3) -> Network:
    """A network of these layers, Flatten and Dense."""
    size = shape
    for layer in layers:
        size = layer.output_shape(size)
    last = Dense(int(np.prod(size)), outputs)
    return Network([*layers, Flatten(), last], input_shape=shape, seed=1)


def require_equal(net: Network, batch=2, **options):
    assert net.input_shape is not None
    x = np.random.default_rng(0).standard_normal((batch, *net.input_shape))
    want = net.propagate(x, method="linearised")
    got = compile_network(net, batch, method="linearised", **options)(x)
    s = np.sqrt(want.var)
    assert (np.abs(got.mean - want.mean) <= ACCURACY * (np.abs(want.mean) + s)).all()
    assert (np.abs(got.cov - want.cov) <= ACCURACY * s[:, :, None] * s[:, None]).all()


NETWORKS = {
    "a convolution of known inputs": behind(Conv2d(2, 5, 3)),
    "stride 2 and padding": behind(Conv2d(2, 3, 3, 2, 1), ReLU(), Conv2d(3, 4, 2, (2, 1), 1)),
    "one operator with windows of 2 x 2": behind(
        Conv2d(2, 5, 3), MaxPool2d(2), ReLU(), Conv2d(5, 17, 2, padding=1), norm(17), MaxPool2d(2)
    ),
    "windows that overlap": behind(
        Conv2d(2, 3, 2), MaxPool2d(3, 2), Conv2d(3, 2, 1), MaxPool2d(2, 1)
    ),
    "groups": behind(Conv2d(2, 4, 2, groups=2), ReLU(), Conv2d(4, 4, 2, groups=2), AvgPool2d(2, 1)),
    "pooling with padding": behind(Conv2d(2, 4, 3), norm(4), GELU(), MaxPool2d(2, 2, 1, "tree")),
    "maxima of independent entries": behind(
        Conv2d(2, 3, 2), ReLU(), MaxPool2d(2, 1, 1, "exact"), shape=(2, 5, 6)
    ),
    "averages of windows beyond the last column": behind(
        Conv2d(2, 3, 2), AvgPool2d(3, 2, 1), shape=(2, 5, 6)
    ),
    "padding as wide as the kernel": behind(
        Conv2d(2, 17, 3), ReLU(), Conv2d(17, 16, 1, padding=1), shape=(2, 5, 6)
    ),
    "a residual block of another layout": behind(
        Conv2d(2, 3, 3, 2), Residual([Conv2d(3, 3, 3, padding=1)]), shape=(2, 7, 9)
    ),
    "a residual block": behind(
        Conv2d(2, 3, 2), Tanh(), Residual([Conv2d(3, 3, 3, padding=1), ReLU()]), shape=(2, 5, 5)
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_covariance_of_networks_of_images(name):
    require_equal(NETWORKS[name])


def test_one_example_and_the_default_schedule():
    net = NETWORKS["one operator with windows of 2 x 2"]
    require_equal(net, batch=1)
    require_equal(net, schedule="default")


def test_flatten_last():
    """The outputs are those of pooling; the rows of J are I."""
    net = Network([Conv2d(1, 2, 2), MaxPool2d(2), Flatten()], input_shape=(1, 3, 5), seed=1)
    require_equal(net)


def test_windows_too_large_for_pairs():
    layers: list[Any] = [Conv2d(1, 1, 2), MaxPool2d(9, method="tree"), Flatten()]
    message = r"a window of 81 entries; expected at most 64 in a kernel \(or method='exact'\)"
    with pytest.raises(InputError, match=message):
        compile_network(Network(layers, input_shape=(1, 10, 10)), 1, method="linearised")
