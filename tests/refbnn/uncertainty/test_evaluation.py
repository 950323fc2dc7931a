"""Measures of predictions, against SciPy, loops and numbers worked out by hand."""

import math
import statistics

import numpy as np
import pytest
from scipy import integrate, stats

from refbnn import InputError, Moments
from refbnn.prediction.result import Prediction, TargetPrediction
from refbnn.uncertainty import evaluation
from refbnn.uncertainty.auroc import auroc
from refbnn.uncertainty.evaluation import log_scores, of_classes, of_targets


def classes(probabilities, aleatoric=None):
    p = np.array(probabilities, float)
    zero = np.zeros_like(p)
    return Prediction(Moments(zero, zero), p, np.zeros(len(p)) if aleatoric is None else aleatoric)


THREE = classes([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [0.1, 0.1, 0.8]])
LABELS = np.array([0, 0, 2])
TARGETS = TargetPrediction(
    mean=np.array([[1.0, -2.0], [0.0, 5.0]]),
    epistemic=np.array([[0.5, 2.0], [1.0, 0.25]]),
    aleatoric=np.array([[1.5, 0.0], [3.0, 0.75]]),
)
Y = np.array([[4.0, -2.0], [0.0, 1.0]])


def test_log_score_of_classes():
    by_hand = (math.log(2.0) + math.log(8.0) + math.log(1.25)) / 3.0
    assert evaluation.log_scores(THREE, LABELS).mean() == pytest.approx(by_hand, rel=1e-14)
    np.testing.assert_allclose(
        evaluation.log_scores(THREE, LABELS), np.log([2.0, 8.0, 1.25]), rtol=1e-14
    )


def test_log_score_of_targets():
    """Gaussian densities by SciPy: targets multiply, variances add."""
    by_example = [
        -sum(
            stats.norm(TARGETS.mean[b, d], math.sqrt(TARGETS.epistemic[b, d] + a)).logpdf(Y[b, d])
            for d, a in enumerate(TARGETS.aleatoric[b])
        )
        for b in range(2)
    ]
    np.testing.assert_allclose(evaluation.log_scores(TARGETS, Y), by_example, rtol=1e-14)
    assert evaluation.log_scores(TARGETS, Y).mean() == pytest.approx(np.mean(by_example), rel=1e-14)


def test_measures_of_targets():
    measures = evaluation.of_targets(TARGETS, Y)
    assert measures["rmse"] == pytest.approx(2.5)  # errors 3, 0, 0, −4: √(25/4)
    assert measures["epistemic_spread"] == pytest.approx(math.sqrt(3.75 / 4))
    assert measures["aleatoric_spread"] == pytest.approx(math.sqrt(5.25 / 4))
    scores = list(evaluation.log_scores(TARGETS, Y))
    assert measures["log_score_nats"] == pytest.approx(statistics.mean(scores))
    # Of two numbers: half their distance.
    assert measures["log_score_nats_se"] == pytest.approx(abs(scores[0] - scores[1]) / 2)


def entropy(p):
    return -sum(q * math.log(q) for q in p if q > 0)


def test_measures_of_classes_and_their_standard_errors():
    rng = np.random.default_rng(0)
    n = 23
    p, q = rng.dirichlet([0.5, 1.0, 2.0], size=(2, n))
    y = rng.integers(0, 3, n)
    sme_p, sme_q = rng.uniform(0.0, 0.1, (2, n))
    measures = evaluation.of_classes(classes(p, sme_p), y, classes(q, sme_q))
    by_example = {
        "accuracy": [float(max(row) == row[label]) for row, label in zip(p, y, strict=True)],
        "log_score_nats": [-math.log(row[label]) for row, label in zip(p, y, strict=True)],
    }
    for where, rows, sme in (("inside", p, sme_p), ("outside", q, sme_q)):
        h = [entropy(row) for row in rows]
        by_example[f"predictive_entropy_{where}_nats"] = h
        by_example[f"mutual_information_{where}_nats"] = [
            max(a - b, 0.0) for a, b in zip(h, sme, strict=True)
        ]
    for key, values in by_example.items():
        assert measures[key] == pytest.approx(statistics.mean(values), rel=1e-12)
        error = statistics.stdev(values) / math.sqrt(n)
        assert measures[f"{key}_se"] == pytest.approx(error, rel=1e-12)


def test_a_standard_error_that_nothing_is_known_of_is_infinite():
    one = evaluation.of_classes(classes([[0.5, 0.5]]), np.array([0]))
    assert one["accuracy_se"] == math.inf
    never = evaluation.of_classes(classes([[1.0, 0.0], [0.5, 0.5]]), np.array([1, 0]))
    assert never["log_score_nats"] == never["log_score_nats_se"] == math.inf
    assert never["accuracy_se"] == pytest.approx(0.5)


