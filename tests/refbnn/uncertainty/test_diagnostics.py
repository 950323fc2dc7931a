import json

import numpy as np
import pytest
from scipy import integrate, stats

from refbnn import Moments, Network, Posterior, cli, data, save
from refbnn.errors import InputError
from refbnn.layers import Conv2d, Dense, Flatten, Layer, MaxPool2d, ReLU
from refbnn.noise import Bimodal, DeviceLaw, Gaussian, HeavyTailed
from refbnn.uncertainty.diagnostics.bounds import bounds_rows
from refbnn.uncertainty.diagnostics.diagnose import (
    THRESHOLD,
    diagnose,
    rectified,
    weighted_sum,
)
from refbnn.uncertainty.diagnostics.non_gaussianity import NonGaussianity

LAWS = (Gaussian(), Bimodal(0.9), DeviceLaw(-0.3, 1.2, (0.3, 0.8)), HeavyTailed(0.7, 0.2))


def central(values, weights):
    """Mean, variance, third and fourth cumulant of a discrete variable."""
    mean = weights @ values
    d = values - mean
    v = weights @ d**2
    return mean, v, weights @ d**3, weights @ d**4 - 3.0 * v**2


@pytest.mark.parametrize("law", LAWS)
def test_cumulants_of_products_against_atoms(law):
    """One weight times one input: three atoms carry a law's moments up to the fifth."""
    rule = law.quadrature(3)
    x, p = np.array([-0.5, 0.2, 3.0]), np.array([0.3, 0.5, 0.2])
    m, v, x3, x4 = central(x, p)
    mu, sigma, b = 0.7, 0.4, 0.3
    products = np.multiply.outer(mu + sigma * rule.nodes, x).ravel()
    _, _, third, fourth = central(products, np.multiply.outer(rule.weights, p).ravel())
    _, _, z3, z4 = central(rule.nodes, rule.weights)
    posteriors = {
        "weight": Posterior(np.array([[mu]]), np.array([[sigma]])),
        "bias": Posterior(np.zeros(1), np.array([b])),
    }
    moments = Moments(np.array([[m]]), np.array([[v]]))
    shape = NonGaussianity(np.array([[x3 / v**1.5]]), np.array([[x4 / v**2]]))
    found = weighted_sum(0, Dense(1, 1), moments, shape, posteriors, law)
    assert found[0].item() == pytest.approx(third + z3 * b**3, rel=1e-11)
    assert found[1].item() == pytest.approx(fourth + z4 * b**4, rel=1e-11)


