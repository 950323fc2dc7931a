import numpy as np
import pytest

from refbnn.errors import InputError
from refbnn.layers import (
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    Normalise,
    ReLU,
    Residual,
    Tanh,
)
from refbnn.layers.posterior import Posterior
from refbnn.network.architectures import ARCHITECTURES
from refbnn.network.interchange.assembly import assemble, chain
from refbnn.network.interchange.sites import FlatGuide, Statistics
from refbnn.network.layers_text import parse


def sites_of(**shapes):
    rng = np.random.default_rng(3)
    return {n: Posterior(rng.standard_normal(s), rng.random(s)) for n, s in shapes.items()}


def assembled(sites, text=None, **options):
    """Assemble layers of a text, or a chain with ReLU."""

    def choice(weights):
        return chain(weights, ReLU()) if text is None else parse(text)

    return assemble(sites, choice, **options)


def network(sites, text=None, **options):
    return assembled(sites, text, **options).network


def at_means(net, x):
    return net.forward(x, {name: p.mean for name, p in net.parameters().items()})[0]


def test_dense_networks_compute_what_the_means_say():
    sites = sites_of(w1=(8, 4), b1=(8,), w2=(3, 8), b2=(3,))
    net = network(sites, "dense 4 8, tanh, dense 8 3")
    x = np.random.default_rng(4).standard_normal((5, 4))
    w1, b1, w2, b2 = (site.mean for site in sites.values())
    want = np.array([w2 @ np.tanh(w1 @ row + b1) + b2 for row in x])
    np.testing.assert_allclose(at_means(net, x), want, rtol=1e-12)
    np.testing.assert_array_equal(net.parameters()["2.weight"].scale, sites["w2"].scale)


def test_weights_of_x_times_w_are_turned():
    sites = sites_of(w1=(4, 8), b1=(8,), w2=(8, 3), b2=(3,))
    net = network(sites)
    assert net.layers == [Dense(4, 8), ReLU(), Dense(8, 3)]
    np.testing.assert_array_equal(net.parameters()["0.weight"].mean, sites["w1"].mean.T)
    with pytest.raises(InputError, match="'w2' of shape"):
        network(sites, transpose=False)


def test_square_weights_are_not_guessed():
    sites = sites_of(w1=(4, 4), b1=(4,), w2=(4, 4), b2=(4,))
    with pytest.raises(InputError, match="expected --transpose or --no-transpose"):
        network(sites, "dense 4 4, relu, dense 4 4")
    kept = network(sites, transpose=False).parameters()["0.weight"]
    turned = network(sites, transpose=True).parameters()["0.weight"]
    np.testing.assert_array_equal(kept.mean, turned.mean.T)


W1, B1, W2, B2 = (8, 4), (8,), (3, 8), (3,)


@pytest.mark.parametrize(
    ("shapes", "want"),
    [
        ({"fc1.bias": B1, "fc1.weight": W1, "fc2.bias": B2, "fc2.weight": W2},
         ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]),
        ({"b2": B2, "b1": B1, "w1": W1, "w2": W2}, ["w1", "b1", "w2", "b2"]),
        ({"in_w": W1, "out_w": W2, "out_b": B2, "in_b": B1}, ["in_w", "in_b", "out_w", "out_b"]),
        ({"D_0.kernel": W1, "D_1.bias": B2, "D_1.kernel": W2, "D_0.bias": B1},
         ["D_0.kernel", "D_0.bias", "D_1.kernel", "D_1.bias"]),
    ],
)  # fmt: skip
def test_biases_belong_to_weights_by_name(shapes, want):
    made = assembled(sites_of(**shapes))
    found = {place: site for site, place in made.places.items()}
    assert [found[f"{i}.{kind}"] for i in (0, 2) for kind in ("weight", "bias")] == want


def test_a_missing_bias_is_known_to_be_0():
    shapes = {"a.weight": (8, 4), "b.weight": (8, 8), "b.bias": (8,), "c.weight": (3, 8)}
    net = network(sites_of(**shapes), transpose=False)
    for index, there in ((0, False), (2, True), (4, False)):
        bias = net.parameters()[f"{index}.bias"]
        assert bias.mean.any() == bias.scale.any() == there


def test_order_is_taken_and_has_to_be_whole():
    sites = sites_of(one=(3, 8), two=(3,), three=(8, 4))
    net = network(sites, order=["three", "one", "two"])
    np.testing.assert_array_equal(net.parameters()["2.bias"].mean, sites["two"].mean)
    assert not net.parameters()["0.bias"].scale.any()
    for order, said in [
        (["three", "one"], "'two' is not there"),
        (["three", "one", "two", "two"], "twice"),
        (["three", "one", "tow"], r"no site 'tow'; .*did you mean 'two'\?"),
        (["two", "three", "one"], "'two' does not follow a weight"),
    ]:
        with pytest.raises(InputError, match=f"--order: .*{said}"):
            network(sites, order=order)


