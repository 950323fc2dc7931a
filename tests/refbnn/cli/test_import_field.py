"""Files as users of other tools have them: the right network, or one line that says what to do."""

from pathlib import Path

import numpy as np
import pytest

from refbnn import cli, load
from refbnn.files.torch_file import read_torch

FILES = Path(__file__).parents[2] / "data" / "field"
CONV = ["--layers", "conv 1 2 3, relu, flatten, dense 72 3", "--input-shape", "1,8,8"]
SHAPES = "dense 3 5, tanh, dense 5 5, tanh, dense 5 1"


def run(capsys, target, path, *words):
    code = cli.main(["import", str(FILES / path), *words, "-o", str(target)])
    out, err = capsys.readouterr()
    return code, out, err


def imported(capsys, tmp_path, path, *words):
    code, out, err = run(capsys, tmp_path / "m.npz", path, *words)
    assert (code, err) == (0, "")
    return load(tmp_path / "m.npz"), out


def at_means(net, x):
    return net.forward(x, {name: p.mean for name, p in net.parameters().items()})[0]


@pytest.mark.parametrize("path", ["03_some_biases/conv_without_bias", "05_conv_input_shape/conv"])
def test_convolutions_compute_what_pytorch_computes(capsys, tmp_path, path):
    net, out = imported(capsys, tmp_path, f"{path}.pt", "--from", "bayesian-torch", *CONV)
    x, want = (np.load((FILES / path).parent / f"{name}.npy") for name in ("x", "expected"))
    # PyTorch computes in float32: sums of 72 products of order 0.1 to a few 1e-7.
    np.testing.assert_allclose(at_means(net, x), want, atol=1e-6)
    assert net.input_shape == (1, 8, 8)
    bias = net.parameters()["0.bias"]
    assert ("known to be 0: 0.bias\n" in out) == ("without_bias" in path)
    assert bias.scale.any() == bias.mean.any() == ("without_bias" not in path)


@pytest.mark.parametrize("name", ["plain", "module_prefix", "wrapped", "wrapped_module"])
def test_checkpoints_hold_the_same_network(capsys, tmp_path, name):
    words = ("--from", "bayesian-torch", "--activation", "relu")
    net, _ = imported(capsys, tmp_path, f"04_wrapped_checkpoint/{name}.pt", *words)
    state = read_torch(FILES / "04_wrapped_checkpoint/plain.pt")
    p = net.parameters()["2.weight"]
    np.testing.assert_array_equal(p.mean, state["fc2.mu_weight"])
    rho = state["fc2.rho_weight"].astype(float)
    np.testing.assert_allclose(p.scale, np.log(1 + np.exp(rho)), rtol=1e-12)  # loses digits at -3


@pytest.mark.parametrize("name", ["normal", "normal_with_sigma"])
def test_pyro_networks_with_tanh(capsys, tmp_path, name):
    skip = ["--skip", "sigma"] if "sigma" in name else []
    words = ("--from", "pyro", "--activation", "tanh", *skip)
    net, out = imported(capsys, tmp_path, f"06_activation_and_extra_site/{name}.pt", *words)
    assert ("skipped: sigma" in out) == bool(skip)
    params = read_torch(FILES / f"06_activation_and_extra_site/{name}.pt")["params"]
    w1, b1, w2, b2 = (
        params[f"AutoNormal.locs.fc{i}.{kind}"].astype(float)
        for i in (1, 2)
        for kind in ("weight", "bias")
    )
    x = np.linspace(-1, 1, 5)[:, np.newaxis]
    want = np.tanh(x @ w1.T + b1) @ w2.T + b2
    np.testing.assert_allclose(at_means(net, x), want, rtol=1e-12)


@pytest.mark.parametrize("name", ["no_bias", "prec_obs", "compressed"])
def test_numpyro_networks_without_biases(capsys, tmp_path, name):
    skip = ["--skip", "prec_obs"] if name == "prec_obs" else []
    path = f"06_activation_and_extra_site/{name}.npz"
    net, _ = imported(capsys, tmp_path, path, "--from", "numpyro", "--layers", SHAPES, *skip)
    with np.load(FILES / path) as file:
        arrays = dict(file)
    x = np.random.default_rng(0).standard_normal((4, 3))
    want = np.tanh(np.tanh(x @ arrays["w1_auto_loc"]) @ arrays["w2_auto_loc"])
    np.testing.assert_allclose(at_means(net, x), want @ arrays["w3_auto_loc"], atol=1e-12)


def test_a_guide_written_by_hand(capsys, tmp_path):
    path = "08_mean_field_guides/loc_scale_per_site.pt"
    net, _ = imported(capsys, tmp_path, path, "--from", "pyro", "--activation", "tanh")
    params = read_torch(FILES / path)["params"]
    p = net.parameters()["2.weight"]
    np.testing.assert_array_equal(p.mean, params["net_guide.2.weight.loc"])
    np.testing.assert_allclose(p.scale, np.exp(params["net_guide.2.weight.scale"]), rtol=1e-6)
    np.testing.assert_allclose(p.scale, 0.1, rtol=1e-6)  # what the guide was made with, in float32


