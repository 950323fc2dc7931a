"""Networks that other tools trained, through the command line: the tools' own numbers come back."""

from pathlib import Path

import numpy as np
import pytest

from refbnn import cli, data, load
from refbnn.files.torch_file import read_torch
from refbnn.uncertainty.auroc import auroc

FILES = Path(__file__).parents[2] / "data" / "peers"
SETS = (1, 2)
LENET5 = """conv 1 6 5 pad 2, batch_norm 6, relu, maxpool 2
conv 6 12 5, batch_norm 12, relu, maxpool 2
flatten, dense 300 64, batch_norm 64, relu, dense 64 40, relu, dense 40 10
"""
WORDS = {
    "bayesian_torch_lenet5": ["bayesian-torch", "--layers", "@FOLDER/layers.txt"],
    "pyro_mlp_tanh": [
        "pyro", "--layers", "flatten, dense 784 24, tanh, dense 24 10", "--no-transpose",
        "--order", "1.weight,1.bias,3.weight,3.bias",
    ],
}  # fmt: skip
SHARED = ["--input-shape", "1,28,28", "--normalise", "0.1307", "0.3081", "--input-range", "0", "1"]


@pytest.fixture(scope="module", params=list(WORDS))
def both(request, tmp_path_factory):
    """Ours and the tool's: the network, its probabilities, and the file of expected numbers."""
    folder, name = tmp_path_factory.mktemp("peers"), request.param
    (folder / "layers.txt").write_text(LENET5)
    words = [word.replace("FOLDER", str(folder)) for word in WORDS[name]]
    line = ["import", str(FILES / f"{name}.pt"), "--from", *words, *SHARED]
    assert cli.main([*line, "-o", str(folder / "m.npz")]) == 0
    net = load(folder / "m.npz")
    found = {
        (source, number): probabilities(net, name, data.load(source, "test").x, number)
        for source in ("mnist-subset", "fashion-subset")
        for number in (None, *SETS)
    }
    with np.load(FILES / f"{name}.expected.npz") as file:
        return net, found, dict(file)


def noise(n, number):
    """z of a weight set: `noise` of `tests/data/peers/make.py`."""
    k = np.arange(1, n + 1, dtype=float)
    fraction = np.modf(k * (np.sqrt(5.0) - 1.0) / 2.0 + number / np.pi)[0]
    return np.sqrt(3.0) * (2.0 * fraction - 1.0)


def probabilities(net, name, x, number):
    """Probabilities with every weight at µ, or at µ + σ z with z of a set.

    The network's parameters have the order of the file's; only those with a scale are there.
    """
    weights, start = {}, 0
    z = noise(net.layout.size, number or 0)
    for parameter, p in net.parameters().items():
        weights[parameter] = p.mean
        if number is not None and p.scale.any():
            own = z[start : start + p.mean.size].reshape(p.shape)
            weights[parameter] = p.mean + p.scale * own * signs(name, parameter, p)
            start += p.mean.size
    logits = net.forward(x, weights)[0]
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def signs(name, parameter, p):
    """Signs of γ where normalisation is folded in: the file's weights have the noise γ z."""
    if name != "bayesian_torch_lenet5" or not parameter.startswith("10."):
        return 1.0
    gamma = read_torch(FILES / f"{name}.pt")["state_dict"]["bn3.weight"]
    return np.sign(gamma).reshape(-1, *[1] * (p.mean.ndim - 1))


def entropy(p):
    return -(p * np.log(np.maximum(p, 1e-300))).sum(axis=-1)


def test_probabilities_and_labels_are_the_tools_own(both):
    net, found, expected = both
    assert (net.input_shape, net.input_range) == ((1, 28, 28), (0.0, 1.0))
    at_means = found["mnist-subset", None]
    # The tools compute in float32: logits of size 10 to about 1e-6.
    np.testing.assert_allclose(at_means, expected["at_means"], atol=1e-5)
    np.testing.assert_array_equal(at_means.argmax(axis=1), expected["labels"])
    accuracy = np.mean(at_means.argmax(axis=1) == data.load("mnist-subset", "test").y)
    assert f"{accuracy:.4f}" == f"{float(expected['accuracy']):.4f}"
    for number, drawn in zip(SETS, expected["drawn"], strict=True):
        np.testing.assert_allclose(found["mnist-subset", number], drawn, atol=1e-5)


def test_auroc_is_the_tools_own(both):
    _, found, expected = both
    scores: dict[str, list] = {"auroc_entropy": [], "auroc_mutual_information": []}
    for source in ("mnist-subset", "fashion-subset"):
        drawn = np.stack([found[source, number] for number in SETS])
        information = entropy(drawn.mean(axis=0)) - entropy(drawn).mean(axis=0)
        scores["auroc_entropy"].append(entropy(found[source, None]))
        scores["auroc_mutual_information"].append(information)
    for name, (inside, outside) in scores.items():
        assert f"{auroc(inside, outside)[0]:.4f}" == f"{float(expected[name]):.4f}"
