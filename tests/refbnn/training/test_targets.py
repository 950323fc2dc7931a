"""Regression with one noise for all inputs, targets in their own unit, and what training leaves."""

from typing import Any

import numpy as np
import pytest

from refbnn import InputError, Network, load, save, train
from refbnn.layers import Dense, Normalise, ReLU
from refbnn.layers.posterior import Posterior
from refbnn.prediction.predict import known_targets, predict_targets
from refbnn.prior import GaussianPrior
from refbnn.training.data import prepare
from refbnn.training.options import Options
from refbnn.training.run import Training


def line(n=200, noise=0.3, seed=0):
    """Targets y = 2x + 1 + noise of that deviation."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 1))
    return x, 2.0 * x + 1.0 + noise * rng.standard_normal((n, 1))


def regression(outputs=1, **settings):
    return Network([Dense(1, outputs)], prior=GaussianPrior(10.0), seed=0, **settings)


def fit(net, x, y, **options):
    chosen: dict[str, Any] = {
        "epochs": 60,
        "batch_size": 20,
        "learning_rate": 0.05,
        "dtype": "float64",
    } | options
    return train(net, x, y, likelihood="gaussian", **chosen)


def test_the_noise_is_learned():
    """The best noise of a line is the deviation of its residuals, the weights' own apart."""
    x, y = line()
    net = regression()
    fit(net, x, y)
    residual = y - np.polyval(np.polyfit(x[:, 0], y[:, 0], 1), x)
    assert net.noise_sd is not None
    # The posterior adds 2/200 of the variance, Adam's noise about as much again.
    assert net.noise_sd[0] == pytest.approx(residual.std(), rel=0.03)
    found = predict_targets(net, x, 1)
    np.testing.assert_array_equal(found.aleatoric, net.noise_sd[0] ** 2)
    assert known_targets(net) == 1


def test_one_epoch_moves_the_noise_to_the_likeliest():
    """By hand: s² is the mean of (y − f)² over the samples that the epoch saw."""
    x, y = line(8)
    net = regression()
    options = Options("gaussian", batch_size=8, learning_rate=1e-12, dtype="float64")
    prepare(net, x, y, options)
    assert net.noise_sd == pytest.approx((y.std(),))
    run = Training(net, options)
    rng_state = run.rng.bit_generator.state
    run.run_epoch(x, y)
    run.rng.bit_generator.state = rng_state
    order = run.rng.permutation(8)
    z = net.law.sample(run.rng, (1, net.layout.size), np.float64)
    weights = {n: p.mean + p.scale * net.layout.views(z)[n] for n, p in net.parameters().items()}
    outputs = net.forward(x[order], weights)[0][0]
    assert net.noise_sd[0] == pytest.approx(np.sqrt(np.mean((y[order] - outputs) ** 2)), rel=1e-9)


@pytest.mark.parametrize("options", [{}, {"local": True}, {"threads": 2}])
def test_every_target_has_a_noise_of_its_own(options):
    """Lines of unequal noise, the wider of which has the smaller deviation of its own."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 1))
    y = x @ [[3.0, 0.1]] + rng.standard_normal((200, 2)) * [0.1, 0.8]
    net = regression(2)
    fit(net, x, y, **options)
    design = np.hstack([x, np.ones_like(x)])
    residual = y - design @ np.linalg.lstsq(design, y)[0]
    # The posterior adds 2/200 of the variance; Adam's steps, of the same size for both targets,
    # show in the smaller noise.
    np.testing.assert_allclose(np.array(net.noise_sd), residual.std(axis=0), rtol=0.1)


def test_the_noise_of_an_epoch_counts_every_example_once():
    """Two batches, of 5 and of 3: s_d² is the mean square of all 8 residuals of target d."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 1)), rng.standard_normal((8, 2)) * [1.0, 5.0]
    net = Network([Dense(1, 2)], seed=0)
    # Weights without variance: every sample has the outputs of the means.
    net.set_parameters({n: Posterior(p.mean, p.scale * 1e-9) for n, p in net.parameters().items()})
    outputs, _ = net.forward(x, {n: p.mean for n, p in net.parameters().items()})
    fit(net, x, y, epochs=1, batch_size=5, learning_rate=1e-12)
    want = np.sqrt(np.mean((y - outputs) ** 2, axis=0))
    np.testing.assert_allclose(np.array(net.noise_sd), want, rtol=1e-7)  # the variance that is left


def test_the_scale_of_other_targets_is_replaced():
    """Or refused, where no scale is to be chosen."""
    x, y = line()
    net = regression()
    fit(net, x, 1e5 * y, epochs=1, scale_targets=True)
    for likelihood, wanted in (("gaussian", "scale_targets=True, or such"), ("energy", "such")):
        said = f"in the scale of the last layer; expected {wanted} targets"
        for unit in (1e-1, 1e10):
            with pytest.raises(InputError, match=said):
                train(net, x, unit * y, likelihood=likelihood, n_samples=2)
    fit(net, x, 1e5 * y, epochs=1)  # those of its scale are trained as they are
    fit(net, x, 0.1 * y, scale_targets=True)
    assert [type(layer).__name__ for layer in net.layers] == ["Dense", "Normalise"]
    found = predict_targets(net, x, 1)
    assert np.sqrt(np.mean((found.mean - 0.1 * y) ** 2)) < 0.1 * 0.3 * 1.1  # the noise of y


def test_huge_targets_of_the_energy_score_are_refused():
    x, y = line()
    with pytest.raises(InputError, match="far from 1 in size; expected such targets"):
        train(regression(), x, 1e6 * y, likelihood="energy", n_samples=2)