def test_a_row_of_all_weights_is_taken_apart(capsys, tmp_path):
    path = "08_mean_field_guides/diagonal.pt"
    words = ("--from", "pyro", "--layers", "dense 1 8, tanh, dense 8 1")
    order = ("--order", "0.weight,0.bias,2.weight,2.bias")
    net, _ = imported(capsys, tmp_path, path, *words, *order)
    row = read_torch(FILES / path)["params"]["AutoDiagonalNormal.loc"]
    for name, want in {"0.weight": row[:8], "0.bias": row[8:16], "2.bias": row[24:]}.items():
        np.testing.assert_array_equal(net.parameters()[name].mean.ravel(), want)
    other = ("--order", "0.bias,0.weight,2.bias,2.weight")
    net, _ = imported(capsys, tmp_path, path, *words, *other)
    np.testing.assert_array_equal(net.parameters()["0.weight"].mean.ravel(), row[8:16])
    for part, said in [((), "expected --order"), (("--order", "0.weight,2.weight"), "expected 16")]:
        code, _, err = run(capsys, tmp_path / "n.npz", path, *words, *part)
        assert code == 2
        assert "guide 'AutoDiagonalNormal' holds 25 numbers" in err
        assert said in err


def test_a_row_of_numpyro_without_biases(capsys, tmp_path):
    words = ("--from", "numpyro", "--layers", SHAPES, "--order", "0.weight,2.weight,4.weight")
    path = "06_activation_and_extra_site/diagonal.npz"
    code, _, err = run(capsys, tmp_path / "m.npz", path, *words)
    assert code == 2
    assert "(out, in) or as (in, out); expected --transpose" in err
    net, _ = imported(capsys, tmp_path, path, *words, "--transpose")
    assert not net.parameters()["2.bias"].scale.any()
    np.testing.assert_allclose(net.parameters()["2.weight"].scale, 0.1, rtol=1e-7)


TANH = ["--activation", "tanh"]
TORCH, PYRO, NUMPYRO = (["--from", tool] for tool in ("bayesian-torch", "pyro", "numpyro"))


@pytest.mark.parametrize(
    ("path", "words", "said"),
    [
        ("03_some_biases/conv_without_bias.pt", TORCH, "'conv 1 2 3, relu, flatten, dense 72 3'"),
        ("05_conv_input_shape/conv.pt", [*TORCH, *CONV[:2]], "expected --input-shape"),
        ("05_conv_input_shape/conv.pt", [*TORCH, "--assume"], "expected --input-shape"),
        ("05_conv_input_shape/conv.pt", [*TORCH, *TANH], "no dense weight"),
        ("05_conv_input_shape/conv.pt", [*TORCH, *CONV[:3], "1,9,9"], "layer 3: Dense"),
        (
            "05_conv_input_shape/conv.pt",
            [*TORCH, *CONV[:3], "8,8,1"],
            "layer 0: Conv2d(1, 2, 3): image",
        ),
        ("04_wrapped_checkpoint/plain.pt", TORCH, "--assume for 'dense 4 8, relu, dense 8 3'"),
        ("04_wrapped_checkpoint/legacy.pt", [*TORCH, *TANH], "save it again by torch.save"),
        ("04_wrapped_checkpoint/whole_model.pt", [*TORCH, *TANH], "torch.save(model.state_dict()"),
        ("06_activation_and_extra_site/normal.pt", PYRO, "expected --layers"),
        ("06_activation_and_extra_site/normal_with_sigma.pt", [*PYRO, *TANH], "or --skip sigma"),
        ("06_activation_and_extra_site/prec_obs.npz", [*NUMPYRO, *TANH], "or --skip prec_obs"),
        ("06_activation_and_extra_site/diagonal.npz", [*NUMPYRO, *TANH], "'AutoDiagonalNormal'"),
        ("06_activation_and_extra_site/diagonal.npz", NUMPYRO, "'AutoDiagonalNormal'"),
        ("06_activation_and_extra_site/params.pkl", [*NUMPYRO, *TANH], "numpy.savez(file"),
        ("06_activation_and_extra_site/normal.pt", [*PYRO, *TANH, "--skip", "x"], "--skip x"),
        ("08_mean_field_guides/diagonal.pt", [*PYRO, *TANH], "'AutoDiagonalNormal'"),
        ("08_mean_field_guides/loc_scale_per_site.pt", PYRO, "dense 1 8, relu, dense 8 1"),
    ],
)
def test_what_is_not_stated_is_asked_for(capsys, tmp_path, path, words, said):
    code, out, err = run(capsys, tmp_path / "m.npz", path, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
