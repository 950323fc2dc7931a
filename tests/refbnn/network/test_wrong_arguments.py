"""Wrong arguments of a network: one InputError, one line, that names the argument."""

# mypy: disable-error-code="arg-type, list-item"
# Wrong types are the subject.

from typing import Any

import numpy as np
import pytest

from refbnn import InputError, Moments, Network, Posterior, load, save
from refbnn.layers import Conv2d, Dense, Flatten, ReLU
from refbnn.noise import DeviceLaw, Gaussian
from refbnn.prior import GaussianPrior

NET = Network([Dense(3, 4), ReLU(), Dense(4, 2)], seed=0)
IMAGES = Network([Conv2d(1, 2, 3), Flatten()], input_shape=(1, 4, 4), seed=0)
X = np.ones((2, 3))
RNG = np.random.default_rng(0)


def refused(call, words):
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 220


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([], "Network: no layers"),
        ("dense", "Network: layers is 'dense'; expected a list of layers"),
        (Dense(3, 2), r"Network: layers is Dense\(3, 2\); expected a list of layers"),
        (Dense, "Network: layers is the class Dense; expected a list of layers"),
        ([Dense], r"layer 0 is the class Dense; expected a Layer, such as Dense\(3, 2\)"),
        ([Dense(3, 2), "relu"], "layer 1 is 'relu'; expected a Layer"),
        ([Gaussian()], "layer 0 is Gaussian.*; expected a Layer"),
        (None, "layers is None"),
    ],
)
def test_layers(layers, words):
    refused(lambda: Network(layers), words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"law": Gaussian}, r"law is the class Gaussian; expected a Law, such as Gaussian\(\)"),
        ({"law": "gaussian"}, "law is 'gaussian'; expected a Law"),
        ({"prior": 0.3}, r"prior is 0.3; expected a Prior, such as GaussianPrior\(0.3\)"),
        ({"prior": GaussianPrior}, "prior is the class GaussianPrior"),
        ({"seed": 0.5}, "seed is 0.5; expected a whole number of at least 0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": None}, "seed is None"),
        ({"seed": "0"}, "seed is '0'"),
        ({"input_shape": 28}, "input_shape is 28; expected whole numbers, such as"),
        ({"input_shape": "3"}, "input_shape is '3'"),
        ({"input_shape": ("a",)}, "input_shape: a size is 'a'; expected a whole number"),
        ({"input_shape": (0,)}, "input_shape: a size is 0"),
        ({"input_shape": (3.0,)}, "input_shape: a size is 3.0"),
        ({"correlated": 3}, "correlated is 3; expected indices of layers"),
        ({"correlated": np.array(0)}, "correlated is 0; expected indices of layers"),
        ({"correlated": [3]}, "layer 3: expected the index of a layer with weights"),
        ({"correlated": [True]}, "layer True: expected the index"),
        ({"correlated": ["0"]}, "layer '0': expected the index"),
    ],
)
def test_constructor(arguments, words):
    refused(lambda: Network([Dense(3, 2)], **arguments), words)


@pytest.mark.parametrize(
    "arguments",
    [
        {"seed": np.uint8(3)},
        {"seed": np.array(3)},
        {"seed": 2**70},
        {"input_shape": np.array([3])},
        {"input_shape": [np.int64(3)]},
        {"correlated": np.array([0])},
        {"correlated": range(1)},
    ],
)
def test_right_arguments_of_other_types(arguments, tmp_path):
    net = Network((layer for layer in [Dense(3, 2)]), **arguments)
    assert net.input_shape == (3,)
    save(tmp_path / "net.npz", net)  # no number of NumPy stays, which JSON would not take
    assert load(str(tmp_path / "net.npz")).correlation.keys() == net.correlation.keys()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: NET.with_noise("gaussian"), "law is 'gaussian'; expected a Law"),
        (lambda: NET.with_noise(DeviceLaw), "law is the class DeviceLaw"),
        (lambda: NET.with_variance_factor("a"), "variance factor is 'a'; expected a finite number"),
        (lambda: NET.with_variance_factor(np.ones(2)), "variance factor is an array of shape"),
        (lambda: NET.draw(3), r"rng is 3; expected a generator .*default_rng\(0\)"),
        (lambda: NET.draw(RNG, 0), "n_samples is 0"),
        (lambda: NET.sample(X), "either rng="),
        (lambda: NET.sample(X, seed=1, rng=RNG), "either rng="),
        (lambda: NET.sample(X, rng=3), "rng is 3; expected a generator"),
        (lambda: NET.sample(X, rng=np.random.RandomState(0)), "expected a generator"),
        (lambda: NET.sample(X, 2.5, seed=1), "n_samples is 2.5; expected a whole number"),
        (lambda: NET.sample(X, 0, seed=1), "n_samples is 0"),
        (lambda: NET.sample(X, 2, seed=0.5), "seed is 0.5; expected a whole number from 0"),
        (lambda: NET.forward(X, {}), "no array '0.weight'; expected one for every parameter"),
        (lambda: NET.forward(X, None), "arrays by name are None; expected a dictionary"),
        (lambda: NET.forward(np.ones((2, 4)), _means()), r"Dense\(3, 4\): input has shape \(4,\)"),
    ],
)
def test_calls(call, words):
    refused(call, words)


