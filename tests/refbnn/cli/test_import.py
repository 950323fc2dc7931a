import re
from pathlib import Path

import numpy as np
import pytest

from refbnn import cli
from refbnn.errors import InputError
from refbnn.layers import Dense, Layer, LeakyReLU, Normalise, ReLU, Tanh
from refbnn.network.file import load
from refbnn.network.interchange import READERS, import_network
from refbnn.prior import GaussianPrior

FILES = Path(__file__).parents[2] / "data" / "checkpoints"
PYRO, NUMPYRO = FILES / "pyro_autonormal_tiny.pt", FILES / "numpyro_autonormal_tiny.npz"
BAYESIAN_TORCH = FILES / "bayesian_torch_tiny.pt"
SHAPE = {BAYESIAN_TORCH: ("--input-shape", "1,4,4")}


def run(capsys, *words):
    code = cli.main(["import", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("tool", "path"), [("pyro", PYRO), ("numpyro", NUMPYRO), ("bayesian-torch", BAYESIAN_TORCH)]
)
def test_the_command_writes_a_checkpoint_that_loads(capsys, tmp_path, tool, path):
    target = tmp_path / "model.npz"
    words = ("--assume", *SHAPE.get(path, ()), "--prior-scale", 0.5)
    code, out, err = run(capsys, path, "--from", tool, "-o", target, *words)
    assert (code, err) == (0, "")
    net, sites = load(target), READERS[tool](path)
    assert net.prior == GaussianPrior(0.5)
    kept = {p.shape: p for p in net.parameters().values()}  # in these files every shape is another
    for site, posterior in sites.items():
        np.testing.assert_array_equal(kept[posterior.shape].mean, posterior.mean)
        np.testing.assert_array_equal(kept[posterior.shape].scale, posterior.scale)
        (row,) = (line for line in out.splitlines() if line.startswith(site))
        size = "×".join(map(str, posterior.shape))
        assert row.split()[2:] == [
            size, f"{abs(posterior.mean).mean():.4g}", f"{posterior.scale.mean():.4g}"
        ]  # fmt: skip
    assert "layers assumed: " in out


LAYERS = "dense 4 8, leaky_relu 0.2, dense 8 3"


def test_layers_and_inputs_are_what_is_stated(capsys, tmp_path):
    """Text, a file of it, and Python make the same network."""
    target, file = tmp_path / "m.npz", tmp_path / "layers.txt"
    file.write_text(LAYERS.replace(", ", "\n"))
    more = ("--normalise", 1, 2, "--input-range", 0, 255)
    for text in (LAYERS, f"@{file}"):
        code, out, _ = run(capsys, PYRO, "--from", "pyro", "-o", target, "--layers", text, *more)
        assert code == 0
        assert f"layers: {LAYERS}" in out
        assert "inputs: Normalise(1.0, 2.0)" in out
        net = load(target)
        assert net.layers[1:] == [Dense(4, 8), LeakyReLU(0.2), Dense(8, 3)]
        assert net.input_range == (0.0, 255.0)
        layers: list[Layer] = [Dense(4, 8), LeakyReLU(0.2), Dense(8, 3)]
        own = import_network(PYRO, "pyro", layers=layers, normalise=Normalise(1.0, 2.0)).network
        x = np.random.default_rng(0).uniform(0, 255, (5, 4))
        np.testing.assert_array_equal(net.propagate(x).var, own.propagate(x).var)


def test_python_states_layers_in_four_ways():
    text = "dense 4 8, tanh, dense 8 3"
    ways: list[dict] = [{"activation": "tanh"}, {"activation": Tanh()}, {"layers": text}]
    for stated in ways:
        found = import_network(PYRO, "pyro", **stated)
        assert found.network.layers == [Dense(4, 8), Tanh(), Dense(8, 3)]
        assert found.layers == text
    assert import_network(PYRO, "pyro", assume=True).network.layers[1] == ReLU()
    with pytest.raises(InputError, match="says nothing of activations"):
        import_network(PYRO, "pyro")
    with pytest.raises(InputError, match=r"tool 'piro'; .*did you mean 'pyro'\?"):
        import_network(PYRO, "piro", assume=True)
    with pytest.raises(InputError, match="layer 0: Normalise: input has shape"):
        import_network(PYRO, "pyro", assume=True, normalise=Normalise([0.0, 1.0], [1.0, 1.0]))


def test_a_named_architecture_takes_images_of_the_stated_shape(capsys, tmp_path):
    shapes = {"1": (100, 12), "2": (100, 100), "3": (7, 100)}
    arrays: dict = {}
    for name, shape in shapes.items():
        arrays |= {f"w{name}_auto_loc": np.ones(shape), f"w{name}_auto_scale": np.ones(shape)}
    np.savez(tmp_path / "a.npz", **arrays)
    words = ("--from", "numpyro", "-o", tmp_path / "m.npz", "--arch", "mlp", "--no-transpose")
    code, _, err = run(capsys, tmp_path / "a.npz", *words)
    assert code == 2
    assert "'w1' has shape (100, 12); expected (100, 784)" in err
    code, _, _ = run(capsys, tmp_path / "a.npz", *words, "--input-shape", "3,2,2")
    assert code == 0
    net = load(tmp_path / "m.npz")
    assert (net.input_shape, net.output_shape) == ((12,), (7,))


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"layers": ["relu"]}, "layers: 'relu' at 0; expected a layer"),
        ({"layers": [ReLU]}, "at 0; expected a layer"),
        ({"layers": 5}, "layers: int; expected a sequence"),
        ({"layers": []}, "2 weights, fc1.weight, fc2.weight; expected 0"),
        ({"activation": ReLU}, "expected one activation"),
        ({"assume": True, "input_shape": (4.5,)}, "input_shape is 4.5"),
        ({"assume": True, "input_shape": "4"}, "input_shape is '4'"),
    ],
)
def test_python_calls_that_are_wrong(stated, said):
    with pytest.raises(InputError, match=said):
        import_network(PYRO, "pyro", **stated)


