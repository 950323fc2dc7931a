"""Compiled linearised propagation against the float64 reference, and its errors."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from kernels import compile_network
from refbnn.errors import InputError
from refbnn.layers import (
    ELU,
    GELU,
    Conv2d,
    Dense,
    Flatten,
    Layer,
    LeakyReLU,
    Normalise,
    ReLU,
    Residual,
    Sigmoid,
    Tanh,
)
from refbnn.layers.moments import JointMoments
from refbnn.layers.posterior import Posterior
from refbnn.network.input_range import InputRangeWarning
from refbnn.network.network import Network

# Kernels hold moments to 1e-5; a covariance relative to the product of both deviations.
TOLERANCE = 1e-5
ACTIVATIONS: list[Layer] = [
    *(ReLU(), LeakyReLU(0.2), LeakyReLU(-0.5), ELU(1.5), GELU(), Sigmoid(), Tanh())
]


def noisy(layers, seed=0, **options):
    """A network whose own variances, gains and covariances all matter."""
    net, rng = Network(layers, seed=seed, **options), np.random.default_rng(seed)
    net.set_parameters(
        {
            name: Posterior(
                p.mean + 0.1 * rng.standard_normal(p.shape), rng.uniform(0.05, 0.3, p.shape)
            )
            for name, p in net.parameters().items()
        }
    )
    return net


def linearised(net, batch, x, target="host", schedule="hand", device="local", records=None):
    where: dict[str, Any] = {"device": device, "records": records, "method": "linearised"}
    y = compile_network(net, batch, target, schedule, **where)(x)
    assert isinstance(y, JointMoments)
    return y


def assert_as_reference(net, batch, *options, **more):
    x = np.random.default_rng(7).standard_normal((batch, *net.input_shape))
    y = linearised(net, batch, x, *options, **more)
    expected = net.propagate(x, method="linearised")
    sd = np.sqrt(expected.var)
    assert y.mean.dtype == y.cov.dtype == np.float32
    assert (np.abs(y.mean - expected.mean) <= TOLERANCE * (np.abs(expected.mean) + sd)).all()
    error = np.abs(y.cov - expected.cov)
    assert (error <= TOLERANCE * sd[:, :, np.newaxis] * sd[:, np.newaxis]).all()
    assert np.array_equal(y.cov, y.cov.swapaxes(1, 2))
    return y


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_activations(activation):
    net = noisy([Dense(5, 9), Dense(9, 6), activation, Dense(6, 3)])
    assert_as_reference(net, 3)


@pytest.mark.parametrize(
    ("k", "batch"), [(1, 3), (2, 1), (5, 16), (10, 1), (10, 3), (13, 16), (17, 2), (32, 1)]
)
def test_numbers_of_outputs(k, batch):
    """Odd and even numbers, below and above those that are unrolled, whole vectors and not."""
    net = noisy([Dense(7, 19), Dense(19, 11), ReLU(), Dense(11, k)])
    assert_as_reference(net, batch)


ODD = [
    pytest.param([Dense(13, 1)], id="one layer of one output"),
    pytest.param([Dense(5, 3), Sigmoid()], id="activation last"),
    pytest.param([Dense(5, 3), ReLU(), Tanh()], id="two activations last"),
    pytest.param([Dense(5, 3), Dense(3, 4), Dense(4, 2)], id="no activation"),
    pytest.param(
        [Normalise(0.2, 1.5), Dense(5, 6), Normalise(np.arange(6.0), 1.0 + np.arange(6.0)), ReLU(),
         Dense(6, 2)],
        id="normalised twice",
    ),
    pytest.param([ReLU(), Dense(5, 6), ReLU(), Dense(6, 2)], id="known activation"),
    pytest.param([ReLU()], id="no weights"),
    pytest.param([Residual([Dense(5, 5), ReLU()]), Dense(5, 3)], id="residual of known inputs"),
    pytest.param(
        [Dense(5, 7), ReLU(), Residual([Dense(7, 4), ReLU(), Dense(4, 7)]), ReLU(), Dense(7, 3)],
        id="residual",
    ),
    pytest.param(
        [Dense(5, 3), Residual([Dense(3, 4), Tanh(), Dense(4, 3), GELU()])], id="residual last"
    ),
    pytest.param([Dense(5, 3), Residual([Sigmoid()]), Tanh()], id="residual without weights"),
    pytest.param(
        [Dense(5, 4), Residual([Residual([Dense(4, 4), ReLU()]), Dense(4, 4)]), Dense(4, 2)],
        id="residual in residual",
    ),
]  # fmt: skip


@pytest.mark.parametrize("layers", ODD)
def test_odd_networks(layers):
    net = noisy(layers, input_shape=(13 if layers[0] == Dense(13, 1) else 5,))
    assert_as_reference(net, 3)


def test_images_that_are_flattened_known():
    layers = [Normalise(0.3, 0.5), Flatten(), Dense(18, 8), ReLU(), Dense(8, 3)]
    assert_as_reference(noisy(layers, input_shape=(2, 3, 3)), 3)
    assert_as_reference(noisy(layers[1:], input_shape=(2, 3, 3)), 1)


@pytest.mark.parametrize("schedule", ["default", "tuned"])
def test_schedules(schedule, tmp_path):
    net = noisy([Dense(6, 8), ReLU(), Dense(8, 7), ReLU(), Dense(7, 3)])
    assert_as_reference(net, 2, "host", schedule, records=tmp_path)


def test_emulated_arm():
    net = noisy([Dense(9, 10), Tanh(), Dense(10, 7), ReLU(), Dense(7, 5)])
    assert_as_reference(net, 3, "cortex-a72", device="emulated")


def test_variance_factor_is_left_out():
    """The factor makes up for what diagonal propagation drops, and nothing is dropped here."""
    net = noisy([Dense(5, 4), ReLU(), Dense(4, 3)])
    x = np.ones((1, 5))
    plain, other = (linearised(each, 1, x) for each in (net, net.with_variance_factor(2.0)))
    assert np.array_equal(plain.cov, other.cov)


def test_copies_and_pickles():
    fast = compile_network(noisy([Dense(4, 3)]), 1, method="linearised")
    x = np.ones((1, 4))
    for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert np.array_equal(other(x).cov, fast(x).cov)


def test_errors_of_inputs_and_overflow():
    net = noisy([Dense(4, 3), ReLU(), Dense(3, 2)])
    net.input_range = (0.0, 1.0)
    fast = compile_network(net, 1, method="linearised")
    with pytest.raises(InputError, match="x holds NaN"):
        fast([[0.0, np.nan, 0.0, 0.0]])
    with pytest.warns(InputRangeWarning):
        fast(np.full((1, 4), 1e3))
    with pytest.raises(InputError, match="too large for float32"):
        fast(np.full((1, 4), 1e30))


def test_negative_covariance_is_no_fault():
    """Opposite means in the last layer: the covariance of both outputs is below 0."""
    net = noisy([Dense(4, 3), ReLU(), Dense(3, 2)])
    weights = net.parameters()
    mean = np.array([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]])
    net.set_parameters(weights | {"2.weight": Posterior(mean, weights["2.weight"].scale)})
    assert (assert_as_reference(net, 1).cov[:, 0, 1] < 0.0).all()


def test_errors_of_compile_network():
    dense = noisy([Dense(4, 3)])
    with pytest.raises(InputError, match="form is 'mean'; expected 'variance'"):
        compile_network(dense, 1, form="mean", method="linearised")
    with pytest.raises(InputError, match="method 'full' is unknown; expected one of: pfp, lin"):
        compile_network(dense, 1, method="full")
    with pytest.raises(InputError, match="correlated weights; expected independent"):
        compile_network(Network([Dense(4, 3)], correlated=[0]), 1, method="linearised")
    images = Network([Conv2d(1, 2, 3)], input_shape=(1, 4, 4))
    with pytest.raises(InputError, match=r"shape \(2, 2, 2\); expected one row"):
        compile_network(images, 1, method="linearised")
    wide = Network([Dense(1, 20_000)])
    with pytest.raises(InputError, match="choose a smaller batch, or the method 'pfp'"):
        compile_network(wide, 2, method="linearised")
