import numpy as np
import pytest

from refbnn import Network
from refbnn.layers import Conv2d, Dense, Flatten
from refbnn.network.layout import Layout

LAYOUT = Layout({"a": (2, 3), "b": (4,), "c": (1, 2, 2, 1), "d": ()})


def test_arrays_follow_each_other_in_order():
    assert LAYOUT.size == 6 + 4 + 4 + 1
    assert LAYOUT.slices == {
        "a": slice(0, 6),
        "b": slice(6, 10),
        "c": slice(10, 14),
        "d": slice(14, 15),
    }
    assert Layout({}).size == 0


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_views_share_memory(lead):
    flat = np.arange(15.0 * int(np.prod(lead))).reshape(*lead, 15)
    views = LAYOUT.views(flat)
    for name, shape in LAYOUT.shapes.items():
        assert views[name].shape == (*lead, *shape)
        assert np.shares_memory(views[name], flat)
    np.testing.assert_array_equal(views["a"][..., 1, 2], flat[..., 5])
    np.testing.assert_array_equal(views["c"][..., 0, 1, 0, 0], flat[..., 12])
    views["b"][..., 0] = -7
    assert (flat[..., 6] == -7).all()


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_flatten_is_the_inverse_of_views(lead, dtype):
    flat = np.random.default_rng(0).standard_normal((*lead, 15)).astype(dtype)
    again = LAYOUT.flatten(LAYOUT.views(flat))
    np.testing.assert_array_equal(again, flat, strict=True)
    assert not np.shares_memory(again, flat)


def test_flatten_takes_arrays_in_any_order():
    arrays = {name: np.full(shape, k) for k, (name, shape) in enumerate(LAYOUT.shapes.items())}
    flat = LAYOUT.flatten(dict(reversed(arrays.items())))
    np.testing.assert_array_equal(flat, [0] * 6 + [1] * 4 + [2] * 4 + [3])


def test_a_network_lies_layer_by_layer():
    net = Network([Conv2d(1, 2, 3), Flatten(), Dense(8, 5)], input_shape=(1, 4, 4))
    assert net.layout.size == 2 * 9 + 2 + 8 * 5 + 5
    assert net.slice_of_layer(0) == slice(0, 20)
    assert net.slice_of_layer(2) == slice(20, 65)
