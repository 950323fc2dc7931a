"""Mixtures of normal laws against their definition."""

import json

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from refbnn.errors import InputError
from refbnn.noise import Bimodal, Mixture, cumulants, load_law, save_law

THREE = ((0.2, 0.5, 0.3), (10.0, 12.0, 17.0), (0.5, 2.0, 1.0))


def test_two_components_are_the_bimodal_law():
    bimodal = Bimodal(0.6, 0.2, 3.0)
    law = Mixture(*bimodal.components)
    x = np.linspace(-8.0, 8.0, 101)
    for name in ("log_pdf", "score", "cdf", "partial_mean"):
        # Rounding of sums of a few terms of size up to |log q| = 300.
        expected = getattr(bimodal, name)(x)
        np.testing.assert_allclose(getattr(law, name)(x), expected, rtol=1e-13, atol=1e-13)
    u = np.linspace(0.001, 0.999, 33)
    np.testing.assert_allclose(law.icdf(u), bimodal.icdf(u), atol=1e-11)
    assert law.entropy == pytest.approx(bimodal.entropy, abs=1e-12)


def test_three_components_against_scipy():
    law = Mixture(*THREE)
    w, m, s = (np.array(v) for v in THREE)
    mean = w @ m
    scale = np.sqrt(w @ (s**2 + m**2) - mean**2)

    def density(x):
        return scale * sum(stats.norm.pdf(mean + scale * x, m, s) * w)

    x = np.linspace(-2.5, 2.5, 21)
    np.testing.assert_allclose(np.exp(law.log_pdf(x)), [density(v) for v in x], rtol=1e-12)
    exact = [w @ stats.norm.cdf(mean + scale * v, m, s) for v in x]
    np.testing.assert_allclose(law.cdf(x), exact, rtol=1e-12)
    slope = (law.log_pdf(x + 1e-6) - law.log_pdf(x - 1e-6)) / 2e-6
    np.testing.assert_allclose(law.score(x), slope, atol=1e-7)  # central difference: 1e-16/1e-6
    for value in (-1.0, 0.0, 1.2):
        exact, error = quad(lambda v: v * density(v), -12.0, value, epsabs=1e-12, limit=200)
        assert law.partial_mean(np.array(value)) == pytest.approx(exact, abs=1e-10 + error)
    third, fourth = (w @ stats.norm.moment(k, m - mean, s) / scale**k for k in (3, 4))
    np.testing.assert_allclose(cumulants(law, 4), [0.0, 1.0, third, fourth - 3.0], atol=1e-12)
    u = np.linspace(0.0005, 0.9995, 41)
    np.testing.assert_allclose(law.cdf(law.icdf(u)), u, atol=1e-12)


def test_any_unit_makes_the_same_law_and_standardised_numbers_are_kept(tmp_path):
    law = Mixture(*THREE)
    w, m, s = (np.array(v) for v in THREE)
    other = Mixture(5.0 * w, 1e-3 * m - 7.0, 1e-3 * s)
    np.testing.assert_allclose(other.components, law.components, rtol=1e-10)  # −7 + 0.01: cancels
    assert Mixture(*law.components) == law
    far = Mixture(w, m + 1e6, s)
    assert Mixture(*far.components) == far
    save_law(tmp_path / "law.json", law)
    assert load_law(tmp_path / "law.json")[0] == law
    assert json.loads((tmp_path / "law.json").read_text())["law"]["family"] == "Mixture"


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (((0.5, 0.5), (0.0,), (1.0, 1.0)), "equally long"),
        (((), (), ()), "equally long"),
        (((0.5, np.nan), (0.0, 1.0), (1.0, 1.0)), "expected finite"),
        (((1.0, 1e-4), (0.0, 1.0), (1.0, 1.0)), "weights of at least"),
        (((0.5, 0.5), (0.0, 1.0), (1.0, 0.0)), "deviations above 0"),
        (((0.5, 0.5), (0.0, 1.0), (1.0, 1e-5)), "of the whole"),
    ],
)
def test_bad_numbers_are_refused(numbers, words):
    with pytest.raises(InputError, match=words):
        Mixture(*numbers)
