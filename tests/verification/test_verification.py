import numpy as np
import pytest

import verification
from refbnn import predict
from refbnn.layers import (
    AvgPool2d,
    BatchNorm2d,
    Dense,
    Flatten,
    LeakyReLU,
    ReLU,
    Residual,
    dense,
)
from refbnn.layers.activations import elementwise
from refbnn.layers.images import conv2d, max_pool2d, shared_weights
from refbnn.layers.linearisation import quadratic_form
from refbnn.layers.moments import JointMoments, Moments
from refbnn.layers.posterior import Posterior
from refbnn.noise import DeviceLaw, Gaussian, Law
from refbnn.numerics import correlated_maximum, gaussian_maximum
from refbnn.prediction import covariance, raw_moments
from refbnn.prediction.result import Prediction, from_logit_samples
from refbnn.prediction.softmax import by_table
from refbnn.training.kl import kl
from verification import linearised_networks, softmax, softmax_table
from verification.check import MomentEstimate, against_monte_carlo, blocks
from verification.kernels import linearised as linearised_kernels
from verification.kernels import predictions

LAWS: dict[str, Law] = {"device law": DeviceLaw(-0.3, 0.2, (0.3, 0.8)), "Gaussian law": Gaussian()}
STEPS = {step.name: step for step in verification.steps(LAWS, "host", "local")}


@pytest.mark.parametrize("name", STEPS)
def test_every_check_holds(name, monkeypatch):
    # TVM's own loops of whole networks take a minute to compile: `refbnn verify` has them, as
    # `reproduce` runs it.
    for whole in (linearised_kernels, predictions):
        monkeypatch.setattr(whole, "SCHEDULES", ("hand",))
    checks = STEPS[name].run(50_000, seed=0)
    assert checks
    for check in checks:
        assert check.holds, check


def test_steps_do_not_depend_on_each_other():
    step = STEPS["kl, device law"]
    assert step.run(2000, seed=1) == step.run(2000, seed=1)
    assert step.run(2000, seed=1) != step.run(2000, seed=2)


def wrong_mean(*args):
    exact = right[0](*args)
    return Moments(exact.mean + 0.05 * np.sqrt(exact.var), exact.var)


right: list = []


@pytest.mark.parametrize(
    ("module", "function", "name"),
    [
        (dense, "moments", "dense, device law"),
        (dense, "moments_of_known", "dense, Gaussian law"),
        (conv2d, "moments", "conv2d, device law"),
        (conv2d, "moments_of_known", "conv2d, Gaussian law"),
        (ReLU, "moments", "relu"),
    ],
)
def test_a_wrong_mean_is_caught(monkeypatch, module, function, name):
    """Wrong by a twentieth of a standard deviation: eleven standard errors at 50,000 samples."""
    right[:] = [getattr(module, function)]
    monkeypatch.setattr(module, function, wrong_mean)
    assert not all(check.holds for check in STEPS[name].run(50_000, seed=0))


@pytest.mark.parametrize(
    ("owner", "case"),
    [
        (AvgPool2d, "average pooling"),
        (BatchNorm2d, "batch normalisation"),
        (Flatten, "flatten"),
        (Residual, "residual"),
        (raw_moments, "raw form"),
    ],
)
@pytest.mark.parametrize(("shift", "factor"), [(0.05, 1.0), (0.0, 1.1)])
def test_a_wrong_layer_is_caught(monkeypatch, owner, case, shift, factor):
    """A variance wrong by a tenth: 16 standard errors of Gaussian samples; the mean as above."""
    exact = owner.moments

    def wrong(*args):
        y = exact(*args)
        return Moments(y.mean + shift * np.sqrt(y.var), factor * y.var)

    monkeypatch.setattr(owner, "moments", wrong)
    checks = STEPS["layers, Gaussian law"].run(50_000, seed=0)
    assert [check.name for check in checks if case in check.name]
    for check in checks:
        assert check.holds != (case in check.name), check


def test_a_wrong_covariance_of_rectified_is_caught(monkeypatch):
    """Correlations turned round."""
    exact = covariance.rectified_covariance

    def wrong(mean, cov):
        own_mean, own_cov = exact(mean, cov)
        n = mean.shape[1]
        return own_mean, np.where(np.eye(n, dtype=bool), own_cov, -own_cov)

    monkeypatch.setattr(covariance, "rectified_covariance", wrong)
    (check,) = STEPS["relu covariance"].run(50_000, seed=0)
    assert not check.holds


def test_a_wrong_kl_gradient_is_caught(monkeypatch):
    exact = kl.divergence

    def wrong(posteriors, *args):
        return {
            name: kl.Divergence(d.value, d.d_mean, d.d_scale + 1.0 / posteriors[name].scale)
            for name, d in exact(posteriors, *args).items()
        }

    monkeypatch.setattr(kl, "divergence", wrong)
    checks = STEPS["kl, device law"].run(50_000, seed=0)
    assert [check.holds for check in checks] == [False] * 5  # one a prior


