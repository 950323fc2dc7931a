"""Pictures of a user's own results: what stands in them, and files equal from run to run."""

import numpy as np
import pytest

from figures.pictures import calibration, comparison, diagnosis, evaluation, latencies, training
from figures.support.style import FORMATS, save
from refbnn.layers.moments import Moments
from refbnn.prediction.result import Prediction, TargetPrediction
from refbnn.training.elbo import Loss
from refbnn.training.run import Epoch
from refbnn.uncertainty.pfp_vs_svi import Measure
from refbnn.uncertainty.variance_factor import Choice

HISTORY = [Epoch(n, Loss(90.0 / n, 10.0 * n), min(1.0, n / 3), 1.0 / n) for n in range(1, 6)]


def some_prediction(n, seed):
    p = np.random.default_rng(seed).dirichlet([1.0, 1.0, 1.0], n)
    return Prediction(Moments(np.log(p), np.zeros_like(p)), p, np.linspace(0.0, 1.0, n))


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


@pytest.mark.parametrize("kind", FORMATS)
def test_equal_pictures_are_equal_files(tmp_path, kind):
    for name in ("a", "b"):
        save(training.draw(HISTORY), tmp_path / f"{name}.{kind}")
    a, b = ((tmp_path / f"{name}.{kind}").read_bytes() for name in ("a", "b"))
    assert a == b
    assert len(a) > 5000


def test_training_shows_every_epoch_and_the_best_of_those_with_full_kl():
    likelihood, _, validation = training.draw(HISTORY).axes
    expected = [[epoch.number, epoch.loss.nll] for epoch in HISTORY]
    np.testing.assert_array_equal(likelihood.get_lines()[0].get_xydata(), expected)
    np.testing.assert_array_equal(lines(validation)["best, epoch 5"], [[5, 0.2]])
    without = [Epoch(n, Loss(1.0, 1.0)) for n in (1, 2)]
    assert len(training.draw(without).axes) == 2


def test_evaluation_of_classes_states_auroc_and_calibration():
    inside, outside = some_prediction(60, 0), some_prediction(50, 1)
    y = np.arange(60) % 3
    for pair, names in (((inside, outside), ("in", "out")), ((inside, None), ("in", None))):
        entropy, _, diagram = evaluation.classes({"pfp": pair}, y, names).axes
        assert ("AUROC" in entropy.get_title()) == (pair[1] is not None)
        assert "ECE" in diagram.texts[0].get_text()


def test_evaluation_of_targets_shows_coverage():
    rng = np.random.default_rng(2)
    mean, spread = rng.standard_normal((40, 1)), np.full((40, 1), 0.25)
    prediction = TargetPrediction(mean, spread, spread)
    coverage, errors = evaluation.targets({"svi": prediction}, mean + 0.1).axes
    # Every target lies 0.1 from its mean, deviation √0.5: inside from erf(0.1) = 0.112 on.
    observed = lines(coverage)["observed"]
    np.testing.assert_array_equal(observed[:, 1], observed[:, 0] > 0.112)
    np.testing.assert_allclose(np.asarray(errors.get_lines()[0].get_xydata())[:, 1], 0.1)


def test_comparison_parts_measures_with_a_limit_from_others():
    found = {
        "accuracy": Measure(0.9, 0.91, -0.01, 0.002, 0.001, 0.002),
        "auroc": Measure(0.9, 0.9, 0.0, 0.002, 0.001, 0.01),
        "entropy_nats": Measure(None, None, 0.3, 0.02),
    }
    limited, others = comparison.draw(found, "pfp", 64).axes
    assert [text.get_text() for text in limited.get_yticklabels()] == ["accuracy", "auroc"]
    assert [text.get_text() for text in others.get_yticklabels()] == ["entropy nats"]


def test_calibration_shows_what_the_search_has_seen():
    tried = ((2.0, 0.1), (0.5, 0.9), (1.0, 0.4))
    found = Choice(2.0, "epistemic", 0.4, 0.1, False, 0.1, 0.1, tried)
    (axes,) = calibration.draw(found).axes
    np.testing.assert_array_equal(lines(axes)["tried by the search"], sorted(tried))


@pytest.mark.parametrize("sampled", [True, False])
def test_diagnosis_has_a_place_for_every_layer(sampled):
    quantiles = {"median": 0.0, "q95": 0.1, "max": 0.2}
    ratio = {"median": 1.0, "q05": 0.5, "q95": 2.0}
    found = {"divergence_less_chance_nats": quantiles}
    found["variance_ratio_sampled_to_propagated"] = ratio
    row = {"kind": "Dense", "divergence_nats": quantiles, "sampled": found if sampled else None}
    fig = diagnosis.draw([{"layer": 0, **row}, {"layer": 2, **row}], 1 / 60)
    assert len(fig.axes) == 1 + sampled
    assert [text.get_text() for text in fig.axes[0].get_xticklabels()] == ["0\nDense", "2\nDense"]


def test_latencies_in_microseconds_or_instructions():
    results = [
        {"batch_size": 1, "latency_seconds": {"PFP": 2e-6, "NumPy": 3e-4}},
        {"batch_size": 10, "executed_instructions": {"PFP": {"total": 7000}}},
    ]
    first, second = latencies.draw(results, "core").axes
    assert [bar.get_width() for bar in first.containers[0]] == pytest.approx([2.0, 300.0])
    assert [bar.get_width() for bar in second.containers[0]] == [7.0]
    assert [text.get_text() for text in first.texts] == ["2", "300"]