def _means():
    return {name: p.mean for name, p in NET.parameters().items()}


def propagate(net, x):
    return net.propagate(x)


def sample(net, x):
    return net.sample(x, 2, RNG)


def forward(net, x):
    return net.forward(x, {name: p.mean for name, p in net.parameters().items()})[0]


@pytest.mark.parametrize("call", [propagate, sample, forward])
@pytest.mark.parametrize(
    ("x", "words"),
    [
        (X.astype(complex), "x is of type complex128; expected real numbers"),
        (np.ma.masked_greater(X, 0.5), "x has masked entries"),
        ([["a"] * 3], "x is of type"),
        (X.astype(object), "x is of type object"),
        ([[1.0], [1.0, 2.0]], "x is no array"),
        (None, "x is None"),
        (np.ones((2, 4)), r"Dense\(3, 4\): input has shape \(4,\); expected \(3,\)"),
    ],
)
def test_inputs(call, x, words):
    refused(lambda: call(NET, x), words)


@pytest.mark.parametrize("call", [propagate, sample])
def test_inputs_as_a_whole(call):
    refused(lambda: call(NET, np.ones(3)), r"x has shape \(3,\); expected a first axis of examples")
    refused(lambda: call(NET, 1.0), r"x has shape \(\); expected a first axis of examples")
    refused(lambda: call(NET, np.full((2, 3), np.nan)), "x holds NaN or infinity")
    one = np.ones((1, 4, 4))
    refused(lambda: call(IMAGES, one), r"x has shape \(1, 4, 4\); expected a first axis")
    refused(lambda: call(IMAGES, one[0]), "expected .channels, height, width")
    assert call(NET, np.ones((0, 3))) is not None  # no example is no error


def test_random_inputs_of_small_integers_do_not_overflow():
    """200² does not fit an unsigned byte."""
    x = np.full((1, 3), 200, np.uint8)
    known = NET.propagate(x)
    random = NET.propagate(Moments(x, np.zeros_like(x)))
    np.testing.assert_allclose(random.var, known.var, rtol=1e-14)  # other order of sums
    np.testing.assert_array_equal(random.mean, known.mean)


@pytest.mark.parametrize(
    ("posteriors", "words"),
    [
        (None, "parameters are None; expected a Posterior for each name"),
        ([Posterior([1.0], [1.0])], "parameters are "),
        (
            {"0.weight": np.ones((2, 3))},
            r"'0.weight' is an array of shape \(2, 3\); expected a Post",
        ),
        (
            {"0.weight": Posterior(np.ones((3, 2)), np.ones((3, 2)))},
            r"has shape \(3, 2\); expected",
        ),
        ({"0.weight": Posterior(np.ones((2, 3)), np.ones((2, 3)))}, "'0.bias': expected the names"),
    ],
)
def test_parameters(posteriors, words):
    net = Network([Dense(3, 2)], seed=0)
    before: Any = net.parameters()
    refused(lambda: net.set_parameters(posteriors), words)
    assert net.parameters() == before


def test_files(tmp_path):
    path: Any = tmp_path / "net.npz"
    refused(lambda: save(NET, path), r"save: path is a network; expected save\(path, net\)")
    refused(lambda: save(path, path), "save: net is .*; expected a Network")
    refused(lambda: save(3, NET), "save: path is 3; expected the path of a file")
    refused(lambda: load(NET), "load: path is Network.*; expected the path of a file")
    refused(lambda: load(b"net.npz"), "load: path is b'net.npz'")
    assert not path.exists()