def test_a_wrong_softmax_is_caught(monkeypatch):
    """Variance a tenth too large: 2 % of the mutual information."""
    exact = softmax.by_quadrature
    monkeypatch.setattr(softmax, "by_quadrature", lambda x: exact(Moments(x.mean, 1.1 * x.var)))
    checks = STEPS["softmax"].run(50_000, seed=0)
    assert [check.holds for check in checks] == [False, False]


def test_a_wrong_sampler_is_caught(monkeypatch):
    monkeypatch.setattr(Gaussian, "sample", lambda _, rng, shape: 1.05 * rng.standard_normal(shape))
    checks = STEPS["sampling, Gaussian law"].run(50_000, seed=0)
    assert [check.holds for check in checks] == [False, False]


def test_a_wrong_gradient_is_caught(monkeypatch):
    exact = Dense.backward

    def wrong(*args, **options):
        grad_x, grads = exact(*args, **options)
        return None if grad_x is None else 1.1 * grad_x, grads

    monkeypatch.setattr(Dense, "backward", wrong)
    assert not all(check.holds for check in STEPS["gradient, Gaussian law"].run(400_000, seed=0))


def test_running_moments_and_their_errors():
    rng = np.random.default_rng(0)
    samples = 1e6 + rng.standard_normal((50_000, 3))
    estimate = MomentEstimate(np.full(3, 1e6 + 0.5))
    for start, size in zip(range(0, 50_000, 20_000), blocks(50_000), strict=True):
        estimate.add(samples[start : start + size])
    (mean, var), (mean_error, var_error) = estimate.result()
    # Sums of 50,000 numbers near 1e6 round at 1e-14 of them.
    np.testing.assert_allclose(mean, samples.mean(0), rtol=1e-13)
    np.testing.assert_allclose(var, samples.var(0, ddof=1), rtol=1e-9)
    # For Gaussian samples: 1/√n, and √(2/n).
    np.testing.assert_allclose(mean_error, 1 / np.sqrt(50_000), rtol=0.05)
    np.testing.assert_allclose(var_error, np.sqrt(2 / 50_000), rtol=0.05)


def test_nan_never_holds():
    check = against_monte_carlo("n", "m", np.array([np.nan]), np.ones(1), np.ones(1), 10)
    assert not check.holds


def test_tables_name_the_failed():
    good = against_monte_carlo("good", "m", np.ones(1), np.ones(1), np.ones(1), 10)
    bad = against_monte_carlo("bad", "m", np.ones(1), np.zeros(1), np.full(1, 0.1), 10)
    rows = verification.as_rows([good, bad])
    assert [row["holds"] for row in rows] == [True, False]
    good_line, bad_line = verification.as_text(rows).splitlines()[2:]
    assert good_line.endswith("yes")
    assert bad_line.endswith("NO")


def failed(name, n_samples=50_000):
    return [check.name for check in STEPS[name].run(n_samples, seed=0) if not check.holds]


def without_bias(linearise):
    def wrong(x, weight, bias, *rest):
        return linearise(x, weight, Posterior(bias.mean, 0.0 * bias.scale), *rest)

    return wrong


@pytest.mark.parametrize(("module", "case"), [(dense, "dense, known"), (conv2d, "convolution")])
def test_a_dropped_bias_is_caught(monkeypatch, module, case):
    monkeypatch.setattr(module, "linearise", without_bias(module.linearise))
    assert [name for name in failed("linearised, Gaussian law", 400_000) if case in name]


@pytest.mark.parametrize(
    ("module", "case"), [(elementwise, "Tanh"), (max_pool2d, "MaxPool2d"), (conv2d, "random image")]
)
def test_a_dropped_own_covariance_is_caught(monkeypatch, module, case):
    """Own variances of an activation and of a maximum, products of two noises of a convolution."""
    monkeypatch.setattr(module, "quadratic_form", lambda J, var: 0.0 * quadratic_form(J, var))
    names = failed("linearised, Gaussian law", 1_000_000)
    assert [name for name in names if case in name]


def test_a_gain_at_the_mean_is_caught(monkeypatch):
    """The slope f′(m) in place of E[f′(x)]."""

    def at_mean(layer, x):
        return layer.grad_input(x.mean, np.ones_like(x.mean))

    for layer in (ReLU, LeakyReLU, elementwise.Elementwise):
        monkeypatch.setattr(layer, "gain", at_mean)
    assert len(failed("gains")) == 6


def test_a_shift_of_the_wrong_sign_is_caught(monkeypatch):
    right = shared_weights.times_shifted
    monkeypatch.setattr(shared_weights, "times_shifted", lambda k, s: right(k, (s[0], -s[1])))
    names = failed("shared weights, Gaussian law")
    assert [name.split(": ")[1] for name in names] == [
        "random image (Gaussian law)",
        "batch normalisation (Gaussian law)",
    ]


def test_wrong_weights_of_a_maximum_are_caught(monkeypatch):
    of_independent, of_pair = gaussian_maximum.weights, correlated_maximum.maximum

    def exchanged(mean, cov):
        *moments, weights = of_pair(mean, cov)
        return *moments, weights[..., ::-1]

    monkeypatch.setattr(gaussian_maximum, "weights", lambda *x: of_independent(*x)[..., ::-1])
    monkeypatch.setattr(correlated_maximum, "maximum", exchanged)
    names = failed("max_pool2d")
    assert names == [
        "max pooling weights, independent entries",
        "max pooling moments and weights, two dependent entries",
    ]


