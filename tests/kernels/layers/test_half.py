"""Weights in half precision: the network of the stored weights, within the bounds of storage."""

import pickle

import numpy as np
import pytest

from kernels import compile_network
from kernels.devices import targets
from kernels.layers.half import exponents, rounded, scaled
from kernels.network import program
from refbnn import Moments, Network, Posterior
from refbnn.errors import InputError
from refbnn.layers import (
    Conv2d,
    Dense,
    Flatten,
    MaxPool2d,
    Normalise,
    ReLU,
    Residual,
    dense,
)
from refbnn.layers.moments import deterministic
from verification.rounding import dense_bound, gamma, network_bound

STORED = pytest.mark.parametrize("weights", ["variance16", "float16"])
DELTA, SMALL = 2.0**-11, 2.0**-39  # of `kernels.layers.half`


def spread(rng, shape, decades):
    """Both signs, orders of magnitude apart within an output and between outputs, zeros."""
    size = rng.uniform(-decades, decades, shape) + rng.uniform(-decades, decades, (shape[0], 1))
    values = 10.0**size * rng.choice([-1.0, 1.0], shape)
    return np.where(rng.random(shape) < 0.1, 0.0, values)


def with_parameters(net, parameters):
    other = net.with_noise(net.law)
    other.set_parameters(parameters)
    return other


def one_layer(rng, n_in, n_out):
    """A dense layer whose variances go down to 1e-18."""
    net = Network([Dense(n_in, n_out)], seed=0)
    weight = Posterior(spread(rng, (n_out, n_in), 2), 1e-5 * np.abs(spread(rng, (n_out, n_in), 2)))
    return with_parameters(net, {**net.parameters(), "0.weight": weight}), weight


def by_hand(values):
    """Half precision, number by number, from the definition of the format."""
    out = np.zeros(values.shape)
    for row, of_output in enumerate(values):
        largest = np.abs(of_output).max()
        if largest == 0.0:
            continue
        # 11 bits of the largest number, and no number finer than 2^-24 of a scale of 2^15.
        rounded_up = np.abs(nearest(largest, 2.0 ** (np.floor(np.log2(largest)) - 10)))
        least = 2.0 ** (np.floor(np.log2(rounded_up)) - 14 - 24)
        for column, w in enumerate(of_output):
            step = 2.0 ** (np.floor(np.log2(abs(w))) - 10) if w else least
            out[row, column] = nearest(w, max(step, least))
    return out


def nearest(w, step):
    return step * np.rint(w / step)  # np.rint takes even numbers at ties, as half precision


def test_numbers_are_rounded_to_half_precision_of_each_output():
    rng = np.random.default_rng(1)
    values = spread(rng, (6, 300), 9)
    values[2] = 0.0
    values[3, 0] = 4095.99 * np.abs(values[3]).max()  # rounds up to a power of two
    values[3, 0] = 2.0 ** np.ceil(np.log2(values[3, 0])) * (1 - 2.0**-13)
    var = np.abs(values)
    stored = rounded(Posterior(values, np.sqrt(var)), "float16", "weight")
    np.testing.assert_array_equal(stored.mean, by_hand(values))
    np.testing.assert_allclose(stored.var, np.abs(by_hand(values)), rtol=1e-15)
    largest = np.abs(values).max(axis=1, keepdims=True)
    assert (np.abs(stored.mean - values) <= DELTA * np.abs(values) + SMALL * largest).all()
    # Stored weights are stored as they are.
    again = rounded(stored, "float16", "weight")
    np.testing.assert_array_equal(again.mean, stored.mean)
    np.testing.assert_array_equal(exponents(again.mean), exponents(values))
    top = np.abs(scaled(stored.mean)[0]).max(axis=1)
    assert ((top == 0.0) | ((top >= 2.0**14) & (top < 2.0**15))).all()


