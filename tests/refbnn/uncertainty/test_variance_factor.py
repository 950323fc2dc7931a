"""The variance factor: what uses it, how it is chosen, and where it is kept."""

import json
import statistics
import zipfile

import numpy as np
import pytest

from refbnn import InputError, Network, Posterior, cli, load, predict, save
from refbnn.layers import Dense, ReLU
from refbnn.numerics.random.streams import stream
from refbnn.prediction.predict import predict_targets
from refbnn.uncertainty.variance_factor import _jackknife, choose
from refbnn.uncertainty.variance_ratio import variance_ratio


def network(n_outputs=3, scale=0.2, layers=None):
    net = Network(layers or [Dense(6, 12), ReLU(), Dense(12, n_outputs)], seed=0)
    net.set_parameters(
        {n: Posterior(p.mean, np.full(p.shape, scale)) for n, p in net.parameters().items()}
    )
    return net


def inputs(n=60):
    return np.random.default_rng(0).standard_normal((n, 6))


def test_propagation_uses_it_and_sampling_does_not():
    net, x = network(), inputs()
    other = net.with_variance_factor(2.0)
    wider = network(scale=0.2 * np.sqrt(2.0))
    np.testing.assert_allclose(other.propagate(x).var, wider.propagate(x).var, rtol=1e-13)
    np.testing.assert_allclose(other.propagate(x).mean, wider.propagate(x).mean, rtol=1e-13)
    ours, theirs = (n.sample(x, 3, np.random.default_rng(0)) for n in (net, other))
    np.testing.assert_array_equal(ours, theirs)
    assert net.variance_factor == 1.0
    assert other.with_noise(net.law).variance_factor == 2.0
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="variance factor"):
            net.with_variance_factor(bad)


def test_kernels_use_it():
    from kernels import compile_network

    net, x = network().with_variance_factor(2.0), inputs(4)
    found, exact = compile_network(net, 4)(x), net.propagate(x)
    # float32 rounding of sums of 12 terms; without the factor the variance is half of it.
    np.testing.assert_allclose(found.var, exact.var, rtol=1e-5)
    np.testing.assert_allclose(found.mean, exact.mean, rtol=1e-5, atol=1e-6)


def test_one_dense_layer_needs_none():
    """There propagation is exact: the factor differs from 1 by the noise of 100 passes."""
    net, x = network(layers=[Dense(6, 3)]), inputs(400)
    found = choose(net, x, np.zeros(400, int))
    assert found.criterion == "epistemic"
    # All inputs share the 21 weights of a pass. Their variances, which MI follows, are each known
    # to √(2/99) = 14 %, their mean to some 3 to 14 %; a factor of 1.5 is three of the latter.
    assert abs(np.log(found.factor)) < np.log(1.5)
    target = choose(network(layers=[Dense(6, 2)]), x, np.zeros((400, 2)))
    assert abs(np.log(target.factor)) < np.log(1.5)
    assert not found.on_bound


def test_it_meets_the_epistemic_uncertainty_of_sampling():
    net, x = network(), inputs()
    steps = []
    found = choose(net, x, np.zeros(60, int), seed=3, on_step=lambda: steps.append(1))
    sampled = predict(net, x, method="svi", n_samples=100, seed=3).mutual_information.mean()
    ours = predict(net.with_variance_factor(found.factor), x).mutual_information.mean()
    # Of log f to 1e-3, by no more than as much in MI; so close to a kink the criterion is as small.
    assert ours == pytest.approx(sampled, rel=2e-3)
    assert found.after < 2e-3 < found.before
    assert len(steps) > 5


