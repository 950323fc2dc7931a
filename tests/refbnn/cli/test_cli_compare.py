"""The table, verdict and numbers of `refbnn compare`."""

import json

import numpy as np
import pytest

from refbnn import Network, Posterior, data, save
from refbnn.layers import Conv2d, Dense, Flatten, MaxPool2d, ReLU
from refbnn.uncertainty.pfp_vs_svi import BLOCKS, compare
from tests.helpers.command import run

WORDS = ["compare", "m.npz", "--id", "mnist-subset", "--samples", "40"]


@pytest.fixture(autouse=True)
def net(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = Network([Dense(784, 10)], seed=0)
    posteriors = {n: Posterior(p.mean, np.full(p.shape, 1e-4)) for n, p in net.parameters().items()}
    net.set_parameters(posteriors)
    save("m.npz", net)
    return net


def test_numbers_and_verdict(capsys, tmp_path, net):
    words = [*WORDS, "--inputs", 50, "--ood", "fashion-subset", "--json", "c.json"]
    code, out, err = run(capsys, *words, "--seed", 3)
    numbers = json.loads((tmp_path / "c.json").read_text())
    inside, outside = (data.load(n, "test") for n in ("mnist-subset", "fashion-subset"))
    x, x_out = (net.shaped(s.x[:50]) for s in (inside, outside))
    found = compare(net, x, inside.y[:50], x_out, n_samples=40, seed=3)
    assert list(numbers["measures"]) == list(found)
    for key, m in found.items():
        got = numbers["measures"][key]
        assert got["difference"] == pytest.approx(m.difference, abs=1e-12)
        assert got["monte_carlo_se"] == pytest.approx(m.monte_carlo_se, abs=1e-12)
        assert got["held"] == m.held
    assert numbers["inputs"] == {"in_distribution": 50, "out_of_distribution": 50}
    assert (numbers["samples"], numbers["method"]) == (40, "pfp")
    failed = [key for key, m in found.items() if not m.held]
    assert code == (1 if failed else 0)
    assert err.count("check failed") == len(failed)
    for key, m in found.items():
        if m.limit is not None:
            assert f"{'missed' if key in failed else 'held'}: {key} within" in out
    again = run(capsys, *words, "--seed", 3)
    assert again == (code, out, err)


def test_exit_codes(capsys, net):
    """Hardly any noise: both say the same. Much noise behind a narrow layer: not so."""
    code, out, err = run(capsys, *WORDS)
    assert (code, err) == (0, "")
    assert "held: accuracy within 0.20 points" in out
    net = Network([Dense(784, 5), ReLU(), Dense(5, 10)], seed=0)
    net.set_parameters(
        {n: Posterior(p.mean, np.full(p.shape, 0.3)) for n, p in net.parameters().items()}
    )
    save("m.npz", net)
    code, out, err = run(capsys, *WORDS, "--inputs", 200, "--ood", "fashion-subset")
    assert code == 1
    assert "missed: auroc_mutual_information within 0.0100" in out
    assert "refbnn compare: check failed: auroc_mutual_information of PFP is off by" in err
    assert "Traceback" not in err


def test_full_covariance(capsys):
    code, out, _ = run(capsys, *WORDS, "--method", "full", "--inputs", 20)
    assert code == 0
    assert "FULL: 1024 points of the logits" in out


def test_factor_is_stated(capsys, net):
    save("m.npz", net.with_variance_factor(1.5))
    assert "PFP with 1.5 times the variance of every weight" in run(capsys, *WORDS)[1]


def test_what_cannot_be_compared(capsys, tmp_path):
    def refused(*words):
        code, out, err = run(capsys, *words)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        return err

    assert f"n_samples is 31; expected at least {2 * BLOCKS}" in refused(*WORDS[:-1], "31")
    assert "--method svi: expected one of pfp, linearised, full" in refused(
        *WORDS, "--method", "svi"
    )
    assert "nothing.npz" in refused("compare", "nothing.npz", "--id", "mnist-subset")
    assert "no-such-set" in refused("compare", "m.npz", "--id", "no-such-set")
    save("m.npz", Network([Dense(784, 3)]))
    assert "outputs (3,); expected 10 classes, as mnist-subset has" in refused(*WORDS)
    save("m.npz", Network([Dense(100, 10)]))
    assert "expected (100,)" in refused(*WORDS)
    save("m.npz", _correlated())
    assert "layers [2] have correlated weights" in refused(*WORDS)
    net = Network(
        [Conv2d(1, 1, 5), MaxPool2d(4), Flatten(), Dense(36, 10)], input_shape=(1, 28, 28)
    )
    save("m.npz", net)
    assert "layer 0 is Conv2d; expected Dense" in refused(*WORDS, "--method", "full")


def _correlated() -> Network:
    return Network(
        [Flatten(), Dense(784, 10), Dense(10, 10)], input_shape=(1, 28, 28), correlated=[2]
    )


def test_help_states_the_fewest_samples(capsys):
    assert f"at least {2 * BLOCKS}" in " ".join(run(capsys, "compare", "--help")[1].split())
