import numpy as np
import pytest

from refbnn import InputError, Moments, Posterior
from refbnn.layers import Dense, ReLU, dense
from refbnn.layers.activations import relu

SIZES = [(1, 1, 1), (3, 5, 2), (2, 1, 7)]


def some_weights(rng, n_in, n_out):
    return {"weight": rng.standard_normal((n_out, n_in)), "bias": rng.standard_normal(n_out)}


def complex_step(function, array, step=1e-30):
    """Gradient of a real analytic function, exact to rounding: Im f(x + ih)/h."""
    grad = np.empty(array.shape)
    for index in np.ndindex(array.shape):
        shifted = array.astype(complex)
        shifted[index] += 1j * step
        grad[index] = function(shifted).imag / step
    return grad


@pytest.mark.parametrize(("batch", "n_in", "n_out"), SIZES)
def test_dense_forward_is_the_written_sum(batch, n_in, n_out):
    rng = np.random.default_rng(0)
    weights, x = some_weights(rng, n_in, n_out), rng.standard_normal((batch, n_in))
    got = Dense(n_in, n_out).forward(x, weights)
    for r in range(batch):
        for o in range(n_out):
            terms = [weights["weight"][o, i] * x[r, i] for i in range(n_in)]
            assert got[r, o] == pytest.approx(sum(terms) + weights["bias"][o], rel=1e-13, abs=1e-13)


@pytest.mark.parametrize(("batch", "n_in", "n_out"), SIZES)
def test_dense_backward_matches_complex_step(batch, n_in, n_out):
    rng = np.random.default_rng(1)
    weights, x = some_weights(rng, n_in, n_out), rng.standard_normal((batch, n_in))
    g = rng.standard_normal((batch, n_out))
    grad_x, grads = Dense(n_in, n_out).backward(x, weights, g)
    assert grad_x is not None

    def loss(x, weight, bias):
        return (g * dense.forward(x, weight, bias)).sum()

    w, b = weights["weight"], weights["bias"]
    np.testing.assert_allclose(grad_x, complex_step(lambda v: loss(v, w, b), x), atol=1e-13)
    np.testing.assert_allclose(
        grads["weight"], complex_step(lambda v: loss(x, v, b), w), atol=1e-13
    )
    np.testing.assert_allclose(grads["bias"], complex_step(lambda v: loss(x, w, v), b), atol=1e-13)


def test_leading_sample_axes_broadcast():
    rng = np.random.default_rng(2)
    x, g = rng.standard_normal((4, 3)), rng.standard_normal((6, 4, 2))
    weights = {"weight": rng.standard_normal((6, 2, 3)), "bias": rng.standard_normal((6, 2))}
    layer = Dense(3, 2)
    y = layer.forward(x, weights)
    grad_x, grads = layer.backward(x, weights, g)
    assert grad_x is not None
    for s in range(6):
        own = {name: array[s] for name, array in weights.items()}
        np.testing.assert_allclose(y[s], layer.forward(x, own))
        grad_x_s, grads_s = layer.backward(x, own, g[s])
        assert grad_x_s is not None
        np.testing.assert_allclose(grad_x[s], grad_x_s)
        for name in grads:
            np.testing.assert_allclose(grads[name][s], grads_s[name])


@pytest.mark.parametrize(("batch", "n_in", "n_out"), SIZES)
def test_dense_moments_match_the_loops(batch, n_in, n_out):
    rng = np.random.default_rng(3)
    weight = Posterior(rng.standard_normal((n_out, n_in)), rng.uniform(0, 1, (n_out, n_in)))
    bias = Posterior(rng.standard_normal(n_out), rng.uniform(0, 1, n_out))
    m, v = rng.standard_normal((batch, n_in)), rng.uniform(0, 1, (batch, n_in))
    layer, posteriors = Dense(n_in, n_out), {"weight": weight, "bias": bias}
    for x, var in ((Moments(m, v), v), (m, np.zeros_like(v))):
        got = layer.moments(x, posteriors)
        mean, variance = dense.moments_loops(
            m, var, weight.mean, weight.scale, bias.mean, bias.scale
        )
        np.testing.assert_allclose(got.mean, mean, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(got.var, variance, rtol=1e-13)


def test_dense_moments_are_those_of_every_outcome():
    """Weights and inputs of two values each: mean and variance by listing all outcomes."""
    mu, sigma, m, s = np.array([[0.7, -1.2]]), np.array([[0.3, 0.5]]), [1.5, -0.4], [0.6, 0.9]
    signs = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1)
    y = (mu[0, 0] + sigma[0, 0] * signs[0]) * (m[0] + s[0] * signs[2]) + (
        mu[0, 1] + sigma[0, 1] * signs[1]
    ) * (m[1] + s[1] * signs[3])
    bias = Posterior(np.zeros(1), np.zeros(1))
    x = Moments(np.array([m]), np.array([s]) ** 2)
    got = dense.moments(x, Posterior(mu, sigma), bias)
    assert got.mean[0, 0] == pytest.approx(y.mean(), rel=1e-14)
    assert got.var[0, 0] == pytest.approx(y.var(), rel=1e-14)


def test_variance_survives_where_second_moments_cancel():
    """Input 1e8 with variance 1e-4 through a known weight: var' = v µ², to rounding."""
    x = Moments(np.array([[1e8]]), np.array([[1e-4]]))
    weight, bias = Posterior(np.array([[3.0]]), np.zeros((1, 1))), Posterior(*np.zeros((2, 1)))
    assert dense.moments(x, weight, bias).var[0, 0] == pytest.approx(9e-4, rel=1e-15)


def test_relu_forward_backward_and_known_input():
    x = np.array([-1.5, -0.0, 0.0, 2.0])
    np.testing.assert_array_equal(relu.forward(x), [0, 0, 0, 2])
    np.testing.assert_array_equal(relu.backward(x, np.full(4, 3.0)), [0, 0, 0, 3])
    known = ReLU().moments(x, {})
    np.testing.assert_array_equal(known.mean, relu.forward(x))
    np.testing.assert_array_equal(known.var, 0)


@pytest.mark.parametrize(
    ("mean", "var", "words"),
    [
        (np.zeros(3), np.zeros(2), "same shape"),
        (np.zeros(2), np.array([1.0, -1e-300]), "at least 0"),
        (np.zeros(2), np.array([1.0, np.nan]), "at least 0"),
        (np.zeros(2), np.array([1.0, np.inf]), "at least 0"),
        (np.array([0.0, np.nan]), np.zeros(2), "finite"),
    ],
)
def test_bad_moments_are_refused(mean, var, words):
    with pytest.raises(InputError, match=words):
        Moments(mean, var)


@pytest.mark.parametrize(
    ("mean", "scale", "words"),
    [
        (np.zeros(3), np.zeros(2), "same shape"),
        (np.zeros(2), np.array([1.0, -1.0]), "negative scale"),
        (np.zeros(2), np.array([1.0, np.nan]), "finite"),
    ],
)
def test_bad_posteriors_are_refused(mean, scale, words):
    with pytest.raises(InputError, match=words):
        Posterior(mean, scale)


def test_bad_sizes_are_refused():
    with pytest.raises(InputError, match="at least 1"):
        Dense(0, 3)
    with pytest.raises(InputError, match=r"input has shape \(4,\)"):
        Dense(3, 2).output_shape((4,))
