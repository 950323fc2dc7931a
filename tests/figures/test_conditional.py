import numpy as np
import pytest
from scipy.special import entr, softmax

from figures import high_epistemic
from figures.support import conditional
from refbnn import Network, Posterior, predict
from refbnn.errors import InputError
from refbnn.layers import AvgPool2d, Conv2d, Dense, Flatten, ReLU
from refbnn.noise import Bimodal
from refbnn.prediction.softmax import by_quadrature


@pytest.mark.parametrize("more", [[], [ReLU(), Dense(2, 2)]])
def test_known_first_weights_leave_propagation(more):
    """Only the first layer is drawn, whatever follows, a third dense layer included."""
    net = Network([Dense(3, 4), ReLU(), Dense(4, 2), *more])
    known = net.parameters()
    for name in ("0.weight", "0.bias"):
        known[name] = Posterior(known[name].mean, 0.0 * known[name].scale)
    net.set_parameters(known)
    x = np.random.default_rng(0).standard_normal((5, 3))
    given, plain = conditional.propagate(net, x, 3, np.random.default_rng(1)), net.propagate(x)
    assert given.shape == (3, 5, 2)
    for k in range(3):
        np.testing.assert_allclose(given.mean[k], plain.mean, rtol=1e-12)
        np.testing.assert_allclose(given.var[k], plain.var, rtol=1e-12)


def test_a_second_convolution_is_drawn_too():
    """Known convolution, random one, pooling: the mean of a kernel's outputs keeps its spread.

    y = mean over 16 places of w x_ij, x = 1: its spread is that of w, not a quarter of it.
    """
    net = Network([Conv2d(1, 1, 1), Conv2d(1, 1, 1), AvgPool2d(4), Flatten(), Dense(1, 2)])
    none = {name: Posterior(np.zeros(p.shape), np.zeros(p.shape))
            for name, p in net.parameters().items()}  # fmt: skip
    known = {
        "0.weight": Posterior(np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1))),
        "1.weight": Posterior(np.zeros((1, 1, 1, 1)), np.full((1, 1, 1, 1), 2.0)),
        "4.weight": Posterior(np.array([[1.0], [0.0]]), np.array([[0.0], [0.5]])),
    }
    net.set_parameters(none | known)
    given = conditional.propagate(net, np.ones((1, 1, 4, 4)), 4000, np.random.default_rng(0))
    # Given w, the second logit's weight alone is left: 0.5² w².
    w = given.mean[:, 0, 0]
    np.testing.assert_array_equal(given.var[:, 0, 0], 0.0)
    np.testing.assert_allclose(given.var[:, 0, 1], 0.25 * w**2, rtol=1e-12)
    # The standard deviation of 4000 normal draws: 1/√8000 of it, four times.
    assert w.std() == pytest.approx(2.0, rel=4.0 / np.sqrt(8000))
    # All layers are drawn where no dense one follows.
    convolutions = Network([Conv2d(1, 1, 1), Conv2d(1, 1, 1)])
    given = conditional.propagate(convolutions, np.ones((2, 1, 4, 4)), 3, np.random.default_rng(0))
    sampled = convolutions.sample(np.ones((2, 1, 4, 4)), 3, np.random.default_rng(0))
    np.testing.assert_array_equal(given.var, 0.0)
    np.testing.assert_array_equal(given.mean, sampled)


@pytest.mark.parametrize("scale", [0.25, 3.0])
def test_probabilities_are_those_of_the_inner_variance(scale):
    """Known first weights leave one Gaussian; the integral over it is the other way."""
    net = Network([Dense(1, 1), ReLU(), Dense(1, 2)])
    none = {name: Posterior(np.zeros(p.shape), np.zeros(p.shape))
            for name, p in net.parameters().items()}  # fmt: skip
    spread = Posterior(np.array([1.0, 0.0]), np.array([scale, scale]))
    net.set_parameters(none | {"2.bias": spread})
    q = conditional.predict(net, np.zeros((1, 1)), n_draws=2000)
    exact = by_quadrature(net.propagate(np.zeros((1, 1))))
    assert exact.logits.var[0] == pytest.approx(scale**2)
    # 80,000 samples of numbers in [0, 1]: at most 0.5/283 each; 5 of these.
    np.testing.assert_allclose(q.probabilities, exact.probabilities, atol=0.009)
    np.testing.assert_allclose(q.mutual_information, exact.mutual_information, atol=0.009)


def test_moments_of_the_mixture_are_those_of_the_network():
    """One hidden layer: mean and variance are exact given the first weights, whatever the law."""
    net = Network([Dense(2, 3), ReLU(), Dense(3, 2)], law=Bimodal(0.95))
    net.set_parameters({n: Posterior(p.mean, 0.5 + p.scale) for n, p in net.parameters().items()})
    x = np.random.default_rng(0).standard_normal((4, 2))
    logits = conditional.predict(net, x, n_draws=4000).logits
    samples = net.sample(x, 40_000, np.random.default_rng(2))
    # Standard error of 4000 draws 1/63 of a spread, 5 of it; of a variance √2 times, and tails.
    spread = samples.std(axis=0)
    assert (np.abs(logits.mean - samples.mean(axis=0)) / spread).max() < 0.08
    np.testing.assert_allclose(np.sqrt(logits.var), spread, rtol=0.08)


def test_networks_that_switch_units_on_and_off():
    """Logits near 0 or L, independently, drawn here from the two peaks of the law's formula."""
    found = high_epistemic.as_network(0)
    C, L = high_epistemic.CLASSES, found["logit"]
    rng = np.random.default_rng(5)
    z = 0.99 * rng.choice([-1.0, 1.0], (50_000, C))
    z += np.sqrt(1 - 0.99**2) * rng.standard_normal(z.shape)
    aleatoric = entr(softmax(L * np.maximum(0.5 + 0.5 * z, 0.0), axis=1)).sum(axis=1)
    exact = np.log(C) - aleatoric.mean()  # no class is preferred
    # Entropies of samples spread by 0.45: 20,000 give 0.003, 5000 draws 0.006; 4 of these.
    assert found["sampled_mi_nats"] == pytest.approx(exact, abs=0.013)
    assert found["conditional_mi_nats"] == pytest.approx(exact, abs=0.026)
    assert found["diagonal_mi_nats"] > exact + 0.5


def test_constructed_case_is_underestimated():
    exact, joint = high_epistemic.disagreeing(9.22)
    np.testing.assert_allclose(joint.cov.sum(axis=2), 0.0, atol=1e-12)
    samples = 9.22 * np.eye(10)
    np.testing.assert_allclose(joint.cov[0], np.cov(samples.T, bias=True), atol=1e-12)
    assert exact == pytest.approx(np.log(10), abs=0.02)


def test_refusals():
    x = np.zeros((1, 2))
    with pytest.raises(InputError, match="correlated"):
        conditional.predict(Network([Dense(2, 2), Dense(2, 1)], correlated=[1]), x)
    with pytest.raises(InputError, match="at least 1"):
        conditional.predict(Network([Dense(2, 2)]), x, n_draws=0)
    with pytest.raises(InputError, match=r"expected \(2,\)"):
        conditional.predict(Network([Dense(2, 2)]), np.zeros((1, 3)))
    # A correlated first layer is sampled; a lone layer is sampled whole.
    lone = Network([Dense(2, 2)], correlated=[0])
    assert conditional.predict(lone, x).logits.shape == (1, 2)
    assert predict(Network([Dense(2, 2)]), x).logits.shape == (1, 2)
