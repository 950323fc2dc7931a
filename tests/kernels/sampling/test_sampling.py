"""Kernels of sampled weights against the reference, which draws the same words."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import refbnn
from kernels import sampled_network
from kernels.bench import memory
from kernels.devices import targets
from kernels.layers import tiles
from kernels.program.kernel import build
from kernels.program.program import Program, Rows
from kernels.sampled_network import compile_sampled
from kernels.sampling import dense, noise, weights
from refbnn.errors import InputError
from refbnn.layers import AvgPool2d, Conv2d, Dense, Flatten, Layer, MaxPool2d, ReLU, Tanh
from refbnn.layers.posterior import Posterior
from refbnn.network import counter_sampling
from refbnn.network.network import Network
from refbnn.noise import Bimodal, DeviceLaw, Gaussian, HeavyTailed, Mixture
from refbnn.noise.word_table import SINGLE_ERROR, exact, word_table
from refbnn.numerics.random.philox import key_of
from refbnn.prediction.result import from_logit_samples
from verification.kernels.sampling import dense_with_bound, network_bound, words_of_all_octaves

SCHEDULES = pytest.mark.parametrize("schedule", ["hand", "default"])
SIZES = st.sampled_from([1, 2, 3, 7, 8, 13, 16, 17, 31, 33, 64, 100])
# Each compiles; TVM's own lowering takes LLVM long.
FEW = settings(max_examples=6, deadline=None, derandomize=True, database=None)
FEWEST = settings(FEW, max_examples=2)
DENSE: dict[str, Any] = {
    "batch": st.sampled_from([1, 2, 5, 21, 23]),
    "n_in": SIZES,
    "n_out": SIZES,
    "n_samples": st.integers(1, 3),
    "seed": st.integers(0, 2**64 - 1),
    "index": st.integers(0, 9),
}
CONV2D: dict[str, Any] = {
    "batch": st.integers(1, 3),
    "channels": st.sampled_from([(1, 1, 1), (2, 5, 1), (3, 17, 1), (4, 34, 2), (6, 6, 6)]),
    "kernel": st.tuples(st.integers(1, 4), st.integers(1, 3)),
    "stride": st.tuples(st.integers(1, 2), st.integers(1, 3)),
    "padding": st.tuples(st.integers(0, 2), st.integers(0, 1)),
    "image": st.tuples(st.integers(5, 9), st.integers(5, 20)),
}
LAWS = {
    "Gaussian": Gaussian(),
    "two peaks": Bimodal(),
    "two gaps": Mixture((0.3, 0.4, 0.3), (-3.0, 0.0, 5.0), (0.2, 0.3, 0.1)),
    "device": DeviceLaw(-0.9, 3.0),
    "double well": DeviceLaw(0.0, 0.0, (0.3, 5.0)),
    "heavy tails": HeavyTailed(0.995, 0.9),
}


def layer(rng, n_in, n_out):
    """Both signs and six orders of magnitude, so that sums are ruled by few terms."""

    def wild(shape):
        return 10.0 ** rng.uniform(-3, 3, shape)

    return (
        Posterior(wild((n_out, n_in)) * rng.choice([-1, 1], (n_out, n_in)), wild((n_out, n_in))),
        Posterior(wild(n_out), wild(n_out)),
    )


def noise_of(law, seed, index, n_samples, n_out, n):
    return np.stack(
        [exact(law, counter_sampling.words(seed, index, s, n_out, n)) for s in range(n_samples)]
    )


@SCHEDULES
@pytest.mark.parametrize("label", LAWS)
def test_noise_is_the_table(schedule, label):
    cuts = word_table(LAWS[label]).cuts
    words = words_of_all_octaves(np.random.default_rng(1), 10_007, cuts)
    (z,) = noise.build(LAWS[label], words.size, schedule=schedule)(words)
    expected = exact(LAWS[label], words)
    assert (np.abs(z - expected) <= SINGLE_ERROR * np.maximum(1.0, np.abs(expected))).all()
    # The same numbers as the reference's table, but for fused multiply-adds.
    np.testing.assert_allclose(z, word_table(LAWS[label])(words), rtol=1e-6, atol=1e-6)


@FEW
@given(**DENSE)
def test_dense_is_within_the_rounding_bound(**case):
    check_dense("hand", **case)


@FEWEST
@given(**DENSE)
def test_dense_by_default_is_within_the_rounding_bound(**case):
    check_dense("default", **case)


def dense_program(weight, bias, law, batch, n_samples, target, index):
    """Program of the layer alone, at an index of its own."""
    program = Program(target, batch)
    source = weights.source(program, law, n_samples)
    x = program.known(Rows(weight.shape[1], target.lanes))
    own = {"weight": weight, "bias": bias}
    weights.give(program, dense.add(program, "dense", index, own, x, source), source)
    return program


def check_dense(schedule, batch, n_in, n_out, n_samples, seed, index):
    rng = np.random.default_rng(2)
    weight, bias = layer(rng, n_in, n_out)
    x = rng.standard_normal((batch, n_in))
    law = LAWS["device"]
    program = dense_program(weight, bias, law, batch, n_samples, targets.target("host"), index)
    (y,) = build(program, schedule)(key_of(seed), x)
    z = noise_of(law, seed, index, n_samples, n_out, n_in + 1)
    expected, bound = dense_with_bound(x, weight, bias, z)
    assert (np.abs(y - expected) <= bound).all()


@pytest.mark.parametrize(("lanes", "registers"), [(4, 16), (4, 32), (8, 16)])
def test_the_same_numbers_for_narrower_registers(lanes, registers):
    narrow = targets.Target("narrow", lanes, registers, targets.target("host").llvm)
    rng = np.random.default_rng(3)
    weight, bias = layer(rng, 31, 45)
    x = rng.standard_normal((7, 31))
    program = dense_program(weight, bias, Gaussian(), 7, 2, narrow, 4)
    (y,) = build(program, "hand")(key_of(99), x)
    expected, bound = dense_with_bound(x, weight, bias, noise_of(Gaussian(), 99, 4, 2, 45, 32))
    assert (np.abs(y - expected) <= bound).all()


@settings(derandomize=True, database=None)
@given(batch=st.integers(1, 300), registers=st.sampled_from([16, 32]))
def test_a_tile_of_rows_fits_the_registers(batch, registers):
    rows = tiles.of_single_sums(batch, registers)
    assert 1 <= rows <= min(batch, 5 * registers // 8)


@FEW
@given(**CONV2D)
def test_conv2d_is_the_reference_in_float32(**case):
    check_conv2d("hand", **case)


@FEWEST
@given(**CONV2D)
def test_conv2d_by_default_is_the_reference_in_float32(**case):
    check_conv2d("default", **case)


def check_conv2d(schedule, batch, channels, kernel, stride, padding, image):
    n_in, n_out, groups = channels
    conv = Conv2d(n_in, n_out, kernel, stride=stride, padding=padding, groups=groups)
    net = Network([conv], law=LAWS["device"], seed=1, input_shape=(n_in, *image))
    x = np.random.default_rng(9).standard_normal((batch, n_in, *image))
    y = compile_sampled(net, batch, 2, schedule=schedule)(x, seed=13)
    bound = network_bound(net, x, 2, seed=13)
    assert (np.abs(y - net.sample(x, 2, seed=13)) <= bound).all()


def conv_net():
    layers: list[Layer] = [Conv2d(1, 6, 5, padding=2), ReLU(), MaxPool2d(2), Conv2d(6, 17, 3)]
    layers += [AvgPool2d(2), Flatten(), ReLU(), Dense(17 * 9, 5)]
    return Network(
        layers,
        law=HeavyTailed(0.7, 0.2),
        seed=1,
        input_shape=(1, 16, 16),
    )


@pytest.mark.parametrize(("lanes", "registers"), [(4, 32), (8, 16)])
def test_network_of_images_for_narrower_registers(lanes, registers, monkeypatch):
    narrow = targets.Target("narrow", lanes, registers, targets.target("host").llvm)
    monkeypatch.setattr(targets, "target", lambda name: narrow)
    x = np.random.default_rng(10).random((2, 1, 16, 16))
    got = compile_sampled(conv_net(), 2, 3)(x, seed=14)
    expected = conv_net().sample(x, 3, seed=14)
    assert (np.abs(got - expected) <= network_bound(conv_net(), x, 3, seed=14)).all()


@SCHEDULES
def test_network_of_images_is_the_reference_in_float32(schedule):
    net = conv_net()
    x = np.random.default_rng(11).random((2, 1, 16, 16))
    got = compile_sampled(net, 2, 3, schedule=schedule)(x, seed=15)
    expected, bound = net.sample(x, 3, seed=15), network_bound(net, x, 3, seed=15)
    assert got.shape == (3, 2, 5)
    assert (np.abs(got - expected) <= bound).all()
    assert bound.max() <= 1e-3 * np.abs(expected).max()


def test_memory_is_that_of_one_sample():
    cpu = targets.target("host")
    workspace = [
        memory.size(sampled_network.program(conv_net(), 2, n, cpu), "hand", None).workspace
        for n in (2, 50)
    ]
    assert workspace[0] == workspace[1] > 0


def test_outputs_may_be_images():
    net = Network([ReLU(), Conv2d(2, 3, 2), ReLU()], seed=1, input_shape=(2, 4, 5))
    x = np.random.default_rng(12).standard_normal((2, 2, 4, 5))
    got, expected = compile_sampled(net, 2, 3)(x, seed=1), net.sample(x, 3, seed=1)
    assert got.shape == expected.shape == (3, 2, 3, 3, 4)
    assert (np.abs(got - expected) <= network_bound(net, np.abs(x), 3, seed=1)).all()


@pytest.mark.parametrize(
    ("schedule", "batch", "n_in", "n_hidden"),
    [("hand", 1, 784, 100), ("hand", 7, 784, 100), ("default", 3, 31, 17)],
)
def test_network_is_the_reference_in_float32(schedule, batch, n_in, n_hidden):
    layers: list[Layer] = [Dense(n_in, n_hidden), ReLU(), Dense(n_hidden, n_hidden), ReLU()]
    net = Network([*layers, Dense(n_hidden, 10)], law=Bimodal(), seed=1)
    x = np.random.default_rng(4).random((batch, n_in))
    got = compile_sampled(net, batch, 3, schedule=schedule)(x, seed=2**40 + 1)
    expected = net.sample(x, 3, seed=2**40 + 1)
    bound = network_bound(net, x, 3, seed=2**40 + 1)
    assert got.dtype == np.float32
    assert (np.abs(got - expected) <= bound).all()
    assert bound.max() <= 1e-3 * np.abs(expected).max()  # so the bound does say something


def test_moments_over_many_samples_are_those_of_the_weights():
    net = Network([Dense(5, 17)], law=DeviceLaw(-0.5, 0.5), seed=1)
    x, n = np.random.default_rng(5).standard_normal((3, 5)), 20_000
    y = compile_sampled(net, 3, n)(x, seed=6).astype(float)
    moments = net.propagate(x)
    error = np.sqrt(moments.var / n)
    # Five standard errors; that of the variance is below a normal law's for this law.
    assert (np.abs(y.mean(axis=0) - moments.mean) <= 5 * error).all()
    assert (np.abs(y.var(axis=0) / moments.var - 1) <= 5 * np.sqrt(2 / n)).all()


@pytest.fixture(scope="module")
def small():
    return compile_sampled(Network([ReLU(), Dense(3, 2)], input_shape=(3,), seed=6), 2, 5)


def test_calls_repeat_and_do_not_overwrite_each_other(small):
    x = np.random.default_rng(7).random((2, 3))
    first = small(x, seed=1)
    kept = first.copy()
    assert not np.array_equal(small(x, seed=2), first)
    assert not np.array_equal(small(x, seed=1 + 2**32), first)  # the seed's upper word counts
    np.testing.assert_array_equal(small(x.astype(np.float32), seed=1), kept)
    np.testing.assert_array_equal(first, kept)


def test_prediction_is_that_of_the_samples(small):
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


@pytest.mark.parametrize(
    ("x", "seed", "message"),
    [
        (np.zeros((2, 4)), 0, r"x has shape \(2, 4\); expected \(2, 3\)"),
        (np.zeros((2, 3), complex), 0, "x is of type complex128; expected real numbers"),
        (
            np.ma.array(np.zeros((2, 3)), mask=np.eye(2, 3, dtype=bool)),
            0,
            r"x has masked entries \(2\)",
        ),
        (np.full((2, 3), np.nan), 0, "NaN, infinity"),
        (np.full((2, 3), 1e39), 0, "x holds .* too large for float32"),
        (np.full((2, 3), 3e38) * [1, 0, 1], 0, "outputs too large for float32"),
        (np.zeros((2, 3)), -1, "seed is -1"),
        (np.zeros((2, 3)), 2**64, "seed is 18446744073709551616"),
    ],
)
def test_bad_input(small, x, seed, message):
    with pytest.raises(InputError, match=message):
        small(x, seed)
    assert np.isfinite(small(np.zeros((2, 3)), 0)).all()  # and the next call is not harmed


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        (
            Network([Dense(3, 2)]),
            {"n_samples": 0},
            "n_samples is 0; expected a whole number of at least 1",
        ),
        (Network([Dense(3, 2)]), {"batch_size": 0}, "batch_size is 0"),
        (Network([Dense(3, 2)]), {"schedule": "x"}, "schedule 'x' is unknown"),
        (Network([Dense(3, 2)], law=Bimodal(0.5, 0.5, 1e3)), {}, "cubics on 1024 parts"),
        (Network([Dense(3, 2)], correlated=[0]), {}, "correlated weights"),
        (Network([Dense(3, 2), Tanh()]), {}, "layer 1: Tanh has no kernel for sampled weights"),
        (Network([Conv2d(1, 1, 1)]), {}, "input_shape is None; expected the shape of one input"),
        (Network([ReLU()], input_shape=(3,)), {}, "the network has no weights"),
    ],
)
def test_bad_call(net, options, message):
    with pytest.raises(InputError, match=message) as caught:
        compile_sampled(net, **{"batch_size": 1, **options})
    assert "\n" not in str(caught.value)


def test_a_prediction_needs_samples_of_a_classifier():
    net = Network([Dense(3, 2)])
    with pytest.raises(InputError, match="at least 2 samples"):
        compile_sampled(net, 1, 1).predict(np.zeros((1, 3)), 0)
    net.likelihood = "gaussian"
    with pytest.raises(InputError, match="trained on targets, with the likelihood 'gaussian'"):
        compile_sampled(net, 1, 2).predict(np.zeros((1, 3)), 0)


def test_one_output_is_the_logit_of_the_second_class():
    net, x = Network([Dense(3, 1)], seed=2), np.ones((2, 3))
    found = compile_sampled(net, 2, 5).predict(x, 3)
    z = net.sample(x, 5, seed=3)[..., 0]
    p = (1.0 / (1.0 + np.exp(-z))).mean(axis=0)
    np.testing.assert_allclose(found.probabilities, np.stack([1.0 - p, p], axis=1), rtol=1e-5)
