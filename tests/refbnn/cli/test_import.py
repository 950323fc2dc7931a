import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from refbnn import cli
from refbnn.errors import InputError
from refbnn.layers import Conv2d, Dense, Flatten, Layer, ReLU
from refbnn.layers.layer import Shape
from refbnn.layers.posterior import Posterior
from refbnn.network.architectures import ARCHITECTURES, DIGITS, Architecture
from refbnn.network.file import load
from refbnn.network.interchange import READERS
from refbnn.network.interchange.assembly import assemble
from refbnn.prior import GaussianPrior

FILES = Path(__file__).parents[2] / "data" / "checkpoints"
PYRO, NUMPYRO = FILES / "pyro_autonormal_tiny.pt", FILES / "numpyro_autonormal_tiny.npz"
BAYESIAN_TORCH = FILES / "bayesian_torch_tiny.pt"
PRIOR = GaussianPrior(1.0)


def sites_of(**shapes):
    rng = np.random.default_rng(3)
    return {n: Posterior(rng.standard_normal(s), rng.random(s)) for n, s in shapes.items()}


@pytest.mark.parametrize(("tool", "path"), [("pyro", PYRO), ("numpyro", NUMPYRO)])
def test_dense_networks_compute_what_the_means_say(tool, path):
    sites = READERS[tool](path)
    net = assemble(sites, prior=PRIOR)
    assert net.layers == [Dense(4, 8), ReLU(), Dense(8, 3)]
    x = np.random.default_rng(4).standard_normal((5, 4))
    means = {name: p.mean for name, p in net.parameters().items()}
    w1, b1, w2, b2 = (sites[f"fc{i}.{n}"].mean for i in (1, 2) for n in ("weight", "bias"))
    want = np.array([w2 @ np.maximum(w1 @ row + b1, 0) + b2 for row in x])
    np.testing.assert_allclose(net.forward(x, means)[0], want, rtol=1e-13)
    scales = {name: p.scale for name, p in net.parameters().items()}
    np.testing.assert_array_equal(scales["2.weight"], sites["fc2.weight"].scale)


def test_convolutions_are_followed_by_a_flat_layer():
    net = assemble(READERS["bayesian-torch"](BAYESIAN_TORCH), prior=PRIOR)
    assert net.layers == [Conv2d(1, 2, 3), ReLU(), Flatten(), Dense(8, 3)]
    assert net.check_input((1, 4, 4)) == (3,)


def test_weights_of_x_times_w_are_turned():
    sites = sites_of(w1=(4, 8), b1=(8,), w2=(8, 3), b2=(3,))
    net = assemble(sites, prior=PRIOR)
    assert net.layers == [Dense(4, 8), ReLU(), Dense(8, 3)]
    np.testing.assert_array_equal(net.parameters()["0.weight"].mean, sites["w1"].mean.T)
    with pytest.raises(InputError, match="'w2' of shape"):
        assemble(sites, prior=PRIOR, transpose=False)


def test_biases_may_come_first_or_not_at_all():
    b_first = assemble(sites_of(b1=(8,), b2=(3,), w1=(8, 4), w2=(3, 8)), prior=PRIOR)
    assert b_first.layers == [Dense(4, 8), ReLU(), Dense(8, 3)]
    without = assemble(sites_of(w1=(8, 4), w2=(3, 8)), prior=PRIOR)
    bias = without.parameters()["0.bias"]
    assert not bias.mean.any()
    assert not bias.scale.any()


def test_square_weights_are_not_guessed():
    sites = sites_of(w1=(4, 4), b1=(4,), w2=(4, 4), b2=(4,))
    with pytest.raises(InputError, match="expected --transpose or --no-transpose"):
        assemble(sites, prior=PRIOR)
    kept = assemble(sites, prior=PRIOR, transpose=False).parameters()["0.weight"]
    turned = assemble(sites, prior=PRIOR, transpose=True).parameters()["0.weight"]
    np.testing.assert_array_equal(kept.mean, turned.mean.T)


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"w1": (8, 4), "b1": (8,), "w2": (3, 7), "b2": (3,)}, "site 'w2' of shape"),
        ({"w1": (8, 4), "b1": (7,)}, "site 'b1' has shape"),
        ({"w1": (8, 4), "b1": (8,), "w2": (3, 8)}, "2 weights and 1 biases"),
        ({"b1": (8,)}, "0 weights and 1 biases"),
        ({}, "0 weights and 0 biases"),
        ({"a": (), "w1": (8, 4)}, "site 'a' has shape"),
        ({"a": (2, 3, 4)}, "site 'a' has shape"),
        ({"w1": (0, 4)}, "site 'w1' has shape"),
        ({"c1": (2, 1, 3, 3), "c2": (4, 3, 3, 3)}, "site 'c2' of shape"),
        ({"c1": (2, 1, 3, 3), "w": (3, 9)}, "site 'w' of shape"),
        ({"w": (3, 8), "c": (2, 3, 3, 3)}, "site 'c' of shape"),
    ],
)
def test_sites_that_fit_no_network_are_named(shapes, said):
    with pytest.raises(InputError, match=said):
        assemble(sites_of(**shapes), prior=PRIOR)