def test_diagonal_moments_in_place_of_linearised_are_caught():
    net, x = linearised_networks.network("deep", 64)
    rng = np.random.default_rng(0)
    n = 1500  # passes, as in `refbnn verify`
    sampled = linearised_networks.sampled_variances(net, x, Gaussian(), n, rng)
    holds = [
        linearised_networks.of_ratios("n", [linearised_networks.ratio(var, sampled)], 0.05, n).holds
        for var in (net.propagate(x, method="linearised").var, net.propagate(x).var)
    ]
    assert holds == [True, False]


def test_the_jackknife_finds_the_error_of_a_ratio():
    """For Gaussian y, log s² has the deviation √(2/n). 20 groups find it to 16 %: thrice that."""
    size = 1000
    y = np.random.default_rng(0).standard_normal((20, size, 1, 1))
    sums = np.stack([y.sum(axis=1), (y**2).sum(axis=1)])
    sampled = linearised_networks.leaving_one_out(sums, size)
    np.testing.assert_allclose(sampled[0], y.var(ddof=1), rtol=1e-12)
    np.testing.assert_allclose(sampled[3], np.delete(y, 2, axis=0).var(ddof=1), rtol=1e-12)
    found = linearised_networks.ratio(np.ones((1, 1)), sampled)
    assert found.error == pytest.approx(np.sqrt(2 / (20 * size)), rel=0.48)


@pytest.mark.parametrize("factor", [0.0, 1.1])
def test_a_wrong_covariance_of_logits_is_caught(monkeypatch, factor):
    """Covariances of different logits dropped, or all of them a tenth too large."""

    def wrong(logits):
        diagonal = logits.cov * np.eye(logits.shape[1])
        return by_table(JointMoments(logits.mean, factor * logits.cov if factor else diagonal))

    monkeypatch.setattr(softmax_table, "by_table", wrong)
    checks = STEPS["softmax of correlated logits"].run(50_000, seed=0)
    assert [check.holds for check in checks] == [False] * 4


class Computed:
    """The reference in the place of a compiled network, with a fault or without."""

    def __init__(self, net, spoil=lambda result: result, method="pfp"):
        self.net, self.spoil, self.method = net, spoil, method

    def __call__(self, x, seed=None):
        if seed is None:
            return self.spoil(self.net.propagate(x, method=self.method))
        return self.net.sample(x, 17, seed=seed)

    def predict(self, x, seed=None):
        if seed is None:
            return self.spoil(predict(self.net, x, method=self.method))
        y = self(x, seed)
        return self.spoil(from_logit_samples(y, Moments(y.mean(axis=0), y.var(axis=0, ddof=1))))


def reversed_pairs(y):
    """Covariances of the first output with others in the wrong order."""
    cov = y.cov.copy()
    cov[:, 0, 1:] = cov[:, 1:, 0] = cov[:, 0, :0:-1]
    return JointMoments.unchecked(y.mean, cov)


def without_one(y):
    """A thousandth of one variance is lost."""
    cov = y.cov.copy()
    cov[:, 1, 1] *= 0.999
    return JointMoments.unchecked(y.mean, cov)


@pytest.mark.parametrize("spoil", [reversed_pairs, without_one])
def test_a_wrong_covariance_of_a_compiled_network_is_caught(monkeypatch, spoil):
    def compiled(fault):
        def compile_network(net, *_, method, **__):
            return Computed(net, fault, method)

        monkeypatch.setattr(linearised_kernels, "compile_network", compile_network)
        return [check.holds for check in STEPS["linearised kernels"].run(0, seed=0)]

    assert all(compiled(lambda y: y))
    assert not any(compiled(spoil))


def entropies_exchanged(p):
    return Prediction.computed(
        p.logits, p.probabilities, p.entropy, p.aleatoric, p.mutual_information
    )


def classes_in_reverse(p):
    return Prediction(p.logits, p.probabilities[:, ::-1], p.aleatoric)


def without_mutual_information(p):
    return Prediction.computed(
        p.logits, p.probabilities, p.aleatoric, p.entropy, 0.99 * p.mutual_information
    )


@pytest.mark.parametrize(
    "spoil", [entropies_exchanged, classes_in_reverse, without_mutual_information]
)
def test_a_wrong_compiled_prediction_is_caught(monkeypatch, spoil):
    def compiled(fault):
        def of(result):
            return fault(result) if isinstance(result, Prediction) else result

        def compile_network(net, *_, method="pfp", **__):
            return Computed(net, of, method)

        monkeypatch.setattr(predictions, "compile_network", compile_network)
        monkeypatch.setattr(predictions, "compile_sampled", lambda net, *_: Computed(net, of))
        return [check.holds for check in STEPS["compiled predictions"].run(0, seed=0)]

    assert all(compiled(lambda p: p))
    assert not any(compiled(spoil))
