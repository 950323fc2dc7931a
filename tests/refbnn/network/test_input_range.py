import warnings

import numpy as np
import pytest

from refbnn import InputError, Moments, Network, load, predict, save
from refbnn.errors import InputRangeWarning
from refbnn.layers import Dense
from refbnn.network import schema


def some_net():
    net = Network([Dense(3, 2)], seed=0)
    net.input_range = (0.0, 1.0)
    return net


@pytest.mark.parametrize("factor", [255.0, -1.5, 2.1])
def test_inputs_far_outside_are_warned_of(factor):
    net, x = some_net(), np.full((2, 3), factor)
    for call in (
        lambda: net.propagate(x),
        lambda: net.propagate(Moments(x, np.ones_like(x))),
        lambda: net.sample(x, 2, seed=0),
        lambda: predict(net, x),
        lambda: predict(net, x, method="svi", n_samples=2),
        lambda: predict(net, x, method="full"),
    ):
        with pytest.warns(InputRangeWarning, match=f"from {factor:g} to .* trained on 0 to 1"):
            call()


def test_inputs_on_a_much_smaller_scale_are_warned_of():
    net = some_net()
    net.input_range = (0.0, 255.0)
    with pytest.warns(InputRangeWarning, match="from 0 to 1, but .* trained on 0 to 255"):
        net.propagate(np.array([[0.0, 0.5, 1.0]]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.propagate(np.zeros((2, 3)))  # blank, on any scale


def test_other_inputs_are_not():
    net = some_net()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.propagate(np.array([[-1.0, 0.0, 2.0]]))
        net.propagate(np.empty((0, 3)))
        Network([Dense(3, 2)]).propagate(np.full((1, 3), 1e6))


def test_a_file_keeps_the_range(tmp_path):
    net = some_net()
    save(tmp_path / "net.npz", net)
    assert load(tmp_path / "net.npz").input_range == (0.0, 1.0)
    assert net.with_noise(net.law).input_range == (0.0, 1.0)


@pytest.mark.parametrize("value", [[1.0, 0.0], [0.0], ["a", 1.0], [0.0, float("inf")], 3.0])
def test_a_range_in_a_file_that_is_none(value):
    header = schema.of_network(some_net()) | {"input_range": value}
    with pytest.raises(InputError, match=r"net\.npz: input_range .*; expected"):
        schema.network(header, "net.npz", 1000)
