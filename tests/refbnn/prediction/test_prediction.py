import math
import statistics
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from scipy.special import entr, expit, softmax

from refbnn import InputError, Moments, Network, Posterior, predict, train
from refbnn.layers import Conv2d, Dense, Flatten, ReLU
from refbnn.numerics.random.streams import stream
from refbnn.prediction.accumulation import OutputSums
from refbnn.prediction.predict import predict_targets
from refbnn.prediction.result import from_logit_samples, from_output_moments, softmax_sums


def test_entropies_by_hand():
    """Two samples that disagree with certainty: all of the uncertainty is epistemic."""
    sure = 1000.0
    samples = np.array([[[sure, 0.0]], [[0.0, sure]]])
    p = from_logit_samples(samples, Moments(samples.mean(0), samples.var(0)))
    np.testing.assert_allclose(p.probabilities, [[0.5, 0.5]])
    assert p.entropy[0] == pytest.approx(np.log(2))
    assert p.aleatoric[0] == pytest.approx(0.0, abs=1e-15)
    assert p.mutual_information[0] == pytest.approx(np.log(2))
    # Two samples that agree on even odds: all of it is aleatoric.
    p = from_logit_samples(np.zeros((2, 1, 2)), Moments(np.zeros((1, 2)), np.zeros((1, 2))))
    assert p.aleatoric[0] == pytest.approx(np.log(2))
    assert p.mutual_information[0] == 0.0


def test_both_methods_agree_where_propagation_is_exact():
    net = Network([Dense(4, 3)], seed=0)
    x = np.random.default_rng(0).standard_normal((6, 4))
    by_pfp = predict(net, x, method="pfp")
    by_svi = predict(net, x, method="svi", n_samples=20_000)
    # 20,000 samples: √(0.25/20,000) = 0.0035 standard error at most, four of them.
    np.testing.assert_allclose(by_pfp.probabilities, by_svi.probabilities, atol=0.014)
    np.testing.assert_allclose(by_pfp.logits.mean, by_svi.logits.mean, atol=0.02)
    np.testing.assert_allclose(by_pfp.logits.var, by_svi.logits.var, rtol=0.05)
    assert by_pfp.labels.shape == by_svi.labels.shape == (6,)


def test_seed_repeats_a_prediction():
    net = Network([Dense(4, 8), ReLU(), Dense(8, 3)], seed=0)
    x = np.ones((2, 4))
    for method, n in (("pfp", 30), ("svi", None)):
        first, again, other = (
            predict(net, x, method=method, n_samples=n, seed=s) for s in (1, 1, 2)
        )
        np.testing.assert_array_equal(first.probabilities, again.probabilities)
        assert not np.array_equal(first.probabilities, other.probabilities)
    first, other = (predict(net, x, method="pfp", seed=s) for s in (1, 2))
    np.testing.assert_array_equal(first.probabilities, other.probabilities)


def test_bad_calls_are_refused():
    net = Network([Dense(4, 3)])
    with pytest.raises(InputError, match="method 'mc'"):
        predict(net, np.ones((1, 4)), method="mc")
    with pytest.raises(InputError, match="n_samples is 1"):
        predict(net, np.ones((1, 4)), n_samples=1)


def test_mutual_information_of_few_samples_is_low_by_the_share_one_over_their_number():
    """E[MI_S] = (1 − 1/S) MI to second order in the deviations, so at a small spread."""
    rng = np.random.default_rng(0)
    centre, spread = np.array([0.5, 0.0, -1.0]), 0.1
    p = softmax(centre + spread * rng.standard_normal((400_000, 3)), axis=-1)
    mi = entr(p.mean(axis=0)).sum() - entr(p).sum(axis=-1).mean()
    for s in (2, 5):
        logits = centre + spread * rng.standard_normal((s, 20_000, 3))
        found = from_logit_samples(logits, Moments(logits.mean(0), logits.var(0)))
        each = found.mutual_information
        # Four standard errors; what the expansion leaves out is of the order spread² = 1 %.
        error = 4.0 * each.std() / np.sqrt(len(each)) + 0.01 * mi
        assert each.mean() == pytest.approx((1.0 - 1.0 / s) * mi, abs=error)
        assert error < 0.2 * mi / s  # so that it tells 1 − 1/S from 1


