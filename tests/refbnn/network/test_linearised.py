import numpy as np
import pytest

from refbnn import InputError, Moments, Network, Posterior
from refbnn.layers import (
    ELU,
    GELU,
    AvgPool2d,
    Conv2d,
    Dense,
    Flatten,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Residual,
    Sigmoid,
    Tanh,
)
from refbnn.layers.images.pool_first import pool_first
from refbnn.network import linearised

RNG = np.random.default_rng(5)


def covariance_of(samples):
    away = samples - samples.mean(axis=0)
    return np.einsum("sbk,sbl->bkl", away, away) / len(samples)


def test_one_hidden_layer_has_the_covariance_of_independent_units():
    net = Network([Dense(5, 7), ReLU(), Dense(7, 3)], seed=1)
    x = RNG.standard_normal((4, 5))
    hidden = Network([Dense(5, 7), ReLU()], seed=1).propagate(x)
    W, b = net.parameters()["2.weight"], net.parameters()["2.bias"]
    own = (hidden.mean**2 + hidden.var) @ W.var.T + b.var
    wanted = np.einsum("oi,bi,pi->bop", W.mean, hidden.var, W.mean)
    wanted += own[:, :, np.newaxis] * np.eye(3)
    joint = net.propagate(x, method="linearised")
    np.testing.assert_allclose(joint.cov, wanted, rtol=1e-12, atol=1e-15)  # rounding
    np.testing.assert_array_equal(joint.mean, net.propagate(x).mean)


@pytest.mark.parametrize("activation", [ReLU(), LeakyReLU(0.2), ELU(), GELU(), Tanh(), Sigmoid()])
def test_deep_networks_have_the_sampled_covariance(activation):
    layers = [Dense(6, 40), activation, Dense(40, 40), activation, Dense(40, 3)]
    net = Network([*layers[:4], Residual([Dense(40, 40), activation]), layers[4]], seed=2)
    x = RNG.standard_normal((3, 6))
    n = 4000
    samples = net.sample(x, n, np.random.default_rng(0))
    joint = net.propagate(x, method="linearised")
    sd = np.sqrt(joint.var)
    # Five standard errors of a covariance of Gaussians, and 5 % of what first order leaves out.
    margin = (5 * np.sqrt(2 / n) + 0.05) * sd[:, :, np.newaxis] * sd[:, np.newaxis]
    assert (np.abs(joint.cov - covariance_of(samples)) < margin).all()


@pytest.mark.parametrize("centre", [0.0, -0.1, -0.2])
def test_a_uniform_image_reaches_the_bound_of_what_is_left_out(centre):
    """All positions are one variable f(z): variance n² Var f, of which (n² − n) r are left out."""
    net = Network([Conv2d(1, 1, 3), ReLU(), Flatten(), Dense(36, 1)], input_shape=(1, 8, 8))
    own = {
        "0.weight": Posterior(np.full((1, 1, 3, 3), centre), np.full((1, 1, 3, 3), 0.3)),
        "0.bias": Posterior(np.zeros(1), np.full(1, 0.3)),
        "3.weight": Posterior(np.ones((1, 36)), np.full((1, 36), 1e-12)),
        "3.bias": Posterior(np.zeros(1), np.full(1, 1e-12)),
    }
    net.set_parameters(own)
    joint = net.propagate(np.ones((1, 1, 8, 8)), method="linearised")
    z, n = Moments(np.array([[9 * centre]]), np.array([[10 * 0.3**2]])), 36
    var, gain = ReLU().propagated(z).var, ReLU().gain(z)
    rest = var - gain**2 * z.var
    np.testing.assert_allclose(joint.var + (n**2 - n) * rest, n**2 * var, rtol=1e-12)
    # Rounded as in `refbnn.network.linearised`.
    stated = {0.0: 1.35, -0.1: 2.5, -0.2: 7.5}[centre]
    assert (n**2 * var / joint.var).item() == pytest.approx(stated, rel=0.02)
    samples = net.sample(np.ones((1, 1, 8, 8)), 4000, np.random.default_rng(0))
    fourth = ((samples - samples.mean()) ** 4).mean()
    error = np.sqrt((fourth - samples.var() ** 2) / 4000)
    assert abs(samples.var() - n**2 * var.item()) < 5 * error