def test_convolution_is_the_dense_layer_of_its_patches():
    rng = np.random.default_rng(0)
    law = LAWS[2]
    weight = Posterior(rng.standard_normal((2, 3, 2, 2)), rng.uniform(0.1, 1.0, (2, 3, 2, 2)))
    bias = Posterior(rng.standard_normal(2), rng.uniform(0.1, 1.0, 2))
    arrays = [rng.standard_normal((1, 3, 2, 2)) for _ in range(4)]
    arrays[1] = arrays[1] ** 2
    flat = [a.reshape(1, -1) for a in arrays]
    rows = Posterior(weight.mean.reshape(2, -1), weight.scale.reshape(2, -1))
    conv = weighted_sum(
        0, Conv2d(3, 2, 2), Moments(*arrays[:2]), NonGaussianity(*arrays[2:]),
        {"weight": weight, "bias": bias}, law,
    )  # fmt: skip
    dense = weighted_sum(
        0,
        Dense(12, 2),
        Moments(*flat[:2]),
        NonGaussianity(*flat[2:]),
        {"weight": rows, "bias": bias},
        law,
    )
    for c, d in zip(conv, dense, strict=True):
        np.testing.assert_allclose(c[:, :, 0, 0], d, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("a", [-5.0, -1.3, 0.0, 0.4, 3.0, 5.5])
def test_shape_of_a_rectified_gaussian(a):
    s = 2.5
    shape = rectified(Moments(np.array([a * s]), np.array([s * s])))

    def about(c, n):
        z = np.linspace(-a, max(-a, 0.0) + 14.0, 40_001)  # Simpson: the fourth power of 4e-4
        above = integrate.simpson((a + z - c) ** n * stats.norm.pdf(z), x=z)
        return above + (-c) ** n * stats.norm.cdf(-a)

    mean = about(0.0, 1)
    v = about(mean, 2)
    # At a = −5 raw moments cancel by 1e7 times rounding at most.
    assert shape.skewness.item() == pytest.approx(about(mean, 3) / v**1.5, rel=1e-7, abs=1e-9)
    assert shape.kurtosis.item() == pytest.approx(about(mean, 4) / v**2 - 3, rel=1e-7, abs=1e-9)


def test_known_and_extreme_inputs_of_relu():
    shape = rectified(Moments(np.array([2.0, 0.0, 1e5, -1e5]), np.array([0.0, 0.0, 1.0, 1.0])))
    np.testing.assert_array_equal(shape.skewness, 0.0)
    np.testing.assert_array_equal(shape.kurtosis, 0.0)


def test_first_layer_is_exact_for_known_inputs():
    law = HeavyTailed(0.8, 0.3)
    net = Network([Dense(3, 2)], law=law)
    x = np.random.default_rng(0).standard_normal((4, 3))
    (found,) = diagnose(net, x)
    samples = net.sample(x, 40_000, np.random.default_rng(1))
    # Batches give the standard errors; 5 of these.
    parts = samples.reshape(40, 1000, 4, 2)
    skewness = stats.skew(parts, axis=1)
    error = skewness.std(axis=0, ddof=1) / np.sqrt(40)
    # 1000 samples bias a skewness by O(1/1000).
    assert (np.abs(skewness.mean(axis=0) - found.first_order.skewness) < 5 * error + 0.05).all()
    assert found.variance_ratio is not None
    np.testing.assert_allclose(found.variance_ratio, 1.0, rtol=1e-12)


def test_second_layer_behind_independent_units():
    """One unit a channel, of weights of its own: exact for Gaussian weights and known inputs."""
    net = Network([Conv2d(1, 3, 2), ReLU(), Flatten(), Dense(3, 2)], input_shape=(1, 2, 2))
    rng = np.random.default_rng(0)
    spread = {"0.weight": 0.4, "0.bias": 0.3, "3.weight": 0.2, "3.bias": 0.1}
    own = {
        name: Posterior(rng.normal(0.0, 0.4, p.shape), np.full(p.shape, spread[name]))
        for name, p in net.parameters().items()
    }
    own["3.weight"] = Posterior(np.array([[1.0, 0.5, 0.2], [-1.0, 0.1, 0.6]]), np.full((2, 3), 0.2))
    net.set_parameters(own)
    x = np.array([[[[1.0, -0.5], [0.3, 0.8]]]])
    found = diagnose(net, x)[1].first_order

    def draw(name):
        return own[name].mean + own[name].scale * rng.standard_normal((400_000, *own[name].shape))

    hidden = np.einsum("socij,cij->so", draw("0.weight"), x[0]) + draw("0.bias")
    y = np.einsum("soi,si->so", draw("3.weight"), np.maximum(hidden, 0.0)) + draw("3.bias")
    parts = y.reshape(40, 10_000, 2)
    for wanted, statistic in ((found.skewness, stats.skew), (found.kurtosis, stats.kurtosis)):
        sampled = statistic(parts, axis=1)
        error = sampled.std(axis=0, ddof=1) / np.sqrt(40)
        # 5 standard errors; 10,000 samples bias these by O(1/10,000).
        assert (np.abs(sampled.mean(axis=0) - wanted[0]) < 5.0 * error + 0.003).all()
        assert np.abs(wanted).max() > 0.3


def test_divergence_falls_with_the_width():
    """Slope −1 for a skewed law, −2 for a symmetric one: exact for equal terms."""
    for law, slope in ((DeviceLaw(-0.3, 1.2, (0.3, 0.8)), -1), (Bimodal(0.9), -2)):
        kl = []
        for n in (512, 1024):
            net = Network([Dense(n, 1)], law=law)
            (found,) = diagnose(net, np.ones((1, n)))
            kl.append(found.first_order.divergence.item())
        assert np.log2(kl[1] / kl[0]) == pytest.approx(slope, abs=0.02)  # the bias, O(1/n)


def test_what_is_flagged():
    net = Network([Dense(2, 2), ReLU(), Dense(2, 1)], law=Bimodal(0.95))
    first, last = diagnose(net, np.array([[1.0, 0.0], [1.0, 1.0]]))
    assert (first.index, last.index) == (0, 2)
    # One term of the law's own shape: κ₄²/48 of 0.95⁴·(−2).
    kl = (2 * 0.95**4 / 4 * 2) ** 2 / 48  # weight and bias of equal scale: κ₄ halves
    np.testing.assert_allclose(first.first_order.divergence[0], kl, rtol=1e-9)
    assert pytest.approx(1 / 60) == THRESHOLD
    assert first.flagged(kl / 2)[0].all()
    assert not first.flagged(kl * 2)[0].any()


def test_images_and_weights_without_noise():
    net = Network(
        [Conv2d(1, 2, 3), ReLU(), Flatten(), Dense(8, 3)], input_shape=(1, 4, 4), law=Bimodal(0.9)
    )
    x = np.random.default_rng(0).random((60, 1, 4, 4))
    conv, dense = diagnose(net, x)
    assert conv.first_order.skewness.shape == (60, 2, 2, 2)
    assert dense.first_order.kurtosis.shape == (60, 3)
    assert conv.variance_ratio is None
    net.set_parameters(
        {n: Posterior(p.mean, np.zeros(p.shape)) for n, p in net.parameters().items()}
    )
    for layer in diagnose(net, x):
        np.testing.assert_array_equal(layer.first_order.divergence, 0.0)


def test_linearised_variance_of_a_layer_is_that_of_the_network_cut_behind_it(monkeypatch):
    """Both orders of pooling and activation; in blocks of outputs and inputs."""
    layers: list[Layer] = [
        Conv2d(1, 3, 3),
        ReLU(),
        MaxPool2d(2),
        Conv2d(3, 2, 2),
        Flatten(),
        Dense(18, 70),
    ]
    net = Network(layers, input_shape=(1, 10, 10), seed=0)
    x = np.random.default_rng(0).standard_normal((3, 1, 10, 10))
    for numbers in (1 << 22, 500):
        monkeypatch.setattr("refbnn.network.linearised._NUMBERS", numbers)
        found = diagnose(net, x, n_samples=0)
        assert [len(layer.units) for layer in found] == [64, 18, 64]
        assert (found[0].units[0], found[0].units[-1]) == (0, 3 * 8 * 8 - 1)
        for layer in found:
            cut_layers = layers[: layer.index + 1]
            if layer.layer == "Conv2d":
                cut_layers.append(Flatten())
            cut = Network(cut_layers, input_shape=(1, 10, 10))
            cut.set_parameters({name: net.parameters()[name] for name in cut.parameters()})
            by_linearised = cut.propagate(x, method="linearised").var[:, layer.units]
            want = by_linearised / cut.propagate(x).var[:, layer.units]
            assert layer.linearised_ratio is not None
            np.testing.assert_allclose(layer.linearised_ratio, want, rtol=1e-10)


def test_linearised_variances_meet_sampled_ones_where_diagonal_ones_do_not():
    layers: list[Layer] = [
        Dense(6, 50),
        ReLU(),
        Dense(50, 50),
        ReLU(),
        Dense(50, 50),
        ReLU(),
        Dense(50, 3),
    ]
    net = Network(layers, seed=0)
    # Noise in the first layer, means of one sign: what later units share adds up.
    net.set_parameters(
        {
            name: Posterior(np.abs(p.mean), np.full(p.shape, 0.3 if name[0] == "0" else 0.01))
            for name, p in net.parameters().items()
        }
    )
    x = np.random.default_rng(1).uniform(0.5, 1.5, (4, 6))
    last = diagnose(net, x, n_samples=1000)[-1]
    assert last.sampled is not None
    assert last.sampled_to_linearised is not None
    # Variances of 1000 draws are known to 4.5 %; the median of twelve, that share draws, no worse.
    assert np.median(last.sampled_to_linearised) == pytest.approx(1.0, abs=0.15)
    assert np.median(last.sampled.variance_ratio) > 1.3


def test_refusals():
    with pytest.raises(InputError, match="correlated"):
        diagnose(Network([Dense(2, 1)], correlated=[0]), np.zeros((1, 2)))
    with pytest.raises(InputError, match=r"expected \(2,\)"):
        diagnose(Network([Dense(2, 1)]), np.zeros((1, 3)))


def test_the_command_names_layers_in_the_order_of_propagation(tmp_path, capsys):
    layers: list[Layer] = [Conv2d(1, 1, 5), ReLU(), MaxPool2d(4), Flatten(), Dense(36, 10)]
    save(tmp_path / "net.npz", Network(layers, input_shape=(1, 28, 28)))
    words = ["diagnose", str(tmp_path / "net.npz"), "--data", "mnist-subset", "--inputs", "1"]
    assert cli.main([*words, "--samples", "0"]) == 0
    said = "first order: outputs of the layers 1 MaxPool2d (in the order of propagation) are taken"
    assert said in capsys.readouterr().out


def test_the_command(tmp_path, capsys):
    net = Network([Dense(784, 5), ReLU(), Dense(5, 10)], law=Bimodal(0.95))
    save(tmp_path / "net.npz", net)
    words = ["diagnose", str(tmp_path / "net.npz"), "--data", "mnist-subset", "--inputs", "20"]
    assert cli.main([*words, "--json", str(tmp_path / "out.json"), "--threshold", "1e-9"]) == 0
    out = capsys.readouterr().out
    assert "inputs with a flagged output: 20 of 20" in out
    assert "layer 0: Wasserstein distance from a Gaussian" in out
    numbers = json.loads((tmp_path / "out.json").read_text())
    assert [layer["layer"] for layer in numbers["layers"]] == [0, 2]
    assert numbers["flagged_inputs"] == list(range(20))
    x = data.load("mnist-subset", "test").x[:20].reshape(20, 784)
    assert numbers["bounds"] == bounds_rows(net, x)
    for layer, row in zip(diagnose(net, x), numbers["layers"], strict=True):
        assert layer.sampled is not None
        got = row["sampled"]
        ratio = got["variance_ratio_sampled_to_propagated"]
        assert layer.sampled_to_linearised is not None
        linear = got["variance_ratio_sampled_to_linearised"]
        assert linear["median"] == pytest.approx(np.median(layer.sampled_to_linearised))
        assert ratio["median"] == pytest.approx(np.median(layer.sampled.variance_ratio))
        assert got["excess_kurtosis"]["max"] == pytest.approx(
            np.abs(layer.sampled.non_gaussianity.kurtosis).max()
        )
        assert got["flagged_percent"] == 100.0 * layer.sampled.flagged(1e-9).mean()
    assert cli.main([*words, "--json", str(tmp_path / "out.json"), "--samples", "0"]) == 0
    assert "samples" not in capsys.readouterr().out
    numbers = json.loads((tmp_path / "out.json").read_text())
    assert [layer["sampled"] for layer in numbers["layers"]] == [None, None]
    for wrong, said in (
        (["--threshold", "-1"], "above 0"),
        (["--inputs", "0"], "at least 1"),
        (["--samples", "19"], "expected 0, or at least 20"),
    ):
        code: object
        try:
            code = cli.main([*words, *wrong])
        except SystemExit as exit_:
            code = exit_.code
        assert code == 2
        assert said in capsys.readouterr().err
