"""Measures of calibration against loops, closed forms, and calibrated predictors."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import erf

from refbnn import Moments
from refbnn.errors import InputError
from refbnn.prediction.result import Prediction, TargetPrediction
from refbnn.uncertainty import evaluation
from refbnn.uncertainty.calibration import LEVELS, brier, coverage, reliability


def prediction(p):
    p = np.asarray(p, float)
    return Prediction(Moments(np.zeros_like(p), np.zeros_like(p)), p, np.zeros(len(p)))


def calibrated(n, n_classes, seed):
    """Random predictions, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(n_classes), n)
    y = (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return prediction(p), y


@pytest.mark.parametrize("n_bins", [1, 4, 15])
def test_ece_by_loops(n_bins):
    q, y = calibrated(300, 5, 0)
    conf, right = q.probabilities.max(axis=1), q.probabilities.argmax(axis=1) == y
    ece = chance = 0.0
    for b in range(n_bins):
        members = [i for i in range(300) if b / n_bins <= conf[i] < (b + 1) / n_bins]
        if members:
            ece += abs(sum(right[i] - conf[i] for i in members)) / 300
            chance += np.sqrt(2 / np.pi * sum(conf[i] * (1 - conf[i]) for i in members)) / 300
    diagram = reliability(q, y, n_bins)
    assert diagram.ece == pytest.approx(ece, rel=1e-12)
    assert diagram.ece_if_calibrated == pytest.approx(chance, rel=1e-12)
    order, ece = np.argsort(conf), 0.0
    if 300 % n_bins == 0:
        for part in np.split(order, n_bins):
            ece += abs(np.sum(right[part] - conf[part])) / 300
        diagram = reliability(q, y, n_bins, "mass")
        np.testing.assert_array_equal(diagram.count, 300 // n_bins)
        assert diagram.ece == pytest.approx(ece, rel=1e-12)


@pytest.mark.parametrize("bins", ["width", "mass"])
def test_ece_of_calibrated_predictions_is_chance_and_vanishes(bins):
    found = []
    for n, repetitions in ((500, 40), (50_000, 10)):
        drawn = [calibrated(n, 4, seed) for seed in range(1, repetitions + 1)]
        diagrams = [reliability(q, y, bins=bins) for q, y in drawn]
        ece = np.array([d.ece for d in diagrams])
        expected = np.mean([d.ece_if_calibrated for d in diagrams])
        # 4 standard errors, and 5 % for a sum of few Bernoulli trials that is taken as normal.
        slack = 4.0 * ece.std(ddof=1) / np.sqrt(repetitions) + 0.05 * expected
        assert ece.mean() == pytest.approx(expected, abs=slack)
        found.append(ece.mean())
    # As 1/√n, a factor 10; the first is known to 4 %, the second to 8 %, each with its 5 %.
    assert found[0] / found[1] == pytest.approx(10.0, rel=0.3)


def test_overconfidence_is_measured():
    """Confidence 0.9, right in 60 % of cases: ECE is 0.3, whatever the bins."""
    p = np.tile([0.9, 0.1], (1000, 1))
    y = np.repeat([0, 1], [600, 400])
    for bins in ("width", "mass"):
        diagram = reliability(prediction(p), y, bins=bins)
        assert diagram.count.tolist() == [1000]  # ties stay together, empty bins are left out
        assert diagram.ece == pytest.approx(0.3)
    # Certainty fits in the last bin and has no chance in it.
    certain = reliability(prediction(np.tile([1.0 + 2e-16, 0.0], (8, 1))), np.zeros(8, int))
    assert (certain.ece, certain.ece_if_calibrated) == (0.0, 0.0)


def test_brier_is_reliability_less_resolution_plus_uncertainty():
    """Murphy 1973: an identity where predictions take few values."""
    rng = np.random.default_rng(0)
    forecasts = rng.dirichlet(np.ones(3), 4)
    which, y = rng.integers(0, 4, 500), rng.integers(0, 3, 500)
    base = np.bincount(y, minlength=3) / 500
    total = base @ (1.0 - base)
    for k in range(4):
        share = np.bincount(y[which == k], minlength=3) / np.sum(which == k)
        weight = np.mean(which == k)
        total += weight * (np.sum((forecasts[k] - share) ** 2) - np.sum((share - base) ** 2))
    assert brier(prediction(forecasts[which]), y) == pytest.approx(total, rel=1e-12)
    assert brier(prediction(np.eye(3)), np.array([0, 1, 2])) == 0.0
    assert brier(prediction(np.eye(3)), np.array([1, 2, 0])) == 2.0
    # Calibrated: its mean is E Σ p_c(1 − p_c) = 1 − C·2/(C(C + 1)) for a flat Dirichlet law.
    q, y = calibrated(100_000, 4, 0)
    # One example's score has a deviation below 0.5.
    assert brier(q, y) == pytest.approx(1.0 - 2.0 / 5.0, abs=4.0 * 0.5 / np.sqrt(100_000))


def test_coverage_of_a_true_gaussian_is_nominal():
    rng = np.random.default_rng(0)
    mean, epistemic, aleatoric = rng.normal(size=(3, 10_000, 2)) ** [[[1]], [[2]], [[2]]]
    spread = np.sqrt(epistemic + aleatoric)
    y = mean + spread * rng.standard_normal(mean.shape)
    found = coverage(TargetPrediction(mean, epistemic, aleatoric), y)
    z = (found.share - LEVELS) / found.standard_error
    # 19 levels within 4 standard errors: by chance beyond in 1 of 800 cases.
    assert np.abs(z).max() < 4.0
    assert found.deviation < 4.0 * found.standard_error.max()
    # By loops, with the intervals themselves.
    for level, share in zip(LEVELS[::6], found.share[::6], strict=True):
        low, high = stats.norm.interval(level, mean, spread)
        assert share == np.mean((low <= y) & (y <= high))


def test_coverage_of_a_spread_that_is_wrong():
    """Deviations too large by k: coverage 2Φ(kz) − 1 of the level 2Φ(z) − 1."""
    rng = np.random.default_rng(1)
    y = rng.standard_normal((20_000, 1))
    for k in (0.5, 2.0):
        claimed = TargetPrediction(np.zeros_like(y), np.full_like(y, k**2), np.zeros_like(y))
        found = coverage(claimed, y)
        wanted = 2.0 * stats.norm.cdf(k * stats.norm.ppf(0.5 + LEVELS / 2.0)) - 1.0
        error = np.sqrt(wanted * (1.0 - wanted) / 20_000)
        assert (np.abs(found.share - wanted) < 4.0 * error).all()


def test_targets_without_variance_are_met_or_missed():
    zero = np.zeros((4, 1))
    found = coverage(TargetPrediction(zero, zero, zero), np.array([[0.0], [1e-300], [0.0], [5.0]]))
    np.testing.assert_array_equal(found.share, 0.5)
    wide = coverage(TargetPrediction(zero, zero + np.inf, zero), zero + 3.0)
    np.testing.assert_array_equal(wide.share, 1.0)


def test_bad_answers_and_predictions_are_refused():
    q, y = calibrated(10, 3, 0)
    for wrong in (y[:5], y.astype(float), y + 3, y - 3, y[:, np.newaxis]):
        for measure in (reliability, brier):
            with pytest.raises(InputError, match="expected 10 integers"):
                measure(q, wrong)
    with pytest.raises(InputError, match="NaN"):
        reliability(prediction(np.full((10, 3), np.nan)), y)
    with pytest.raises(InputError, match="0 bins"):
        reliability(q, y, 0)
    with pytest.raises(InputError, match="'height'"):
        reliability(q, y, bins="height")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected 0 integers"):
        reliability(prediction(np.zeros((0, 3))), np.zeros(0, int))
    zero = np.zeros((4, 1))
    good = TargetPrediction(zero, zero, zero)
    with pytest.raises(InputError, match="the same shape"):
        coverage(good, zero[:2])
    with pytest.raises(InputError, match="not finite"):
        coverage(good, zero + np.nan)
    with pytest.raises(InputError, match="variance NaN or negative"):
        coverage(TargetPrediction(zero, zero - 1.0, zero), zero)
    with pytest.raises(InputError, match=r"outside \(0, 1\)"):
        coverage(good, zero, np.array([0.5, 1.5]))


def test_the_evaluation_shows_them():
    q, y = calibrated(200, 3, 0)
    measures = evaluation.of_classes(q, y)
    assert measures["ece"] == reliability(q, y).ece
    assert measures["brier_score"] == brier(q, y)
    assert measures["log_score_nats"] == pytest.approx(
        -np.mean([np.log(q.probabilities[i, y[i]]) for i in range(200)])
    )
    rng = np.random.default_rng(0)
    mean, y = rng.normal(size=(2, 50, 2))
    variance = rng.gamma(2.0, 1.0, (2, 50, 2))
    measures = evaluation.of_targets(TargetPrediction(mean, *variance), y)
    log_pdf = stats.norm.logpdf(y, mean, np.sqrt(variance.sum(axis=0)))
    assert measures["log_score_nats"] == pytest.approx(-log_pdf.sum(axis=1).mean())
    low, high = stats.norm.interval(0.9, mean, np.sqrt(variance.sum(axis=0)))
    assert measures["coverage_at_0.9"] == np.mean((low <= y) & (y <= high))


def test_a_target_on_the_edge_of_an_interval_is_inside():
    """Central intervals are closed: of one target at level q, the share at q is 1."""
    prediction = TargetPrediction(np.zeros((1, 1)), np.full((1, 1), 0.5), np.zeros((1, 1)))
    level = float(erf(0.7))  # |y − m|/√(2v) = 0.7
    levels = np.array([np.nextafter(level, 0.0), level])
    found = coverage(prediction, np.array([[0.7]]), levels)
    np.testing.assert_array_equal(found.share, [0.0, 1.0])