def test_targets_from_samples_by_loops():
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((3, 4, 4))  # 2 targets with log variances
    p = OutputSums.of_targets(samples, 2).targets
    q = OutputSums.of_targets(samples, 4).targets  # 4 without
    for b in range(4):
        for d in range(4):
            values = [float(samples[s, b, d]) for s in range(3)]
            assert q.mean[b, d] == pytest.approx(statistics.mean(values))
            assert q.epistemic[b, d] == pytest.approx(statistics.variance(values))
            assert q.aleatoric[b, d] == 0.0
            if d < 2:
                assert p.mean[b, d] == q.mean[b, d]
                assert p.epistemic[b, d] == q.epistemic[b, d]
                noise = [math.exp(samples[s, b, 2 + d]) for s in range(3)]
                assert p.aleatoric[b, d] == pytest.approx(statistics.mean(noise))


def test_targets_from_moments_by_log_normal_means():
    rng = np.random.default_rng(1)
    outputs = Moments(rng.standard_normal((5, 6)), rng.uniform(0.1, 2.0, (5, 6)))
    p = from_output_moments(outputs, 3)
    np.testing.assert_array_equal(p.mean, outputs.mean[:, :3])
    np.testing.assert_array_equal(p.epistemic, outputs.var[:, :3])
    t, v = outputs.mean[:, 3:], outputs.var[:, 3:]
    np.testing.assert_allclose(p.aleatoric, stats.lognorm.mean(np.sqrt(v), scale=np.exp(t)))
    np.testing.assert_array_equal(from_output_moments(outputs, 6).aleatoric, np.zeros((5, 6)))


def linear():
    """A network of means and scales that can be followed by hand: 3 inputs, 4 outputs."""
    net = Network([Dense(3, 4)], seed=0)
    rng = np.random.default_rng(2)
    posteriors = {
        name: Posterior(rng.standard_normal(p.shape), rng.uniform(0.1, 0.5, p.shape))
        for name, p in net.parameters().items()
    }
    net.set_parameters(posteriors)
    return net, *posteriors.values()


def test_targets_by_propagation():
    net, weight, bias = linear()
    x = np.array([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]])
    p = predict_targets(net, x, 2)
    m = x @ weight.mean.T + bias.mean
    v = x**2 @ weight.scale.T**2 + bias.scale**2
    np.testing.assert_allclose(p.mean, m[:, :2])
    np.testing.assert_allclose(p.epistemic, v[:, :2])
    np.testing.assert_allclose(
        p.aleatoric, stats.lognorm.mean(np.sqrt(v[:, 2:]), scale=np.exp(m[:, 2:]))
    )
    np.testing.assert_allclose(predict_targets(net, x, 4).epistemic, v)


@pytest.mark.parametrize("method", ["linearised", "full"])
def test_targets_by_joint_propagation(method):
    """The variances of one dense layer are exact by every method."""
    net, *_ = linear()
    x = np.array([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]])
    for n_targets in (2, 4):
        found, want = (predict_targets(net, x, n_targets, method=m) for m in (method, "pfp"))
        for name, part in vars(found).items():
            np.testing.assert_allclose(part, getattr(want, name), rtol=1e-12)


@pytest.mark.parametrize("method", ["pfp", "linearised", "full"])
def test_samples_of_targets_are_those_of_passes(method):
    net, *_ = linear()
    with pytest.raises(InputError, match=f"50 samples for targets by the method '{method}'"):
        predict_targets(net, np.ones((1, 3)), 2, method=method, n_samples=50)


def test_linearised_targets_against_sampled_ones():
    net = Network([Dense(3, 60), ReLU(), Dense(60, 60), ReLU(), Dense(60, 4)], seed=0)
    x = np.random.default_rng(0).standard_normal((4, 3))
    found = predict_targets(net, x, 2, method="linearised")
    sampled = predict_targets(net, x, 2, method="svi", n_samples=4000)
    # A variance of 4000 samples is known to 2 %, E[e^t] of t of some deviations not much worse;
    # width 60 leaves some per cent (`refbnn.network.linearised`).
    np.testing.assert_allclose(found.epistemic, sampled.epistemic, rtol=0.15)
    net.variance_factor = 4.0  # belongs to "pfp"
    again = predict_targets(net, x, 2, method="linearised")
    np.testing.assert_array_equal(again.epistemic, found.epistemic)


def test_sampled_predictions_have_the_sample_variance():
    """Unbiased, S − 1 below: with two samples twice the other one."""
    net, *_ = linear()
    x = np.array([[1.0, -2.0, 0.5]])
    samples = net.sample(x, 2, stream(5, "predict"))
    want = np.array([[statistics.variance(samples[:, 0, c].tolist()) for c in range(4)]])
    logits = predict(net, x, method="svi", n_samples=2, seed=5).logits
    np.testing.assert_allclose(logits.var, want)
    np.testing.assert_allclose(logits.mean, samples.mean(axis=0))
    p = predict_targets(net, x, 2, method="svi", n_samples=2, seed=5)
    np.testing.assert_allclose(p.epistemic, want[:, :2])
    np.testing.assert_allclose(p.mean, samples[:, :, :2].mean(axis=0))
    np.testing.assert_allclose(p.aleatoric, np.exp(samples[:, :, 2:]).mean(axis=0))