ASSUME = ["--assume"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([PYRO, "--from", "numpyro", *ASSUME], "'archive/data.pkl': expected a plain array"),
        ([PYRO, "--from", "bayesian-torch", *ASSUME], "'params' is a dict; expected a state dict"),
        (["none.pt", "--from", "pyro", *ASSUME], "none.pt: not a file"),
        ([PYRO, "--from", "pyro"], "or --assume for 'dense 4 8, relu, dense 8 3'"),
        ([PYRO, "--from", "pyro", "--arch", "mlp"], r"\.pt: 2 weights, .*; expected 3"),
        ([PYRO, "--from", "pyro", "--arch", "x"], "architecture 'x'"),
        ([PYRO, "--from", "pyro", *ASSUME, "--arch", "mlp"], "--arch and --assume; expected one"),
        ([PYRO, "--from", "pyro", *ASSUME, "--transpose"], "does not follow"),
        ([PYRO, "--from", "pyro", *ASSUME, "--prior-scale", "0"], "GaussianPrior: scale"),
        ([PYRO, "--from", "pyro", "--activation", "tahn"], "--activation: .*'tahn'; .*mean 'tanh'"),
        ([PYRO, "--from", "pyro", "--activation", "flatten"], "expected one activation"),
        ([PYRO, "--from", "pyro", "--activation", "relu, relu"], "expected one activation"),
        ([PYRO, "--from", "pyro", "--layers", "dense 4 9, dense 9 3"], "'fc1.weight' has shape"),
        ([PYRO, "--from", "pyro", "--layers", "@none.txt"], r"--layers none.txt: cannot be read"),
        ([PYRO, "--from", "pyro", "--layers", "dense 4 8, rel"], "item 2 'rel': no layer 'rel'"),
        ([PYRO, "--from", "pyro", *ASSUME, "--input-range", "1", "0"], "input_range"),
        ([PYRO, "--from", "pyro", *ASSUME, "--input-shape", "5"], "layer 0: Dense"),
        ([PYRO, "--from", "pyro", *ASSUME, "--normalise", "0", "0"], "--normalise: the least sd"),
        ([PYRO, "--from", "pyro", *ASSUME, "--order", "fc1.weight"], "--order: 'fc1.bias' is not"),
        (
            [PYRO, "--from", "pyro", *ASSUME, "--skip", "fc2.weight"],
            "names of 1 weights and 2 biases do not say",
        ),
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
    for shape in ("1,28", "0", "a,b,c", ""):
        with pytest.raises(SystemExit, match="2"):
            run(capsys, PYRO, "--from", "pyro", "-o", tmp_path / "m.npz", "--input-shape", shape)
        assert "expected C,H,W of an image, or one number" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["import", "--help"])
    assert set(READERS) <= set(re.findall(r"[\w-]+", capsys.readouterr().out))
