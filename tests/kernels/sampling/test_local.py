"""Kernels that draw outputs of layers against the reference, which has the same noise."""

import pickle

import numpy as np
import pytest

import refbnn
from kernels.devices import targets
from kernels.sampled_network import compile_sampled
from refbnn import Network
from refbnn.errors import InputError
from refbnn.layers import Conv2d, Dense, Flatten, Layer, ReLU
from refbnn.noise import Bimodal
from refbnn.prediction.result import from_logit_samples
from verification.kernels.local_sampling import network_bound

IMAGES: list[Layer] = [Conv2d(1, 2, 2), Flatten(), Dense(8, 2)]


def net():
    layers: list[Layer] = [ReLU(), Dense(31, 45), ReLU(), Dense(45, 17), ReLU(), Dense(17, 3)]
    return Network(layers, seed=1)


def check(batch, n_samples, seed, **options):
    x = np.random.default_rng(batch).standard_normal((batch, 31))
    got = compile_sampled(net(), batch, n_samples, local=True, **options)(x, seed)
    expected = net().sample(x, n_samples, seed=seed, local=True)
    bound = network_bound(net(), x, n_samples, seed)
    assert got.dtype == np.float32
    assert got.shape == (n_samples, batch, 3)
    assert (np.abs(got - expected) <= bound).all()
    assert bound.max() <= 1e-3 * np.abs(expected).max()  # so the bound does say something


# Samples: fewer than a group of eight, whole groups, and a last group that is not full.
@pytest.mark.parametrize(
    ("batch", "n_samples", "schedule"),
    [(1, 1, "hand"), (1, 30, "hand"), (7, 8, "hand"), (3, 11, "default"), (23, 17, "hand")],
)
def test_network_is_the_reference_in_float32(batch, n_samples, schedule):
    check(batch, n_samples, 2**40 + 1, schedule=schedule)


@pytest.mark.parametrize(("lanes", "registers"), [(4, 32), (8, 16)])
def test_the_same_numbers_for_narrower_registers(lanes, registers, monkeypatch):
    narrow = targets.Target("narrow", lanes, registers, targets.target("host").llvm)
    monkeypatch.setattr(targets, "target", lambda name: narrow)
    check(2, 9, 2**64 - 1)


def test_zeros_of_the_inputs_change_nothing():
    wide = Network([Dense(64, 20)], seed=3)
    x = np.random.default_rng(4).random((2, 64))
    x[:, 8:50] = 0.0
    skipping, whole = (
        compile_sampled(wide, 2, 5, constant_time=constant, local=True)
        for constant in (False, True)
    )
    np.testing.assert_array_equal(skipping(x, 1), whole(x, 1))


@pytest.fixture(scope="module")
def small():
    return compile_sampled(Network([Dense(3, 2)], seed=6), 2, 5, local=True)


def test_predictions_are_those_of_the_samples(small):
    x = np.random.default_rng(8).random((2, 3))
    logits = small(x, seed=3).astype(float)
    expected = from_logit_samples(
        logits, refbnn.Moments(logits.mean(axis=0), logits.var(axis=0, ddof=1))
    )
    got = small.predict(x, seed=3)
    # Rounding of sums of five samples, found in float32.
    for name in ("probabilities", "aleatoric", "entropy", "mutual_information"):
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), atol=5e-7)
    np.testing.assert_allclose(got.logits.mean, expected.logits.mean, atol=5e-7)
    np.testing.assert_allclose(got.logits.var, expected.logits.var, rtol=2e-6)


def test_a_copy_is_compiled_in_the_same_way(small):
    x = np.ones((2, 3))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(small))(x, 4), small(x, 4))


@pytest.mark.parametrize(
    ("x", "message"),
    [(np.full((2, 3), np.nan), "NaN, infinity"), (np.full((2, 3), 3e38), "too large for float32")],
)
def test_bad_input(small, x, message):
    with pytest.raises(InputError, match=message):
        small(x, 1)


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (Network([Dense(3, 2)], law=Bimodal()), "the law is Bimodal; expected Gaussian"),
        (Network([Dense(3, 2)], correlated=[0]), "correlated weights"),
        (Network(IMAGES, input_shape=(1, 3, 3)), "layer 0 is Conv2d; expected Dense"),
        (Network([ReLU()], input_shape=(3,)), "the network has no weights"),
    ],
)
def test_other_networks_are_refused(refused, message):
    with pytest.raises(InputError, match=message) as caught:
        compile_sampled(refused, 1, local=True)
    assert "\n" not in str(caught.value)