def test_random_inputs_add_their_covariance():
    net = Network([Dense(3, 2)], seed=0)
    W = net.parameters()["0.weight"]
    x = Moments(RNG.standard_normal((2, 3)), RNG.uniform(0.5, 1.0, (2, 3)))
    joint = net.propagate(x, method="linearised")
    wanted = np.einsum("oi,bi,pi->bop", W.mean, x.var, W.mean)
    np.testing.assert_allclose(joint.cov[:, 0, 1], wanted[:, 0, 1], rtol=1e-13)
    np.testing.assert_allclose(joint.var, net.propagate(x).var, rtol=1e-13)


def test_a_convolution_shares_its_noise():
    net = Network([Conv2d(2, 3, 2, stride=2), Flatten(), Dense(12, 2)], input_shape=(2, 4, 4))
    x = RNG.standard_normal((2, 2, 4, 4))
    n = 20_000
    joint = net.propagate(x, method="linearised")
    sampled = covariance_of(net.sample(x, n, np.random.default_rng(1)))
    margin = 5 * np.sqrt(2 / n) * np.sqrt(joint.var[:, :, np.newaxis] * joint.var[:, np.newaxis])
    assert (np.abs(joint.cov - sampled) < margin).all()  # linear: five standard errors alone
    assert (net.propagate(x).var < 0.98 * joint.var).any()  # which diagonal moments miss


@pytest.mark.parametrize("pool", [MaxPool2d(2), MaxPool2d(2, method="exact"), AvgPool2d(2)])
def test_no_inputs_give_no_outputs(pool):
    layers = [Conv2d(1, 2, 3), ReLU(), pool, Flatten(), Dense(8, 3)]
    net, x = Network(layers, input_shape=(1, 6, 6)), np.ones((0, 1, 6, 6))
    assert net.propagate(x).shape == (0, 3)
    for given in (x, Moments(x, x)):
        joint = net.propagate(given, method="linearised")
        assert (joint.mean.shape, joint.cov.shape) == ((0, 3), (0, 3, 3))
    for n in range(1, 6):
        activations = list(linearised.forth(net.layers[:n], net.by_layer(net.parameters())[:n], x))
        order = pool_first(net.layers[:n])
        own = net.by_layer(net.parameters())[:n]
        assert linearised.variances(order, own, activations, np.arange(2)).shape == (0, 2)


class Doubled:
    """A layer without a rule."""

    def parameter_shapes(self):
        return {}

    def output_shape(self, shape):
        return shape

    def forward(self, x, weights):
        return 2 * x

    def backward(self, x, weights, grad_y, need_grad_x=True):
        return 2 * grad_y, {}

    def moments(self, x, posteriors):
        return Moments(2 * x.mean, 4 * x.var)


def test_errors_name_the_way_out():
    net = Network([Dense(2, 2), Doubled()])
    with pytest.raises(InputError, match=r"Doubled.* has no rule; expected a method linearise"):
        net.propagate(np.ones((1, 2)), method="linearised")
    with pytest.raises(InputError, match="expected one row, as after Flatten"):
        Network([Conv2d(1, 1, 2)]).propagate(np.ones((1, 1, 3, 3)), method="linearised")
    wide = Network([Dense(1, 20_000)])
    with pytest.raises(InputError, match=r"20000 outputs.*or the method 'pfp'"):
        wide.propagate(np.ones((1, 1)), method="linearised")
    with pytest.raises(InputError, match="method"):
        net.propagate(np.ones((1, 2)), method="linear")
    with pytest.raises(InputError, match="correlated weights"):
        Network([Dense(2, 2)], correlated=[0]).propagate(np.ones((1, 2)), method="linearised")