def with_sizes(*sizes):
    """An architecture of dense layers in a row, of these sizes but for the outputs."""

    def layers(n_outputs: int, image: Shape = DIGITS) -> list[Layer]:
        return [Dense(*pair) for pair in pairwise([*sizes, n_outputs])]

    return Architecture(layers, flat=True)


def test_an_architecture_takes_the_sites_or_names_the_misfit():
    sites = READERS["pyro"](PYRO)
    chosen = with_sizes(4, 8)
    net = assemble(sites, prior=GaussianPrior(0.5), architecture=chosen)
    assert net.layers == chosen.layers(3)
    assert net.prior == GaussianPrior(0.5)
    with pytest.raises(InputError, match=r"site 'fc1.weight' has shape .*weight of layer 0"):
        assemble(sites, prior=PRIOR, architecture=with_sizes(5, 8))
    with pytest.raises(InputError, match=r"2 weights, fc1\.weight, fc2\.weight; expected 1"):
        assemble(sites, prior=PRIOR, architecture=with_sizes(4))


def test_lenet_5_is_taken_whole():
    chosen = ARCHITECTURES["lenet5"]
    layers = chosen.layers(7)
    shapes = {
        f"{index}.{name}": shape
        for index, layer in enumerate(layers)
        for name, shape in layer.parameter_shapes().items()
    }
    sites = sites_of(**shapes)
    net = assemble(sites, prior=PRIOR, architecture=chosen)
    assert (net.layers, net.input_shape) == (layers, (1, 28, 28))
    for name, posterior in net.parameters().items():
        np.testing.assert_array_equal(posterior.mean, sites[name].mean)


def run(capsys, *words):
    code = cli.main(["import", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("tool", "path"), [("pyro", PYRO), ("numpyro", NUMPYRO), ("bayesian-torch", BAYESIAN_TORCH)]
)
def test_the_command_writes_a_checkpoint_that_loads(capsys, tmp_path, tool, path):
    target = tmp_path / "model.npz"
    code, out, err = run(capsys, path, "--from", tool, "-o", target, "--prior-scale", 0.5)
    assert (code, err) == (0, "")
    net, sites = load(target), READERS[tool](path)
    assert net.prior == GaussianPrior(0.5)
    kept = {p.shape: p for p in net.parameters().values()}  # in these files every shape is another
    for site, posterior in sites.items():
        np.testing.assert_array_equal(kept[posterior.shape].mean, posterior.mean)
        np.testing.assert_array_equal(kept[posterior.shape].scale, posterior.scale)
        (row,) = (line for line in out.splitlines() if line.startswith(site))
        size = "×".join(map(str, posterior.shape))
        assert row.split()[1:] == [
            size, f"{abs(posterior.mean).mean():.4g}", f"{posterior.scale.mean():.4g}"
        ]  # fmt: skip
    assert "layers assumed: " in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([PYRO, "--from", "numpyro"], "'archive/data.pkl': expected a plain array"),
        ([PYRO, "--from", "bayesian-torch"], "'params' is a dict; expected a state dict"),
        (["none.pt", "--from", "pyro"], "none.pt: not a file"),
        ([PYRO, "--from", "pyro", "--arch", "mlp"], r"\.pt: 2 weights, .*; expected 3"),
        ([PYRO, "--from", "pyro", "--arch", "x"], "architecture 'x'"),
        ([PYRO, "--from", "pyro", "--transpose"], "does not follow"),
        ([PYRO, "--from", "pyro", "--prior-scale", "0"], "GaussianPrior: scale"),
    ],
)
def test_wrong_calls_are_one_line_and_write_nothing(capsys, tmp_path, words, said):
    code, out, err = run(capsys, *words, "-o", tmp_path / "model.npz")
    assert (code, out) == (2, "")
    assert re.search(said, err)
    assert err.startswith("refbnn import: ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_command_names_every_reader(capsys, tmp_path):
    code, out, err = run(capsys, PYRO, "--from", "pyrro", "-o", tmp_path / "m.npz")
    assert (code, out) == (2, "")
    assert f"expected one of {', '.join(READERS)}; did you mean 'pyro'?" in err
    with pytest.raises(SystemExit):
        cli.main(["import", "--help"])
    assert set(READERS) <= set(re.findall(r"[\w-]+", capsys.readouterr().out))
