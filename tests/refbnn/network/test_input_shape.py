"""Examples take another shape only where no number moves to another place."""

import numpy as np
import pytest

from refbnn import InputError, Network
from refbnn.layers import Conv2d, Dense
from refbnn.network.input_shape import shaped


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((784,), (784,)),
        ((1, 28, 28), (784,)),
        ((28, 28), (784,)),
        ((3, 8, 8), (192,)),
        ((784,), (1, 28, 28)),
        ((28, 28), (1, 28, 28)),
        ((28, 28, 1), (1, 28, 28)),  # an axis of length 1 holds its numbers in the same order
        ((1, 4), (4,)),
        ((16, 50, 1), (800,)),
        ((3, 8, 8), (3, 8, 8)),
    ],
)
def test_numbers_keep_their_order(given, wanted):
    x = np.arange(2 * np.prod(given)).reshape(2, *given)
    found = shaped(x, wanted)
    assert found.shape == (2, *wanted)
    np.testing.assert_array_equal(found.ravel(), x.ravel())


@pytest.mark.parametrize(
    ("given", "wanted", "said"),
    [
        ((28, 28, 3), (3, 28, 28), "expected (2, 3, 28, 28): transpose with (0, 3, 1, 2)"),
        ((4, 6, 3), (3, 4, 6), "expected (2, 3, 4, 6): transpose with (0, 3, 1, 2)"),
        ((6, 4, 3), (3, 4, 6), "expected (2, 3, 4, 6): transpose with (0, 3, 2, 1)"),
        ((8, 6), (1, 6, 8), "shape (2, 8, 6); expected (2, 1, 6, 8)"),
        ((1, 8, 6), (1, 6, 8), "transpose with (0, 1, 3, 2)"),
        ((28, 28, 3), (2352,), "expected (2, 3, 28, 28): transpose with (0, 3, 1, 2)"),
        ((4, 4, 3), (48,), "expected (2, 3, 4, 4): transpose with (0, 3, 1, 2)"),
        ((192,), (3, 8, 8), "shape (2, 192); expected (2, 3, 8, 8)"),
        ((64,), (4, 4, 4), "expected (2, 4, 4, 4)"),
        ((16, 4), (4, 4, 4), "expected (2, 4, 4, 4)"),
        ((783,), (784,), "examples of shape (783,); expected (784,), or as many entries"),
    ],
)
def test_axes_are_never_moved(given, wanted, said):
    with pytest.raises(InputError) as error:
        shaped(np.zeros((2, *given)), wanted)
    assert said in str(error.value)


def test_the_order_named_fits():
    net = Network([Conv2d(3, 2, 3)], input_shape=(3, 5, 7))
    x = np.random.default_rng(0).standard_normal((2, 5, 7, 3))
    with pytest.raises(InputError, match=r"transpose with \(0, 3, 1, 2\)"):
        net.shaped(x)
    turned = x.transpose(0, 3, 1, 2)
    assert net.shaped(turned).shape == (2, 3, 5, 7)
    unknown = Network([Conv2d(3, 2, 3)])
    assert unknown.shaped(turned) is turned
    with pytest.raises(InputError, match="image has 5 channels; expected 3"):
        unknown.shaped(x)
    assert Network([Dense(105, 1)]).shaped(turned).shape == (2, 105)
