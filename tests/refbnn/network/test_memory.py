"""Networks that would take absurd memory for one input are refused before any is asked for."""

import pytest

from refbnn.errors import InputError
from refbnn.layers import AvgPool2d, Conv2d, Layer, MaxPool2d, Residual
from refbnn.network.memory import largest_array
from refbnn.network.network import Network

SMALL = (1, 3, 3)
CASES: list[tuple[list[Layer], tuple[int, ...] | None, str]] = [
    ([Conv2d(1, 1, 1, padding=9000)], SMALL, "layer 0"),
    ([Conv2d(1, 1, 1, padding=20000, stride=40001)], SMALL, "layer 0"),  # a single output
    ([Conv2d(1, 1, 1, padding=9000)], None, "layer 0"),
    ([Residual([Conv2d(1, 1, 1, padding=9000), AvgPool2d(18001, 1)])], SMALL, "layer 0, layer 0"),
    ([MaxPool2d(500, 1)], (1, 1000, 1000), "layer 0"),  # its windows
    ([AvgPool2d(2)], (1, 10_000, 10_000), "layer 0"),  # the input itself
]


@pytest.mark.parametrize(("layers", "shape", "name"), CASES)
def test_an_absurd_array_is_refused(layers, shape, name):
    net = Network(layers, input_shape=shape)
    with pytest.raises(InputError, match=rf"^{name}: an array of \d+ entries for one input; exp"):
        largest_array(net)


def test_the_largest_array_is_counted():
    assert largest_array(Network([Conv2d(1, 2, 3, padding=1)], input_shape=(1, 8, 8))) == 128
    assert largest_array(Network([MaxPool2d(3, 1)], input_shape=(1, 8, 8))) == 6 * 6 * 9
