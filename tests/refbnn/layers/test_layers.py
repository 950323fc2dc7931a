from typing import Any

import numpy as np
import pytest

from refbnn import InputError, Moments, Posterior
from refbnn.layers import (
    ELU,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Residual,
    dense,
)

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
    np.testing.assert_array_equal(ReLU().value(x), [0, 0, 0, 2])
    np.testing.assert_array_equal(ReLU().grad_input(x, np.full(4, 3.0)), [0, 0, 0, 3])
    known = ReLU().moments(x, {})
    np.testing.assert_array_equal(known.mean, ReLU().value(x))
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


@pytest.mark.parametrize(
    ("layer", "line"),
    [
        (Dense(784, 100), "Dense(784, 100)"),
        (Conv2d(1, 6, 5, padding=2), "Conv2d(1, 6, 5, padding=2)"),
        (Conv2d(4, 6, (3, 2), 1, (0, 1), 2), "Conv2d(4, 6, (3, 2), padding=(0, 1), groups=2)"),
        (MaxPool2d(2), "MaxPool2d(2)"),
        (MaxPool2d((2, 3), 1, method="tree"), "MaxPool2d((2, 3), stride=1, method='tree')"),
        (AvgPool2d(3, padding=1), "AvgPool2d(3, padding=1)"),
        (ELU(), "ELU()"),
        (LeakyReLU(0.5), "LeakyReLU(slope=0.5)"),
        (Residual([Dense(2, 2), ReLU()]), "Residual([Dense(2, 2), ReLU()])"),
    ],
)
def test_a_layer_prints_as_the_call_that_makes_it(layer, line):
    assert repr(layer) == line
    assert eval(line) == layer


def test_batch_norm_prints_its_channels():
    layer = BatchNorm2d(np.zeros(3), np.ones(3), np.ones(3), np.zeros(3))
    assert repr(layer) == "BatchNorm2d(3 channels, eps=1e-05)"


def test_sizes_may_be_integers_of_numpy():
    four: Any = np.int64(4)
    three: Any = np.int8(3)
    assert Dense(four, three) == Dense(4, 3)
    assert type(Dense(four, 3).in_features) is int
    assert Conv2d(four, four, three, groups=four) == Conv2d(4, 4, 3, groups=4)
    assert MaxPool2d(three) == MaxPool2d(3)
    bad: Any
    for bad in (True, 2.0, "2", None, [2]):
        with pytest.raises(InputError, match=r"Dense: out_features is .* whole number"):
            Dense(2, bad)


def test_moments_and_posteriors_of_lists():
    make: Any
    bad: Any
    for make in (Moments, Posterior):
        np.testing.assert_array_equal(make([[1.0, 2.0]], [[0, 3]]).mean, [[1.0, 2.0]])
        for bad in ([[1.0], [1.0, 2.0]], ["a"], [None], [1j], None):
            with pytest.raises(InputError, match="expected"):
                make(bad, bad)
        two = np.array([1.0, 2.0])
        one = make(two, two)
        assert (one == make(two, two)) is False  # by identity, no array of truths
        assert one in (one,)


def test_rows_of_moments():
    x = Moments(np.arange(12.0).reshape(4, 3), np.arange(12.0).reshape(4, 3) + 1)
    assert x[1:3].shape == (2, 3)
    np.testing.assert_array_equal(x[1:3].mean, x.mean[1:3])
    np.testing.assert_array_equal(x[-1].var, [10, 11, 12])
    assert x[np.array([True, False, True, False])].shape == (2, 3)
    with pytest.raises(TypeError, match="not iterable"):  # rows would pass for mean and variance
        _, _ = x[:2]  # type: ignore[misc]