def test_the_number_of_targets_is_known_by_the_noise_without_a_shape():
    net = Network([ReLU(), Dense(1, 2)], seed=0)
    net.likelihood = "gaussian"
    assert net.output_shape is None
    assert known_targets(net) is None
    net.noise_sd = 0.1, 0.2
    assert known_targets(net) == 2


def test_a_known_noise_stays_and_weights_the_likelihood(tmp_path):
    """A line with a wide prior: posterior deviations s/√Σx² and s/√N of slope and offset."""
    x, y = line()
    x -= x.mean()
    net = regression()
    fit(net, x, y, noise_sd=0.5, epochs=200)
    save(tmp_path / "net.npz", net)
    assert net.noise_sd == (0.5,)
    scales = [net.parameters()[name].scale.item() for name in ("0.weight", "0.bias")]
    want = [0.5 / np.sqrt((x**2).sum()), 0.5 / np.sqrt(len(x))]
    np.testing.assert_allclose(scales, want, rtol=0.1)  # Adam's noise
    again = load(tmp_path / "net.npz")
    assert (again.noise_sd, again.likelihood) == ((0.5,), "gaussian")


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("unit", [1e6, 1e-5])
def test_targets_of_any_size_are_standardised_inside(outputs, unit, tmp_path):
    x, y = line()
    net = regression(outputs)
    with pytest.raises(InputError, match="far from 1 in size; expected scale_targets=True"):
        fit(net, x, unit * y)
    plain = regression(outputs)
    scaled = (y - y.mean()) / y.std()
    expected = fit(plain, x, scaled, dtype="float32")
    history = fit(net, x, unit * y, dtype="float32", scale_targets=True)
    save(tmp_path / "net.npz", net)
    ours, theirs = predict_targets(load(tmp_path / "net.npz"), x, 1), predict_targets(plain, x, 1)
    # The same training but for rounding, which Adam carries on: 1e-3 of a deviation.
    back, size = theirs.mean * y.std() + y.mean(), unit * y.std()
    np.testing.assert_allclose(ours.mean / unit, back, atol=5e-3 * y.std())
    np.testing.assert_allclose(ours.epistemic / size**2, theirs.epistemic, rtol=0.02)
    np.testing.assert_allclose(ours.aleatoric / size**2, theirs.aleatoric, rtol=0.02)
    # −log p in the unit of y is that of standardised targets, and the logarithm of the unit each.
    shift = len(y) * np.log(unit * y.std())
    assert history[-1].loss.nll - shift == pytest.approx(expected[-1].loss.nll, rel=0.02)
    assert isinstance(net.layers[-1], Normalise)
    n_layers = len(net.layers)
    fit(net, x, unit * y, epochs=1, scale_targets=True)
    assert len(net.layers) == n_layers  # not a second time


@pytest.mark.parametrize(
    ("outputs", "y", "options", "said"),
    [
        (1, np.ones((200, 1)), {}, "all values of a target are equal"),
        (2, np.ones((200, 1)), {"scale_targets": True}, "all values of a target are equal"),
        (1, 1e6 + line()[1], {"scale_targets": True}, "too little for float32; subtract"),
        (2, line()[1], {"noise_sd": 0.1}, "noise_sd with 2 outputs for 1 targets"),
        (1, line()[1], {"noise_sd": 0.0}, "noise_sd is 0.0; expected a number above 0"),
        (1, line()[1], {"scale_targets": 1}, "scale_targets is 1; expected True or False"),
        (3, line()[1], {}, r"outputs of shape \(3,\) for targets of shape \(200, 1\)"),
    ],
)
def test_other_targets_are_refused(outputs, y, options, said):
    with pytest.raises(InputError, match=said):
        fit(regression(outputs), line()[0], y, **options)


def test_options_of_a_gaussian_are_refused_for_others():
    for option in ({"noise_sd": 1.0}, {"scale_targets": True}):
        with pytest.raises(InputError, match="with the likelihood 'categorical'; expected 'gaus"):
            Options(**option)


def test_training_leaves_what_predictions_need(tmp_path):
    """Range of inputs and likelihood; a variance factor was chosen for other weights."""
    x, _ = line()
    net = Network([Dense(1, 2), ReLU(), Dense(2, 2)], seed=0).with_variance_factor(3.0)
    train(net, x, (x[:, 0] > 0).astype(int), epochs=1, trained_on=("some", "0123"))
    assert (net.variance_factor, net.likelihood, net.noise_sd) == (1.0, "categorical", None)
    assert net.input_range == pytest.approx((x.min(), x.max()), rel=1e-6)
    save(tmp_path / "net.npz", net)
    again = load(tmp_path / "net.npz")
    for name in ("input_range", "likelihood", "noise_sd", "trained_on"):
        assert getattr(again, name) == getattr(net, name)


def test_a_variance_factor_survives_other_weights():
    net = regression().with_variance_factor(2.5)
    net.set_parameters(
        {name: Posterior(p.mean + 1.0, p.scale) for name, p in net.parameters().items()}
    )
    assert net.variance_factor == 2.5


def test_an_epoch_that_trained_below_the_whole_of_kl_is_no_candidate():
    """λ reaches 1 at the end of epoch 2 of a warm-up of 2; all steps of epoch 3 have λ = 1."""
    x, y = line(40)
    labels = (y[:, 0] > 1).astype(int)
    for warmup in (0, 1, 2, 3):
        net = Network([Dense(1, 2)], seed=0)
        run = Training(net, Options(epochs=5, kl_warmup=warmup, batch_size=10))
        for _ in range(warmup):
            run.run_epoch(x.astype(np.float32), labels, (x, labels))
            assert run.best is None
        run.run_epoch(x.astype(np.float32), labels, (x, labels))
        assert run.best is not None
        assert run.best.epoch == warmup + 1