def test_auroc_of_the_example_of_hanley_and_mcneil():
    """Their table I: ratings 1 to 5 of 58 normal and 51 abnormal CT images; W = 0.893, SE 0.032."""
    ratings = np.arange(1.0, 6.0)
    normal, abnormal = np.repeat(ratings, [33, 6, 6, 11, 2]), np.repeat(ratings, [3, 2, 2, 11, 33])
    assert (len(normal), len(abnormal)) == (58, 51)
    area, error = auroc(normal, abnormal)
    assert area == pytest.approx(0.893, abs=5e-4)  # as printed
    assert error == pytest.approx(0.032, abs=5e-4)


@pytest.mark.parametrize(("n", "m", "shift"), [(8, 30, 0.5), (30, 8, 1.0), (12, 12, 0.0)])
def test_standard_error_is_that_of_exponential_scores(n, m, shift):
    """Q₁ and Q₂, by quadrature, of the scores that Hanley and McNeil take for their formula.

    With scores of mean 1 inside and λ outside, P(outside > inside) = λ/(1 + λ).
    """
    rng = np.random.default_rng(1)
    inside, outside = rng.standard_normal(n), rng.standard_normal(m) + shift
    a, error = auroc(inside, outside)
    mean = a / (1.0 - a)
    # Two outside above one inside; one outside above two inside.
    q1 = integrate.quad(lambda u: math.exp(-u) * math.exp(-u / mean) ** 2, 0, math.inf)[0]
    q2 = integrate.quad(
        lambda u: math.exp(-u / mean) / mean * (1.0 - math.exp(-u)) ** 2, 0, math.inf
    )[0]
    variance = a * (1.0 - a) + (m - 1) * (q1 - a * a) + (n - 1) * (q2 - a * a)
    assert error == pytest.approx(math.sqrt(variance / (n * m)), rel=1e-7)  # that of quad: 1.5e-8


def test_auroc_counts_pairs():
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(0, 5, 40).astype(float), rng.integers(1, 7, 30).astype(float)
    wins = (outside[:, None] > inside).mean() + 0.5 * (outside[:, None] == inside).mean()
    got, error = auroc(inside, outside)
    assert got == pytest.approx(wins)
    # The bootstrap's standard error agrees with Hanley and McNeil's to some ten per cent.
    draws = [auroc(rng.choice(inside, 40), rng.choice(outside, 30))[0] for _ in range(400)]
    assert error == pytest.approx(np.std(draws), rel=0.3)
    assert auroc(np.zeros(3), np.ones(3))[0] == 1.0


def targets(mean, epistemic, aleatoric=0.0):
    mean = np.asarray(mean, float)
    return TargetPrediction(mean, np.full_like(mean, epistemic), np.full_like(mean, aleatoric))


def test_scores_without_variance_are_their_limit():
    """½(g²/v + log 2πv) as v falls to 0: −∞ where the gap g is 0, else +∞, which wins a sum."""
    y = np.array([[1.0, 2.0], [1.0, 2.5], [1.5, 2.5]])
    prediction = targets([[1.0, 2.0]] * 3, 0.0)
    np.testing.assert_array_equal(log_scores(prediction, y), [-np.inf, np.inf, np.inf])
    for v in (1e-3, 1e-5, 1e-7):  # the limit is approached from finite variances
        near = log_scores(targets([[1.0, 2.0]] * 3, v), y)
        assert near[0] == pytest.approx(np.log(2.0 * np.pi * v))
        assert near[1:].min() > 0.01 / v
    measures = of_targets(prediction, y)
    assert measures["log_score_nats"] == np.inf
    assert measures["log_score_nats_se"] == np.inf
    assert of_targets(prediction, prediction.mean)["log_score_nats"] == -np.inf


def test_empty_sets_are_refused():
    nothing = Prediction(Moments(np.zeros((0, 2)), np.zeros((0, 2))), np.zeros((0, 2)), np.zeros(0))
    some = Prediction(Moments(np.zeros((2, 2)), np.zeros((2, 2))), np.full((2, 2), 0.5), np.ones(2))
    for call in (
        lambda: of_classes(nothing, np.zeros(0, int)),
        lambda: of_classes(some, np.array([0, 1]), nothing),
        lambda: of_targets(targets(np.zeros((0, 1)), 1.0), np.zeros((0, 1))),
        lambda: of_targets(targets(np.zeros((2, 1)), 1.0), np.zeros((2, 2))),
        lambda: auroc(np.ones(3), np.zeros(0)),
        lambda: auroc(np.zeros(0), np.ones(3)),
        lambda: auroc(np.array([np.nan]), np.ones(3)),
    ):
        with pytest.raises(InputError, match=r"at least one|some of each"):
            call()