def test_a_lost_order_is_not_guessed():
    named = sites_of(hidden=(8, 8), out=(8, 8))
    with pytest.raises(InputError, match="'hidden' and 'out' fit each other's places"):
        network(named, transpose=True, keeps_order=False)
    made = assembled(named, transpose=True, keeps_order=False, order=["out", "hidden"])
    assert made.places == {"out": "0.weight", "hidden": "2.weight"}
    numbered = sites_of(w1=(8, 8), w2=(8, 8))
    assert network(numbered, transpose=True, keeps_order=False).layers[0] == Dense(8, 8)


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"w1": (8, 4), "b1": (8,), "w2": (3, 7), "b2": (3,)}, "site 'w2' of shape"),
        ({"w1": (8, 4), "b1": (7,)}, "site 'b1' has shape"),
        ({"u": W1, "x": B1, "v": W2, "y": B2}, "do not say which .* 'x'; expected --order"),
        ({"w": (1, 8), "sigma": (1,)}, "as 'sigma'; expected --order .* or --skip sigma"),
        ({"b1": (8,)}, "0 weights and 1 biases"),
        ({}, "0 weights and 0 biases"),
        ({"a": (), "w1": (8, 4)}, r"site 'a' has shape \(\); .*or --skip a"),
        ({"a": (2, 3, 4)}, "site 'a' has shape"),
        ({"w1": (0, 4)}, "site 'w1' has shape"),
        ({"c1": (2, 1, 3, 3), "c2": (4, 3, 3, 3)}, "site 'c2' of shape"),
        ({"c1": (2, 1, 3, 3), "w": (3, 9)}, "site 'w' of shape"),
        ({"w": (3, 8), "c": (2, 3, 3, 3)}, "site 'c' of shape"),
        ({"c1": (2, 1, 3, 3)}, "expected --input-shape"),
        ({"w1": (8, 4), "kernel1": (3, 8), "b1": (8,)}, "do not say which"),
    ],
)
def test_sites_that_fit_no_network_are_named(shapes, said):
    with pytest.raises(InputError, match=said):
        network(sites_of(**shapes))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dense 5 8, relu, dense 8 3", r"site 'w1' has shape .*weight of layer 0"),
        ("dense 4 8", r"2 weights, w1, w2; expected 1"),
        ("dense 4 8, relu, batch_norm 8, dense 8 3", "no more running statistics"),
    ],
)
def test_stated_layers_take_the_sites_or_name_the_misfit(text, said):
    with pytest.raises(InputError, match=said):
        network(sites_of(w1=(8, 4), w2=(3, 8)), text)


def test_lenet_5_is_taken_whole():
    chosen = ARCHITECTURES["lenet5"]
    layers = chosen.layers(7)
    shapes = {
        f"{index}.{name}": shape
        for index, layer in enumerate(layers)
        for name, shape in layer.parameter_shapes().items()
    }
    sites = sites_of(**shapes)
    made = assemble(sites, lambda weights: layers, input_shape=(1, 28, 28))
    assert (made.network.layers, made.network.input_shape) == (layers, (1, 28, 28))
    for name, posterior in made.network.parameters().items():
        np.testing.assert_array_equal(posterior.mean, sites[name].mean)


def statistics(n, seed=5):
    rng = np.random.default_rng(seed)
    gamma = rng.standard_normal(n)  # some are negative
    return Statistics(rng.standard_normal(n), rng.random(n), gamma, rng.standard_normal(n))


def test_batch_normalisation_of_images_is_a_layer_with_the_files_numbers():
    norm = statistics(2)
    sites = sites_of(c=(2, 1, 3, 3)) | {"bn": norm}
    net = network(sites, "conv 1 2 3, batch_norm 2 eps 0.5, relu", input_shape=(1, 5, 5))
    layer = net.layers[1]
    assert isinstance(layer, BatchNorm2d)
    assert layer.eps == 0.5
    np.testing.assert_array_equal(layer.mean, norm.mean)
    np.testing.assert_array_equal(layer.beta, norm.beta)


def test_batch_normalisation_of_rows_is_folded_into_the_dense_layer_before():
    norm, sites = statistics(8), sites_of(w1=(8, 4), b1=(8,), w2=(3, 8))
    text = "dense 4 8, batch_norm 8, tanh, dense 8 3"
    made = assembled(sites | {"bn": norm}, text)
    net = made.network
    assert net.layers == [Dense(4, 8), Tanh(), Dense(8, 3)]
    assert made.places["bn"] == "folded into 0"
    rng = np.random.default_rng(6)
    x, noise = rng.standard_normal((7, 4)), rng.standard_normal((8, 4))
    a = norm.gamma / np.sqrt(norm.var + 1e-5)
    # z of the file's weight, and the sign that γ gives it.
    w1 = sites["w1"].mean + sites["w1"].scale * noise
    centred = (x @ w1.T + sites["b1"].mean - norm.mean) / np.sqrt(norm.var + 1e-5)
    hidden = np.tanh(norm.gamma * centred + norm.beta)
    weights = {name: p.mean for name, p in net.parameters().items()}
    p = net.parameters()["0.weight"]
    weights["0.weight"] = p.mean + p.scale * noise * np.sign(a)[:, np.newaxis]
    got = net.forward(x, weights)[0]
    np.testing.assert_allclose(got, hidden @ sites["w2"].mean.T, rtol=1e-11)