def test_sampled_targets_agree_with_propagated_ones():
    net, *_ = linear()
    x = np.random.default_rng(0).standard_normal((3, 3))
    n = 20_000
    by_pfp = predict_targets(net, x, 2)
    by_svi = predict_targets(net, x, 2, method="svi", n_samples=n)
    # Standard error of a mean √(v/n), of a Gaussian variance v·√(2/n) = 1 %; four of them, and as
    # much as of a variance for the mean of e^t, whose relative deviation is about one.
    gap = np.abs(by_svi.mean - by_pfp.mean) / np.sqrt(by_pfp.epistemic / n)
    assert gap.max() < 4.0
    np.testing.assert_allclose(by_svi.epistemic, by_pfp.epistemic, rtol=0.04)
    np.testing.assert_allclose(by_svi.aleatoric, by_pfp.aleatoric, rtol=0.04)


@pytest.mark.parametrize("method", ["pfp", "linearised", "svi"])
def test_outputs_that_are_no_row_are_refused(method):
    net = Network([Conv2d(1, 2, 3)], input_shape=(1, 5, 5))
    x = np.ones((2, 1, 5, 5))
    words = r"outputs of one input have shape \(2, 3, 3\); expected one row"
    with pytest.raises(InputError, match=words):
        predict(net, x, method=method)
    with pytest.raises(InputError, match=words):
        predict_targets(net, x, 2, method=method)
    flat = Network([Conv2d(1, 2, 3), Flatten()], input_shape=(1, 5, 5))
    assert predict(flat, x, method=method).labels.shape == (2,)


def one_logit():
    """A network with one output, whose logit of three inputs is N(m, v)."""
    net = Network([Dense(3, 1)], seed=0)
    return net, np.random.default_rng(0).standard_normal((3, 3))


@pytest.mark.parametrize("method", ["pfp", "linearised", "full"])
def test_one_logit_gives_both_classes_exactly(method):
    """E[σ(z)] and E[H(σ(z))] by adaptive quadrature."""
    net, x = one_logit()
    logit = net.propagate(x)
    p = predict(net, x, method=method)
    assert p.probabilities.shape == (3, 2)
    for row in range(3):
        law = stats.norm(logit.mean[row, 0], np.sqrt(logit.var[row, 0]))
        mean = law.expect(expit, epsabs=1e-14)
        entropy = law.expect(lambda z: entr(expit(z)) + entr(expit(-z)), epsabs=1e-14)
        np.testing.assert_allclose(p.probabilities[row], [1.0 - mean, mean], rtol=1e-11)
        assert p.aleatoric[row] == pytest.approx(entropy, rel=1e-10)
        want = entr(mean) + entr(1.0 - mean)
        assert p.entropy[row] == pytest.approx(want, rel=1e-11)
        assert p.mutual_information[row] == pytest.approx(want - entropy, abs=1e-11)


