"""Networks of odd sizes, whose images fill no whole vectors, against the reference."""

import numpy as np
import pytest

from kernels import compile_network
from refbnn.errors import InputError
from refbnn.layers import AvgPool2d, Conv2d, Dense, Flatten, Layer, MaxPool2d, ReLU, Residual
from refbnn.network.network import Network

ODD: list[tuple[list[Layer], tuple[int, ...]]] = [
    (
        [MaxPool2d((1, 3), (2, 1), (0, 1)), Conv2d(2, 4, (3, 1), padding=(0, 2), groups=2)],
        (2, 5, 7),
    ),
    ([Conv2d(1, 3, 2), MaxPool2d(2, 1, 1, method="tree"), AvgPool2d((2, 3), 1, 1)], (1, 5, 18)),
    ([Residual([ReLU(), Conv2d(3, 3, 3, padding=1)]), MaxPool2d(2, 2, 1)], (3, 3, 5)),
]


def require_close(net, schedule, form):
    x = np.random.default_rng(0).standard_normal((2, *net.input_shape))
    got, expected = compile_network(net, 2, schedule=schedule, form=form)(x), net.propagate(x)
    # Each of three layers at most is right to 1e-5, relative to the largest of its terms.
    np.testing.assert_allclose(got.mean, expected.mean, rtol=0, atol=3e-5 * np.abs(x).max())
    np.testing.assert_allclose(got.var, expected.var, rtol=0, atol=3e-5 * expected.var.max())


@pytest.mark.parametrize(("layers", "shape"), ODD)
def test_odd_sizes(layers, shape):
    require_close(Network(layers, input_shape=shape, seed=1), "hand", "variance")


def test_separate_form_before_and_after_flattening():
    layers: list[Layer] = [Conv2d(1, 3, 3), Flatten(), Dense(48, 3)]
    require_close(Network(layers, input_shape=(1, 6, 6), seed=1), "hand", "separate")


def test_too_much_memory_is_refused():
    net = Network([ReLU(), Conv2d(1, 1, 1)], input_shape=(1, 10_000_000, 1))  # one column of 4
    with pytest.raises(InputError, match="an array of 640000000 numbers, padding included"):
        compile_network(net, 16, target="cortex-a72", device="emulated")
    with pytest.raises(InputError, match="an array of 1600000000 entries for one input"):
        compile_network(Network([AvgPool2d(2)], input_shape=(1, 40_000, 40_000)), 1)
