import math
import statistics

import numpy as np
import pytest
from scipy import stats
from scipy.special import entr, softmax

from refbnn import InputError, Moments, Network, Posterior, predict
from refbnn.layers import Conv2d, Dense, Flatten, ReLU
from refbnn.numerics.random.streams import stream
from refbnn.prediction.accumulation import OutputSums
from refbnn.prediction.predict import predict_targets
from refbnn.prediction.result import from_logit_samples, from_output_moments


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


@pytest.mark.parametrize("method", ["pfp", "svi"])
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


@pytest.mark.parametrize("method", ["pfp", "svi"])
def test_one_output_is_no_classifier(method):
    """Its softmax is 1 whatever the network says."""
    with pytest.raises(InputError, match="the network has 1 output; expected at least 2"):
        predict(Network([Dense(3, 1)]), np.ones((1, 3)), method=method)


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
    words = r"method 'svl'; expected 'pfp' or 'full' or 'svi'; did you mean 'svi'\?"
    with pytest.raises(InputError, match=words):
        predict(Network([Dense(4, 3)]), np.ones((1, 4)), method="svl")