def test_batch_normalisation_elsewhere_is_refused_and_none_is_left_over():
    sites = sites_of(w1=(8, 4), w2=(3, 8)) | {"bn": statistics(8)}
    for text, said in [
        ("dense 4 8, relu, batch_norm 8, dense 8 3", "batch_norm 8 meets rows of 8 numbers"),
        ("dense 4 8, batch_norm 7, dense 8 3", "'bn' holds 8 channels; expected 7 for layer 1"),
        ("dense 4 8, relu, dense 8 3", "the file normalises by bn; expected as many"),
        ("dense 4 8, relu, dense 8 3, batch_norm 8", "batch_norm of 8 channels behind a dense"),
        ("dense 4 8, batch_norm 8, batch_norm 8, dense 8 3", "no more running statistics"),
        ("dense 4 8, batch_norm 8 eps -1, dense 8 3", "normalisation 'bn': BatchNorm2d: eps"),
    ]:
        with pytest.raises(InputError, match=said):
            network(sites, text)


def test_weights_inside_of_residual_blocks():
    sites = sites_of(w1=(4, 4), b1=(4,), w2=(4, 4), b2=(4,), w3=(3, 4)) | {"bn": statistics(4)}
    text = "residual(dense 4 4, batch_norm 4, relu, dense 4 4), dense 4 3"
    made = assembled(sites, text, transpose=False, first=[Normalise(1.0, 2.0)])
    net = made.network
    assert net.layers[1] == Residual([Dense(4, 4), ReLU(), Dense(4, 4)])
    assert made.places["w2"] == "1.2.weight"
    assert made.places["bn"] == "folded into 1.0"
    x = np.random.default_rng(6).standard_normal((7, 4))
    norm = sites["bn"]
    w1, b1, w2, b2, w3 = (site.mean for name, site in sites.items() if name != "bn")
    y = (x - 1.0) / 2.0
    inner = (y @ w1.T + b1 - norm.mean) * norm.gamma / np.sqrt(norm.var + 1e-5) + norm.beta
    y = y + np.maximum(inner, 0) @ w2.T + b2
    np.testing.assert_allclose(at_means(net, x), y @ w3.T, rtol=1e-11)


def test_a_row_is_taken_apart_with_scalars_between():
    row = Posterior(np.arange(12.0), np.arange(12.0) + 1.0)
    text = "dense 2 3, relu, dense 3 1"
    order = ["0.weight", "sigma", "2.weight", "2.bias", "tau"]
    options: dict = {"order": order, "skip": ["sigma", "tau"]}
    made = assembled({"guide": FlatGuide(row)}, text, transpose=True, **options)
    found = made.network.parameters()
    np.testing.assert_array_equal(found["0.weight"].mean, [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(found["2.weight"].scale, [[8.0, 9.0, 10.0]])
    np.testing.assert_array_equal(found["2.bias"].mean, [10.0])
    assert not found["0.bias"].scale.any()
    with pytest.raises(InputError, match="holds 12 numbers; expected 11 for"):
        assembled({"guide": FlatGuide(row)}, text, transpose=True, order=order[:4], skip=["sigma"])
    with pytest.raises(InputError, match=r"--order: '2.weight' is not there"):
        assembled({"guide": FlatGuide(row)}, text, transpose=True, order=["0.weight"])
    with pytest.raises(InputError, match=r"as .out, in. or as .in, out."):
        assembled({"guide": FlatGuide(row)}, text, **options)


def test_a_row_of_a_network_with_a_residual_block():
    """The order of the row is that of the layers, also where the file has lost that of sites."""
    text = "residual(dense 2 2, tanh), dense 2 2, dense 2 1"
    order = ["0.0.weight", "0.0.bias", "1.weight", "2.weight"]
    options: dict = {"order": order, "transpose": False, "keeps_order": False}
    guide = FlatGuide(Posterior(np.arange(12.0), np.ones(12)))
    found = assembled({"guide": guide}, text, **options).network.parameters()
    np.testing.assert_array_equal(found["0.0.bias"].mean, [4.0, 5.0])
    np.testing.assert_array_equal(found["1.weight"].mean, [[6.0, 7.0], [8.0, 9.0]])
    np.testing.assert_array_equal(found["2.weight"].mean, [[10.0, 11.0]])


def test_the_input_of_a_convolution_is_asked_for():
    sites = sites_of(c=(2, 1, 3, 3), w=(3, 8))
    text = "relu, conv 1 2 3, flatten, dense 8 3"
    with pytest.raises(InputError, match="expected --input-shape"):
        network(sites, text)
    net = network(sites, text, input_shape=(1, 4, 4))
    assert net.layers == [ReLU(), Conv2d(1, 2, 3), Flatten(), Dense(8, 3)]
    with pytest.raises(InputError, match="layer 3: Dense"):
        network(sites, text, input_shape=(1, 5, 5))