def test_one_logit_under_sampled_weights():
    net, x = one_logit()
    z = net.sample(x, 7, stream(2, "predict"))[..., 0]
    p = predict(net, x, method="svi", n_samples=7, seed=2)
    np.testing.assert_allclose(p.probabilities[:, 1], expit(z).mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(
        p.aleatoric, (entr(expit(z)) + entr(expit(-z))).mean(axis=0), rtol=1e-12
    )
    np.testing.assert_allclose(p.logits.var[:, 1], z.var(axis=0, ddof=1), rtol=1e-12)
    np.testing.assert_array_equal(p.logits.var[:, 0], 0.0)


@pytest.mark.parametrize("likelihood", ["gaussian", "energy"])
def test_a_regression_is_no_classifier_and_the_reverse(likelihood):
    net, x = one_logit()
    net.likelihood = likelihood
    with pytest.raises(InputError, match=f"trained on targets, .* {likelihood!r}; .* a classifier"):
        predict(net, x)
    net.likelihood = "bernoulli"
    with pytest.raises(InputError, match=r"trained on classes, .*; expected a regression"):
        predict_targets(net, x, 1)


def test_the_number_of_targets_is_that_of_training():
    """Two means, or one mean and a log variance: the outputs alone do not say."""
    net, x = Network([Dense(3, 2)], seed=0), np.ones((1, 3))
    net.likelihood, net.noise_sd = "gaussian", (0.5, 3.0)
    found = predict_targets(net, x, 2)
    np.testing.assert_array_equal(found.aleatoric, [[0.25, 9.0]])
    with pytest.raises(InputError, match="1 targets; expected 2, as the network was trained on"):
        predict_targets(net, x, 1)
    net.noise_sd = None
    with pytest.raises(InputError, match="2 targets; expected 1, as the network was trained on"):
        predict_targets(net, x, 2)


@pytest.mark.parametrize("n", [600, 1000, 1024])
def test_as_many_draws_as_asked_for(n, monkeypatch):
    """Draws of a Sobol sequence come in powers of two; the first n of them count."""
    counted = []

    def sums(samples):
        counted.append(len(samples))
        return softmax_sums(samples)

    monkeypatch.setattr("refbnn.prediction.result.softmax_sums", sums)
    net, x = one_logit()
    for method in ("pfp", "svi"):
        counted.clear()
        predict(net, x, method=method, n_samples=n)
        if method == "pfp":
            assert counted == [n]
    monkeypatch.setattr("refbnn.prediction.accumulation.softmax_sums", sums)
    counted.clear()
    predict(net, x, method="svi", n_samples=n)
    assert sum(counted) == n


@pytest.mark.parametrize("method", ["pfp", "linearised", "full", "svi"])
@pytest.mark.parametrize("x", [1e200, 1e308, -1e308])
def test_huge_inputs_are_one_error_without_warnings(method, x):
    """Warnings are errors in these tests."""
    net = Network([Dense(3, 4), ReLU(), Dense(4, 2)], seed=0)
    with pytest.raises(InputError) as error:
        predict(net, np.full((2, 3), x), method=method)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError):
        predict_targets(net, np.full((2, 3), x), 1, method=method)


@pytest.mark.parametrize("method", ["pfp", "linearised", "full", "svi"])
def test_a_variance_too_large_for_a_float_is_refused(method):
    net = Network([Dense(1, 2)])
    known = {n: Posterior(np.zeros(p.shape), p.scale * 0) for n, p in net.parameters().items()}
    net.set_parameters({**known, "0.bias": Posterior(np.array([0.0, 800.0]), np.zeros(2))})
    with pytest.raises(InputError, match="aleatoric variance of target 0 of input 0 is too large"):
        predict_targets(net, np.ones((1, 1)), 1, method=method)


def test_complex_and_masked_inputs_are_refused():
    """The imaginary part, or the mask, would be lost."""
    net, x = one_logit()
    for wrong, said in ((x * 1j, "complex128"), (np.ma.masked_greater(x, 0.0), "masked entries")):
        calls: tuple[tuple[Callable, tuple, dict], ...] = (
            (predict, (net, wrong), {}),
            (predict_targets, (net, wrong, 1), {}),
            (net.propagate, (wrong,), {}),
            (net.sample, (wrong, 2), {"seed": 0}),
            (Moments, (wrong, np.abs(np.asarray(wrong))), {}),
            (Moments, (np.zeros((3, 3)), wrong), {}),
            (train, (net, wrong, np.zeros(3, int)), {"likelihood": "bernoulli"}),
            (train, (net, x, wrong[:, :1]), {"likelihood": "gaussian"}),
        )
        for call, given, options in calls:
            with pytest.raises(InputError, match=said):
                call(*given, **options)


@pytest.mark.parametrize("wrong", [{"n_samples": 2.5}, {"n_samples": "9"}, {"seed": 0.5}])
def test_numbers_of_another_type_are_refused(wrong):
    net, x = one_logit()
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is .*; expected a whole number"):
        predict(net, x, method="svi", **wrong)


def test_targets_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="4 outputs for 3 targets; expected 3 or"):
        predict_targets(linear()[0], np.ones((1, 3)), 3)


def test_rows_of_a_prediction_are_a_prediction():
    x = np.random.default_rng(0).standard_normal((6, 4))
    p = predict(Network([Dense(4, 3)], seed=0), x)
    for rows in (slice(2, 5), np.arange(6) > 3, [5, 0]):
        part = p[rows]  # type: ignore[index]
        np.testing.assert_array_equal(part.logits.var, p.logits.var[rows])
        np.testing.assert_array_equal(part.mutual_information, p.mutual_information[rows])
    assert p == p
    assert p != p[:]  # by identity: arrays have no single truth value


def test_an_unknown_method_is_refused_with_the_nearest_one():
    words = r"method 'svl'; expected 'pfp' or 'linearised' or 'full' or 'svi'; did you mean 'svi'\?"
    with pytest.raises(InputError, match=words):
        predict(Network([Dense(4, 3)]), np.ones((1, 4)), method="svl")
