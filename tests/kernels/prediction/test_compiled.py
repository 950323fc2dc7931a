"""Predictions of compiled networks: their second function, its statistics, and its errors."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
from tvm import te

from kernels import compile_network, compile_sampled
from kernels.devices import targets
from kernels.prediction import table
from kernels.program.compiled import compiled
from kernels.program.program import Padded, Program, Rows
from refbnn import Moments, Network, predict
from refbnn.errors import InputError
from refbnn.layers import Dense, Flatten, MaxPool2d, ReLU
from refbnn.layers.moments import JointMoments
from refbnn.layers.posterior import Posterior
from refbnn.network.input_range import InputRangeWarning
from refbnn.prediction.result import class_joint, from_logit_samples
from refbnn.prediction.softmax import by_quadrature, by_table

STATISTICS = ("probabilities", "aleatoric", "entropy", "mutual_information")
NET = Network([Dense(6, 8), ReLU(), Dense(8, 3)], seed=4)
X = np.random.default_rng(5).standard_normal((3, 6))


@pytest.fixture(scope="module")
def fast():
    return compile_network(NET, 3)


def test_the_moments_of_a_prediction_have_the_bits_of_a_call(fast):
    found, moments = fast.predict(X), fast(X)
    np.testing.assert_array_equal(found.logits.mean, moments.mean)
    np.testing.assert_array_equal(found.logits.var, moments.var)


def test_statistics_are_those_of_the_reference_and_belong_together(fast):
    found, expected = fast.predict(X), predict(NET, X)
    for name in STATISTICS:  # logits agree to 1e-6
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=3e-6)
    parts = found.aleatoric + found.mutual_information
    np.testing.assert_allclose(parts, found.entropy, atol=1e-6)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found[1:].mutual_information, found.mutual_information[1:])


def test_results_are_fresh_and_repeat(fast):
    first = fast.predict(X)
    kept = {name: getattr(first, name).copy() for name in STATISTICS}
    fast.predict(-X)
    again = fast.predict(X)
    for name in STATISTICS:
        np.testing.assert_array_equal(getattr(first, name), kept[name])
        np.testing.assert_array_equal(getattr(again, name), kept[name])


def test_the_second_function_shares_the_weights(fast):
    fast.predict(X)
    kernel, _ = fast._predictor
    assert fast.kernel.weights
    for mine, theirs in zip(fast.kernel.weights, kernel.weights, strict=False):
        assert np.shares_memory(mine, theirs)


def test_rows_too_wide_for_the_kernel_go_to_the_reference(fast):
    x = X * [[1.0], [1e3], [1.0]]
    found = fast.predict(x)
    assert found.logits.var[1].max() > 16.0**2 > found.logits.var[[0, 2]].max()
    expected = by_quadrature(fast(x)[1:2])
    for name in STATISTICS:  # float64 results, stored as float32
        np.testing.assert_allclose(getattr(found, name)[1], getattr(expected, name)[0], rtol=1e-6)
    plain = fast.predict(X)
    for name in STATISTICS:
        np.testing.assert_array_equal(getattr(found, name)[[0, 2]], getattr(plain, name)[[0, 2]])


def test_logits_near_the_largest_of_float32():
    """They go to the reference: their differences overflow in float32."""
    net = Network([Dense(1, 3)], seed=0)
    net.set_parameters(
        {
            "0.weight": Posterior(np.array([[2.4e38], [-2.4e38], [0.0]]), np.full((3, 1), 1e-3)),
            "0.bias": Posterior(np.zeros(3), np.full(3, 1e-3)),
        }
    )
    found = compile_network(net, 1, method="linearised").predict([[1.0]])
    np.testing.assert_array_equal(found.probabilities, [[1.0, 0.0, 0.0]])
    np.testing.assert_array_equal(found.entropy, [0.0])


@pytest.mark.parametrize("n_outputs", [1, 2, 3])
def test_covariances_of_the_outputs(n_outputs):
    """A program whose outputs are its inputs, with one covariance, 1 at least and 900 at most."""
    scale = np.linspace(1.0, 30.0 if n_outputs < 3 else 3.0, n_outputs)
    cov = np.outer(scale, scale) * (0.5 + 0.5 * np.eye(n_outputs)) * 10.0
    program = Program(targets.target("host"), 2)
    x = program.known(Rows(n_outputs, program.target.lanes))
    layout = Padded((2, n_outputs, n_outputs), program.target.lanes)
    values = np.zeros(layout.tensor_shape()[1:])
    values[:, :n_outputs] = cov
    constant = program.weight("cov", values)
    shape = layout.tensor_shape()
    mean = te.compute(x.mean.shape, lambda *i: x.mean(*i) + 0, name="mean")
    joint = te.compute(shape, lambda b, *i: constant(*i), name="joint")
    program.give_arrays(x.layout, mean)
    program.give_arrays(layout, joint)
    network = compiled(program, "default", None, "local", rule=partial(table.add, name="predict"))
    z = np.random.default_rng(1).standard_normal((2, n_outputs))
    found = network.predict(z)
    moments = JointMoments(z, np.stack([cov, cov]))
    expected = by_table(class_joint(moments))
    for name in STATISTICS:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-5)
    np.testing.assert_allclose(found.logits.var, expected.logits.var, rtol=1e-6)


def test_images_and_the_deterministic_network():
    net = Network([MaxPool2d(2), Flatten(), Dense(4, 2)], input_shape=(1, 4, 4), seed=1)
    x = np.random.default_rng(0).standard_normal((1, 1, 4, 4))
    found, expected = compile_network(net, 1).predict(x), predict(net, x)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
    means = compile_network(net, 1, form="mean").predict(x)
    p = np.exp(expected.logits.mean) / np.exp(expected.logits.mean).sum()
    np.testing.assert_allclose(means.probabilities, p, atol=1e-6)
    np.testing.assert_array_equal(means.mutual_information, 0)
    np.testing.assert_allclose(means.aleatoric, -(p * np.log(p)).sum(), atol=1e-6)


def test_bad_input_is_answered_as_by_a_call(fast):
    for x, message in [
        (np.zeros((3, 5)), r"x has shape \(3, 5\); expected \(3, 6\)"),
        (np.full((3, 6), np.nan), "x holds NaN, infinity"),
        (np.full((3, 6), 1e30), "too large for float32"),
    ]:
        with pytest.raises(InputError, match=message):
            fast.predict(x)
    assert np.isfinite(fast.predict(X).entropy).all()


def test_inputs_far_outside_the_range_trained_on_draw_the_warning():
    net = Network([Dense(2, 2)], seed=0)
    net.input_range = (-1.0, 1.0)
    with pytest.warns(InputRangeWarning):
        compile_network(net, 1).predict(np.full((1, 2), 1e3))


def test_copies_predict(fast):
    expected = fast.predict(X)
    np.testing.assert_array_equal(copy.deepcopy(fast).predict(X).entropy, expected.entropy)


def test_the_a72_agrees(fast):
    arm = compile_network(NET, 3, target="cortex-a72", device="emulated")
    found, expected = arm.predict(X), fast.predict(X)
    for name in STATISTICS:  # rounding of the logits
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=3e-6)


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_samples_of_a_sampled_network(n_outputs):
    net = Network([Dense(6, 8), ReLU(), Dense(8, n_outputs)], seed=2)
    fast = compile_sampled(net, 3, 7)
    outputs, found = fast(X, 5).astype(float), fast.predict(X, 5)
    moments = Moments(outputs.mean(axis=0), outputs.var(axis=0, ddof=1))
    expected = from_logit_samples(outputs, moments)
    for name in STATISTICS:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-6)
    np.testing.assert_allclose(found.logits.var, expected.logits.var, rtol=1e-5)
    for mine, theirs in zip(fast.kernel.weights, fast._predictor.weights, strict=True):
        assert np.shares_memory(mine, theirs)
    with pytest.raises(InputError, match="x holds NaN"):
        fast.predict(np.full((3, 6), np.nan), 5)
    for large in (5e37, 3e38):  # the variance overflows before differences of samples do
        with pytest.raises(InputError, match="outputs too large for float32"):
            fast.predict(np.full((3, 6), large), 5)