def test_the_log_score_finds_the_variance_behind_the_data():
    """Targets from a linear model whose weights' variance is 9 times the network's."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3000, 6))
    net = network(
        layers=[
            Dense(
                6,
                1,
            )
        ],
        scale=0.1,
    )
    mean = net.propagate(x).mean
    y = mean + 3.0 * np.sqrt(net.propagate(x).var) * rng.standard_normal(mean.shape)
    found = choose(net, x, y, criterion="log_score")
    # The estimate of a variance from 3000 targets: √(2/3000) = 2.6 %, four of them.
    assert found.factor == pytest.approx(9.0, rel=4.0 * np.sqrt(2.0 / 3000))
    # Its score in closed form: nats of a Gaussian at its own maximum likelihood.
    gap = (y - mean) ** 2 / net.propagate(x).var
    best = 0.5 * np.mean(np.log(2 * np.pi * net.propagate(x).var * gap.mean())) + 0.5
    assert found.after == pytest.approx(best, rel=1e-6)
    # ψ = (1 − gap/f)/2, of mean slope 1/2; differences over 0.1 in log f err by 0.1²/6.
    assert found.error_examples == pytest.approx(gap.std(ddof=1) / np.sqrt(3000), rel=3e-3)
    assert predict_targets(net.with_variance_factor(9.0), x, 1).epistemic == pytest.approx(
        9.0 * net.propagate(x).var
    )


@pytest.mark.parametrize(
    ("criterion", "classes"), [("epistemic", False), ("log_score", False), ("epistemic", True)]
)
def test_its_error_over_examples_is_the_bootstraps(criterion, classes):
    """Examples drawn again with replacement, the factor chosen again for each set of them."""
    rng = np.random.default_rng(1)
    n, n_times = (60, 40) if classes else (150, 100)
    net, x = network(n_outputs=3 if classes else 2), inputs(n)
    y = rng.integers(0, 3, n) if classes else net.sample(x, 1, rng)[0]
    if not classes:  # scattered more than the network says: the factor is inside the bounds
        y = y + 0.5 * rng.standard_normal(y.shape)
    found = choose(net, x, y, criterion=criterion)
    logs = []
    for _ in range(n_times):
        rows = rng.integers(0, n, n)
        logs.append(np.log(choose(net, x[rows], y[rows], criterion=criterion).factor))
    ratio = found.error_examples / found.factor / np.std(logs, ddof=1)
    # A standard deviation of n_times numbers: 1/√(2 n_times) relative; four of them.
    assert abs(np.log(ratio)) < 4.0 / np.sqrt(2.0 * n_times)


def test_its_error_over_passes_is_that_of_other_passes():
    net, x = network(n_outputs=2), inputs(30)
    y = np.zeros((30, 2))
    found = [choose(net, x, y, seed=seed) for seed in range(60)]
    spread = np.std([one.factor for one in found], ddof=1)
    squares = np.mean([one.error_passes**2 for one in found])
    # Of 60 numbers: 9 %; of ten groups' squares, averaged over as many: 3 %. Four together.
    assert abs(np.log(np.sqrt(squares) / spread)) < 4.0 * np.hypot(0.09, 0.03)
    assert found[0].standard_error == pytest.approx(
        np.hypot(found[0].error_examples, found[0].error_passes)
    )
    assert choose(net, x, y + 1.0, criterion="log_score").error_passes == 0.0


def test_jackknife_by_loops():
    passes = np.random.default_rng(0).gamma(2.0, size=(100, 7, 2))
    left = []
    for g in range(10):
        kept = [s for s in range(100) if s // 10 != g]
        left.append(np.mean([np.var(passes[kept, n, d], ddof=1) for n in range(7) for d in (0, 1)]))
    want = sum((one - sum(left) / 10) ** 2 for one in left) * 9 / 10
    assert _jackknife(passes, np.zeros((7, 2))) == pytest.approx(np.sqrt(want), rel=1e-12)


def test_one_example_has_no_error():
    assert choose(network(), inputs(1), np.zeros(1, int)).error_examples == np.inf


def test_a_bound_is_reported():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 6))
    net = network(layers=[Dense(6, 1)], scale=0.1)
    y = net.propagate(x).mean + 1e3 * rng.standard_normal((50, 1))
    found = choose(net, x, y, criterion="log_score")
    assert found.on_bound
    assert found.factor == pytest.approx(64.0, rel=0.02)
    assert found.standard_error == np.inf


def test_bad_calls_are_refused():
    net, x, y = network(), inputs(), np.zeros(60, int)
    with pytest.raises(InputError, match="criterion 'taste'"):
        choose(net, x, y, criterion="taste")
    with pytest.raises(InputError, match="60 examples, 59 answers"):
        choose(net, x, y[:59])
    with pytest.raises(InputError, match="0 examples"):
        choose(net, x[:0], y[:0])
    with pytest.raises(InputError, match="finite"):
        choose(network(scale=0.0), x, y)


def test_it_is_saved_and_files_without_it_have_none(tmp_path):
    net = network()
    save(tmp_path / "plain.npz", net)
    save(tmp_path / "calibrated.npz", net.with_variance_factor(1.25))
    assert "variance_factor" not in header(tmp_path / "plain.npz")
    assert load(tmp_path / "plain.npz").variance_factor == 1.0
    assert load(tmp_path / "calibrated.npz").variance_factor == 1.25


def header(path):
    return json.loads(np.load(path)["header"].tobytes())


@pytest.mark.parametrize("bad", [0, -1.0, "2", True, None, 1e300, [1.0]])
def test_a_hostile_factor_is_refused(tmp_path, bad):
    path = tmp_path / "net.npz"
    save(path, network())
    text = json.dumps(header(path) | {"variance_factor": bad}).encode()
    arrays = {**np.load(path), "header": np.frombuffer(text, np.uint8)}
    np.savez(path, **arrays)
    assert zipfile.is_zipfile(path)
    with pytest.raises(InputError, match="variance_factor: expected a positive number"):
        load(path)


def test_linearised_propagation_needs_none():
    """Noise in the first layer, weights of one sign behind it: the diagonal mode loses most."""
    net = Network([Dense(6, 40), ReLU(), Dense(40, 40), ReLU(), Dense(40, 2)], seed=0)
    net.set_parameters(
        {
            name: Posterior(np.abs(p.mean), np.full(p.shape, 0.3 if name[0] == "0" else 0.01))
            for name, p in net.parameters().items()
        }
    )
    x = np.random.default_rng(0).uniform(0.5, 1.5, (30, 6))
    found = variance_ratio(net, x, method="linearised", seed=1)
    assert abs(found.ratio - 1.0) < 3.0 * found.standard_error
    assert found.standard_error < 0.25
    with_factor = net.with_variance_factor(4.0)  # that of "pfp"
    assert variance_ratio(with_factor, x, method="linearised", seed=1) == found
    samples = net.sample(x, 100, stream(1, "predict"))
    by_hand = sum(
        statistics.variance(samples[:, b, c].tolist()) for b in range(30) for c in range(2)
    )
    propagated = net.propagate(x, method="linearised").var.sum()
    assert found.ratio == pytest.approx(by_hand / propagated, rel=1e-10)
    assert by_hand / net.propagate(x).var.sum() > 3.0
    ratios = samples.var(axis=0, ddof=1) / net.propagate(x, method="linearised").var
    assert found.median == pytest.approx(statistics.median(ratios.ravel().tolist()), rel=1e-12)


def test_ratios_that_have_no_meaning():
    net = Network([Dense(2, 2)])
    known = {n: Posterior(p.mean, 0.0 * p.scale) for n, p in net.parameters().items()}
    with pytest.raises(InputError, match="1 example; expected at least 2"):
        variance_ratio(net, np.ones((1, 2)), method="linearised")
    net.set_parameters(known)
    with pytest.raises(InputError, match="mean variance is 0 propagated"):
        variance_ratio(net, np.ones((3, 2)), method="linearised")


def test_the_command_with_linearised_propagation(tmp_path, capsys):
    save(tmp_path / "net.npz", Network([Dense(784, 8), ReLU(), Dense(8, 10)], seed=0))
    words = ["calibrate", str(tmp_path / "net.npz"), "--data", "mnist-subset"]
    words += ["--validation", "0.01", "--method", "linearised"]
    assert cli.main([*words, "--json", str(tmp_path / "out.json")]) == 0
    shown = capsys.readouterr().out
    numbers = json.loads((tmp_path / "out.json").read_text())
    assert f"sampled/linearised: {numbers['ratio']:.4f} ± " in shown
    assert f"median of all outputs {numbers['median']:.4f}" in shown
    assert "uses no variance factor" in shown
    for wrong in (["-o", str(tmp_path / "new.npz")], ["--criterion", "log_score"]):
        assert cli.main([*words, *wrong]) == 2
        assert "this method uses no variance factor" in capsys.readouterr().err
    assert not (tmp_path / "new.npz").exists()
    assert cli.main([*words, "--examples", "1"]) == 2
    assert "--examples 1: expected at least 2 for a ratio of variances" in capsys.readouterr().err
    assert cli.main([*words[:-1], "svi"]) == 2
    assert "expected one of pfp, linearised, full" in capsys.readouterr().err


def test_the_command(tmp_path, capsys):
    net = Network([Dense(784, 8), ReLU(), Dense(8, 10)], seed=0)
    save(tmp_path / "net.npz", net)
    words = ["calibrate", str(tmp_path / "net.npz"), "--data", "mnist-subset"]
    words += ["--validation", "0.01"]
    out = tmp_path / "new.npz"
    assert cli.main([*words, "-o", str(out)]) == 0
    factor = load(out).variance_factor
    shown = capsys.readouterr().out
    assert f"{factor:.4f}" in shown
    assert "50 examples" in shown
    assert "standard error of the factor" in shown
    assert cli.main([*words, "--examples", "20"]) == 0
    assert "17 examples" in capsys.readouterr().out  # each third
    assert factor != 1.0
    assert cli.main(["evaluate", str(out), "--id", "mnist-subset", "--samples", "2"]) == 0
    shown = capsys.readouterr().out
    assert f"{factor:.4g} times the variance" in shown
    for measure in ("ece", "brier_score"):
        assert measure in shown
    for wrong, message in (
        (["--validation", "0"], "expected above 0 and below 1"),
        (["-o", "x.txt"], "ends in .npz"),
        (["--data", "digits"], "digits"),
    ):
        code: object
        try:
            code = cli.main([*words, *wrong])
        except SystemExit as exit_:
            code = exit_.code
        assert code == 2
        assert message in capsys.readouterr().err
