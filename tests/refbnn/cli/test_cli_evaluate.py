"""The table and the numbers of `refbnn evaluate`."""

import json

import numpy as np
import pytest

from refbnn import Network, cli, data, predict, save
from refbnn.layers import Dense, Flatten

WORDS = ["evaluate", "m.npz", "--id", "mnist-subset", "--json", "e.json"]


def run(capsys, *words):
    code = cli.main([str(word) for word in words])
    return code, *capsys.readouterr()


@pytest.fixture(autouse=True)
def net(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = Network([Flatten(), Dense(784, 10)], input_shape=(1, 28, 28), seed=0)
    save("m.npz", net)
    return net


def numbers(tmp_path):
    return json.loads((tmp_path / "e.json").read_text())["by_method"]


def test_samples_are_those_of_sampling(capsys, tmp_path, net):
    """With both methods propagation keeps its quadrature; alone it takes draws of the logits."""
    x = net.shaped(data.load("mnist-subset", "test").x)
    assert run(capsys, *WORDS, "--samples", 3)[0] == 0
    both = numbers(tmp_path)
    for method, n in (("pfp", None), ("svi", 3)):
        want = predict(net, x, method=method, n_samples=n).mutual_information
        got = both[method]
        assert got["mutual_information_inside_nats"] == pytest.approx(want.mean(), rel=1e-9)
        error = want.std(ddof=1) / np.sqrt(len(want))
        assert got["mutual_information_inside_nats_se"] == pytest.approx(error, rel=1e-9)
    assert run(capsys, *WORDS, "--samples", 3, "--method", "pfp")[0] == 0
    drawn = predict(net, x, n_samples=3).mutual_information.mean()
    assert numbers(tmp_path)["pfp"]["mutual_information_inside_nats"] == pytest.approx(drawn)
    assert drawn != pytest.approx(both["pfp"]["mutual_information_inside_nats"], rel=1e-6)


def test_standard_errors_stand_beside_the_numbers(capsys, tmp_path):
    code, out, err = run(capsys, *WORDS, "--method", "svi", "--samples", 4)
    assert (code, err) == (0, "")
    measures = numbers(tmp_path)["svi"]
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    for key in ("accuracy", "log_score_nats", "predictive_entropy_inside_nats"):
        assert rows[key] == [f"{measures[key]:.4f}", "±", f"{measures[f'{key}_se']:.4f}"]
    assert rows["brier_score"] == [f"{measures['brier_score']:.4f}"]
    share, n = measures["accuracy"], 1000
    assert measures["accuracy_se"] == pytest.approx(np.sqrt(share * (1 - share) / (n - 1)))
    assert "the mutual information of 4 samples is too low by about the factor 1 - 1/4" in out
    out = run(capsys, *WORDS, "--method", "pfp")[1]
    assert "too low" not in out


def test_linearised_propagation(capsys, tmp_path, net):
    net = net.with_variance_factor(2.0)
    save("m.npz", net)
    code, out, _ = run(capsys, *WORDS, "--method", "linearised", "--samples", 64)
    assert code == 0
    assert "LINEARISED without the network's variance factor" in out
    x = net.shaped(data.load("mnist-subset", "test").x)
    want = predict(net, x, method="linearised", n_samples=64).mutual_information.mean()
    found = numbers(tmp_path)["linearised"]["mutual_information_inside_nats"]
    assert found == pytest.approx(want, rel=1e-9)
    np.save("x.npy", x[:5])
    code, out, _ = run(capsys, "predict", "m.npz", "x.npy", "--method", "linearised")
    assert code == 0
    last = float(out.splitlines()[5].split(",")[-1])
    of_five = predict(net, x[:5], method="linearised").mutual_information
    assert last == pytest.approx(of_five[4], rel=1e-9)


def test_help_states_the_bias(capsys):
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "too low by about the factor 1 - 1/N, 3 % for 30." in words


@pytest.mark.parametrize("method", [[], ["--method", "pfp"]])
def test_correlated_weights_ask_for_sampling(capsys, tmp_path, method):
    net = Network(
        [Flatten(), Dense(784, 10), Dense(10, 10)], input_shape=(1, 28, 28), correlated=[2]
    )
    save("m.npz", net)
    code, out, err = run(capsys, *WORDS, *method)
    assert (code, out) == (2, "")
    assert "m.npz: layers [2] have correlated weights" in err
    assert "expected --method svi" in err
    assert err.count("\n") == 1
    assert run(capsys, *WORDS, "--method", "svi", "--samples", 2)[0] == 0