@STORED
@pytest.mark.parametrize(
    ("target", "batch", "n_in", "n_out"),
    [
        ("host", 1, 98, 37),
        ("host", 13, 33, 144),
        ("cortex-a72", 1, 41, 13),
        ("cortex-a72", 9, 17, 5),
    ],
)
def test_dense_is_within_both_bounds(weights, target, batch, n_in, n_out):
    rng = np.random.default_rng(3)
    net, weight = one_layer(rng, n_in, n_out)
    device = "local" if target == "host" else "emulated"
    x = rng.standard_normal((batch, n_in)).astype(np.float32)
    got = compile_network(net, batch, target, device=device, weights=weights)(x)

    # The network of the stored weights, within float32 rounding of products and sums.
    bias, stored = net.parameters()["0.bias"], rounded(weight, weights, "weight")
    expected = dense.moments_of_known(x, stored, bias)
    m_bound, v_bound = dense_bound(deterministic(x), stored, bias)
    assert (np.abs(got.mean - expected.mean) <= m_bound).all()
    assert (np.abs(got.var - expected.var) <= v_bound).all()

    # That network is within the bound of storage of the one it was made from.
    exact = dense.moments_of_known(x, weight, bias)
    m_storage, v_storage = storage_bound(deterministic(x), weight, weights)
    assert (np.abs(expected.mean - exact.mean) <= m_storage + 1e-14 * np.abs(exact.mean)).all()
    assert (np.abs(expected.var - exact.var) <= v_storage).all()
    assert (expected.var != exact.var).any()


def storage_bound(x, weight, weights):
    """The bounds of `kernels.layers.half`."""
    mu, var = np.abs(weight.mean), weight.var
    second = x.mean**2 + x.var
    v = DELTA * second @ var.T + SMALL * second.sum(1, keepdims=True) * var.max(1)
    if weights == "variance16":
        return np.zeros_like(v), v
    change = DELTA * mu + SMALL * mu.max(1, keepdims=True)
    return np.abs(x.mean) @ change.T, v + x.var @ (2 * mu * change + change**2).T


@STORED
def test_bound_of_storage_of_random_inputs(weights):
    rng = np.random.default_rng(5)
    _, weight = one_layer(rng, 50, 40)
    bias = Posterior(np.zeros(40), np.zeros(40))
    x = Moments(rng.standard_normal((9, 50)), rng.random((9, 50)))
    exact = dense.moments(x, weight, bias)
    moved = dense.moments(x, rounded(weight, weights, "weight"), bias)
    m_bound, v_bound = storage_bound(x, weight, weights)
    slack = 1e-14  # of float64
    assert (np.abs(moved.mean - exact.mean) <= m_bound + slack * np.abs(exact.mean)).all()
    assert (np.abs(moved.var - exact.var) <= v_bound + slack * exact.var).all()
    assert (np.abs(moved.var - exact.var) > 0.02 * v_bound).any()  # the bound is not idle


def stored_network(net, weights, *kept):
    """The network of the stored weights, but for layers that stay in float32."""
    parameters = {
        name: one
        if name.endswith("bias") or name.split(".")[0] in kept
        else rounded(one, weights, name)
        for name, one in net.parameters().items()
    }
    return with_parameters(net, parameters)


@pytest.mark.parametrize(("weights", "batch"), [("variance16", 1), ("float16", 10)])
def test_network_of_stored_weights(weights, batch):
    net = Network([Dense(98, 60), ReLU(), Dense(60, 10)], seed=1)
    x = np.random.default_rng(0).random((batch, 98), dtype=np.float32)
    stored = stored_network(net, weights)
    expected, (m_bound, v_bound) = stored.propagate(x), network_bound(stored, x)
    got = compile_network(net, batch, weights=weights)(x)
    assert (np.abs(got.mean - expected.mean) <= m_bound).all()
    assert (np.abs(got.var - expected.var) <= v_bound).all()


@pytest.mark.parametrize(("weights", "size"), [("float32", 8), ("variance16", 6), ("float16", 4)])
def test_bytes_of_weights(weights, size):
    whole = program(Network([Dense(160, 32)], seed=1), 1, targets.target("host"), weights=weights)
    extra = 32 * 4 * (2 + {"float32": 0, "variance16": 1, "float16": 2}[weights])  # biases, powers
    assert sum(values.nbytes for _, values in whole.weights) == 160 * 32 * size + extra


STRIDES = [Conv2d(3, 5, 3), ReLU(), Conv2d(5, 16, 3, stride=2), Flatten(), Dense(64, 3)]
GROUPS = [Conv2d(3, 6, 3, padding=1, groups=3), Residual([ReLU(), Conv2d(6, 6, 3, padding=1)])]
WINDOWS = [Conv2d(3, 4, 3), ReLU(), MaxPool2d((1, 5)), Flatten(), Dense(24, 3)]
POOLED = [Conv2d(3, 2, 3, padding=1), MaxPool2d(2), Flatten(), Dense(32, 3)]
FOLDED = [Normalise(0.4, 0.3), Flatten(), Dense(192, 3)]


