"""Evidence: the level of the test, standard errors, and the cells behind both."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import kolmogi

from refbnn.noise import Bimodal, DeviceLaw, Gaussian, HeavyTailed, fit
from refbnn.noise.fitting import evidence
from refbnn.noise.fitting.evidence import cells_of, ks_distance, ks_p_value, standard_errors
from refbnn.noise.fitting.heavy import fit_heavy_tailed
from refbnn.noise.fitting.normals import fit_bimodal, fit_gaussian
from refbnn.noise.fitting.sample import checked_sample
from verification.calibration import CASES, p_values

LINE = (-np.inf, np.inf)
REPETITIONS = 16


@pytest.mark.parametrize("name", ["Gaussian", "two peaks", "heavy tails", "uniform"])
def test_p_values_of_true_families_are_uniform(name):
    """Without the projection on the scores, p-values of fitted laws crowd towards 1.

    The full study (`python -m verification.calibration`) measures the 5 % level itself.
    """
    law, family = CASES[name]
    p = p_values(law, family, range(REPETITIONS), n=300)
    # The mean of 16 uniform numbers is ½ ± 0.072: four standard errors.
    assert np.mean(p) == pytest.approx(0.5, abs=4 / np.sqrt(12 * REPETITIONS))
    assert stats.kstest(p, "uniform").pvalue > 1e-4


def fitted(search, law, n, seed):
    sample = checked_sample(law.sample(np.random.default_rng(seed), (n,)), LINE)
    estimate = search(sample)
    return sample, cells_of(estimate, sample)


def test_the_normal_test_is_lilliefors():
    """Critical value at 5 % for estimated mean and deviation: Stephens 1974, table 1A, case 3."""
    n = 400
    _, cells = fitted(fit_gaussian, Gaussian(), n, seed=0)
    critical = 0.895 / (np.sqrt(n) - 0.01 + 0.85 / np.sqrt(n))
    error = np.sqrt(0.05 * 0.95 / evidence.REPLICATES)
    # D is seen at 1000 points, which takes up to 0.6/√1000 = 2 % of it, or 0.01 of the level.
    assert ks_p_value(cells, critical, n, seed=1) == pytest.approx(0.05, abs=4 * error + 0.01)
    assert ks_p_value(cells, critical, n, seed=2) != ks_p_value(cells, critical, n, seed=1)


def test_without_free_parameters_the_test_is_kolmogorovs():
    n = 400
    _, cells = fitted(fit_gaussian, Gaussian(), n, seed=0)
    known = evidence.Cells(cells.edges, cells.cdf, np.empty((0, cells.edges.size)))
    error = np.sqrt(0.05 * 0.95 / evidence.REPLICATES)
    critical = kolmogi(0.05) / (np.sqrt(n) + 0.12 + 0.11 / np.sqrt(n))  # Stephens 1970
    p = ks_p_value(known, critical, n, seed=1)
    assert p == pytest.approx(0.05, abs=4 * error + 0.01)


def test_the_distance_is_scipys_between_cells():
    sample, cells = fitted(fit_gaussian, HeavyTailed(0.9, 0.3), 700, seed=1)
    law = stats.norm(sample.mean, sample.deviation)
    exact = stats.kstest(sample.values, law.cdf).statistic
    # Seen at 999 points: 1/1000 of probability apart, and one value of 700 either way.
    assert ks_distance(cells, sample) == pytest.approx(exact, abs=1 / 1000 + 1 / 700)
    np.testing.assert_allclose(cells.cdf, law.cdf(cells.edges), atol=1e-14)


def test_information_of_the_normal_law_is_fishers():
    sample, cells = fitted(fit_gaussian, Gaussian(), 1000, seed=2)
    s = sample.deviation
    # I = diag(1/s², 2/s²); cells of 1/1000 lose the tails beyond 3.1 standard deviations, where
    # the score of s has E[z⁴; |z| > 3.1] = 0.16 of E[z⁴] = 3 less what the cells keep: below 2 %.
    errors = standard_errors(cells, 1000)
    np.testing.assert_allclose(errors, [s / np.sqrt(1000), s / np.sqrt(2000)], rtol=0.02)


@pytest.mark.parametrize(
    ("search", "law"),
    [(fit_bimodal, Bimodal(0.85, 0.4, 1.3)), (fit_heavy_tailed, HeavyTailed(0.6, 0.2))],
)
def test_standard_errors_are_the_scatter_of_repeated_fits(search, law):
    n, repetitions = 1000, 60
    rng = np.random.default_rng(3)
    thetas: list[np.ndarray] = []
    errors: list[np.ndarray] = []
    for _ in range(repetitions):
        sample = checked_sample(law.sample(rng, (n,)), LINE)
        estimate = search(sample)
        assert len(estimate.free) == estimate.theta.size
        thetas.append(estimate.theta)
        if len(errors) < 5:
            errors.append(standard_errors(cells_of(estimate, sample), n))
    # A standard deviation of 60 has relative error 0.09: four of them.
    np.testing.assert_allclose(np.std(thetas, axis=0), np.mean(errors, axis=0), rtol=0.36)


def test_values_on_steps_are_seen_between_steps():
    rng = np.random.default_rng(4)
    values = np.round(rng.normal(0.0, 4.0, 1500))
    sample = checked_sample(values, LINE)
    cells = cells_of(fit_gaussian(sample), sample)
    # Whole numbers: half a step from either neighbour, and nearer to none.
    nearest = np.abs(cells.edges[:, np.newaxis] - np.unique(values)).min(axis=1)
    assert nearest.min() == 0.5
    assert np.mean(nearest == 0.5) > 0.9  # but for steps of the tails that no value fell on
    distance = ks_distance(cells, sample)
    assert ks_p_value(cells, distance, 1500, seed=0) > 0.01
    # The textbook statistic is half a step's probability, φ(0)/8, at least.
    law = stats.norm(sample.mean, sample.deviation)
    assert stats.kstest(values, law.cdf).statistic > 0.04 > 1.5 * distance
    assert stats.kstest(values, law.cdf).pvalue < 0.05


def test_edges_that_are_not_regular_are_held():
    values = DeviceLaw(0.0, 3.0).sample(np.random.default_rng(5), (800,))
    lower, upper, *_ = fit(values, families=["device"], max_degree=0).parameters
    assert lower.uncertainty is not None
    assert upper.uncertainty is not None
    assert "not regular" in lower.note
    assert upper.note == ""
    assert upper.uncertainty > 10 * lower.uncertainty
    low, high = DeviceLaw(0.0, 3.0).support
    assert abs(lower.value - low) < 12 * lower.uncertainty  # e⁻¹²
    assert abs(upper.value - high) < 5 * upper.uncertainty


def test_a_direction_that_the_cells_do_not_see_has_no_inverse():
    _, cells = fitted(fit_gaussian, Gaussian(), 200, seed=6)
    twice = evidence.Cells(cells.edges, cells.cdf, np.vstack([cells.slopes, cells.slopes[:1]]))
    # The same parameter twice: its information is shared, not infinite.
    inverse = twice.inverse_information
    assert np.isfinite(inverse).all()
    single = cells.inverse_information
    assert inverse[0, 0] == pytest.approx(single[0, 0] / 4.0, rel=1e-6)
    p = ks_p_value(cells, 0.05, 200, seed=0)
    assert ks_p_value(twice, 0.05, 200, seed=0) == pytest.approx(p, abs=1e-12)