@pytest.mark.parametrize(
    ("layers", "target", "weights", "kept"),
    [
        (STRIDES, "host", "variance16", ()),
        (STRIDES, "cortex-a72", "float16", ()),
        (GROUPS, "host", "float16", ()),
        (GROUPS, "cortex-a72", "variance16", ()),
        (WINDOWS, "host", "float16", ()),
        (POOLED, "host", "float16", ("0",)),
        (FOLDED, "host", "variance16", ()),
        (FOLDED, "cortex-a72", "float16", ()),
    ],
)
def test_images(layers, target, weights, kept):
    net = Network(layers, seed=1, input_shape=(3, 8, 8))
    x = np.random.default_rng(0).random((3, 3, 8, 8), dtype=np.float32)
    x[0, :, :6] = 0.0  # a row whose sums are raw (`kernels.layers.folding`)
    device = "local" if target == "host" else "emulated"
    got = compile_network(net, 3, target, device=device, weights=weights)(x)
    expected = stored_network(net, weights, *kept).propagate(x)
    # Float32 rounding, as in the tests of networks of images; storage changes 1e-4.
    np.testing.assert_allclose(got.mean, expected.mean, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(got.var, expected.var, rtol=2e-5)


def test_small_variances_stay():
    net = Network([Dense(20, 3)], seed=0)
    weight = Posterior(np.zeros((3, 20)), np.full((3, 20), 1e-12))
    known = Posterior(np.zeros(3), np.zeros(3))
    net = with_parameters(net, {"0.weight": weight, "0.bias": known})
    var = compile_network(net, 1, weights="variance16")(np.ones((1, 20))).var
    np.testing.assert_allclose(var, 20e-24, rtol=2.0**-11)  # far below 6e-8


def test_threads_copies_predictions_and_default_schedule():
    net = Network([Dense(30, 17), ReLU(), Dense(17, 4)], seed=3)
    x = np.random.default_rng(0).standard_normal((2, 30)).astype(np.float32)
    one = compile_network(net, 2, weights="variance16")
    two = compile_network(net, 2, weights="variance16", threads=2)
    copied = pickle.loads(pickle.dumps(one))
    assert one(x).var.tobytes() == two(x).var.tobytes() == copied(x).var.tobytes()
    assert one.predict(x).logits.var.tobytes() == one(x).var.tobytes()
    plain = compile_network(net, 2, schedule="default", weights="variance16")(x)
    np.testing.assert_allclose(plain.var, one(x).var, rtol=1e-6)


def test_means_in_half_precision():
    net = Network([Dense(30, 17), ReLU(), Dense(17, 4)], seed=3)
    x = np.random.default_rng(0).standard_normal((2, 30)).astype(np.float32)
    got = compile_network(net, 2, form="mean", weights="float16")(x).mean
    of_means = {
        name: Posterior(one.mean, np.zeros(one.shape))
        for name, one in stored_network(net, "float16").parameters().items()
    }
    expected = with_parameters(net, of_means).propagate(x).mean
    np.testing.assert_allclose(got, expected, atol=gamma(60) * np.abs(expected).max() * 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "half"}, "weights 'half' is unknown; expected one of: float32, variance16"),
        ({"weights": 16}, "weights"),
        (
            {"weights": "float16", "form": "raw"},
            "weights is 'float16' with form 'raw'; expected form 'variance' or 'mean'",
        ),
        (
            {"weights": "variance16", "form": "mean"},
            "weights is 'variance16' with form 'mean'; expected form 'variance'",
        ),
        (
            {"weights": "float16", "method": "linearised"},
            "weights is 'float16' with method 'linearised'; expected method 'pfp'",
        ),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        compile_network(Network([Dense(4, 3)], seed=0), 1, **options)


@pytest.mark.parametrize(("mean", "scale"), [(1e39, 0.1), (0.0, 1e20), (0.0, 1e200)])
def test_numbers_too_large(mean, scale):
    net = Network([Dense(4, 3)], seed=0)
    weight = Posterior(np.full((3, 4), mean), np.full((3, 4), scale))
    net = with_parameters(net, {**net.parameters(), "0.weight": weight})
    with pytest.raises(InputError, match="layer0_weight: a number is too large for float32"):
        compile_network(net, 1, weights="float16")


def test_processors_without_conversion_are_refused():
    llvm: dict[str, object] = {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "x86-64-v2"}
    old, net = targets.Target("old", 4, 16, llvm), Network([Dense(4, 3)], seed=0)
    with pytest.raises(InputError, match="target 'old' has no instruction that converts"):
        program(net, 1, old, weights="variance16")
