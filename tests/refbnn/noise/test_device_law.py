from functools import cache

import mpmath as mp
import numpy as np
import pytest

from refbnn.errors import InputError
from refbnn.noise import DeviceLaw, Gaussian
from tests.helpers.exact_laws import ExactLaw

LAWS = {
    "uniform": DeviceLaw(0.0, 0.0),
    "bimodal": DeviceLaw(0.0, 0.0, (0.3, 1.5)),
    "nearly empty middle": DeviceLaw(0.0, 0.0, (0.1, 15.0)),
    "arcsine": DeviceLaw(-0.5, -0.5),
    "singular and vanishing": DeviceLaw(-0.7, 3.0, (1.0, -0.5, 0.2)),
    "vanishing": DeviceLaw(5.0, 12.0),
    "a singularity without mass": DeviceLaw(-0.9, 5.0, (8.0,)),
    "nearly Gaussian": DeviceLaw(0.0, 0.0, (0.0, -30.0)),
    "narrow": DeviceLaw(0.0, 0.0, (0.0, -300.0)),
    "high degree": DeviceLaw(0.5, -0.5, (3.0, -5.0, 2.0, 8.0, -4.0, 15.0)),
    "all at one edge": DeviceLaw(40.0, -0.9, (0.0, 2.0)),
}
SHARP = "a singularity without mass"
BY_NAME = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
exact_law = cache(ExactLaw)  # its integrals serve several tests, all in these digits:


@pytest.fixture(autouse=True)
def thirty_digits():
    with mp.workdps(22):
        yield


def accuracy(law):
    """Relative error, as stated in refbnn.noise.families.device."""
    return 1e-12 if law is LAWS[SHARP] else 1e-13


@BY_NAME
def test_standardised_mean_variance_and_density(law):
    exact = exact_law(law)
    m, s = law.location
    exact_m, exact_s = exact.location
    assert m == pytest.approx(float(exact_m), rel=accuracy(law), abs=1e-14)
    assert s == pytest.approx(float(exact_s), rel=accuracy(law))
    low, high = law.support
    x = np.linspace(low, high, 7)[1:-1]
    for value, log_pdf in zip(x, law.log_pdf(x), strict=True):
        y = mp.mpf(m + s * value)
        want = float(exact.log_density(1 + y, 1 - y) + mp.log(exact_s))
        assert log_pdf == pytest.approx(want, rel=1e-13, abs=1e-12)


@BY_NAME
def test_cdf_against_integrated_density(law):
    exact = exact_law(law)
    m, s = law.location
    for y in (-0.999, -0.6, -0.01, 0.01, 0.6, 0.999):
        # Absolute: rounding of y itself moves Q by q(y)·2⁻⁵³.
        got = float(law.cdf((y - m) / s))
        assert got == pytest.approx(float(exact.cdf(y)), abs=accuracy(law))


@BY_NAME
def test_entropy_against_its_integral(law):
    assert law.entropy == pytest.approx(float(exact_law(law).entropy()), rel=1e-12)


@BY_NAME
def test_inverse_cdf_error_order_and_ends(law):
    tails = 10.0 ** np.arange(-300, -3, 3)
    u = np.unique(np.concatenate([[0.0, 1.0], np.linspace(0, 1, 3001), tails, 1.0 - tails]))
    x = law.icdf(u)
    low, high = law.support
    assert x[0] >= low
    assert x[-1] <= high
    assert np.isfinite(x).all()
    assert (np.diff(x) >= 0.0).all()
    # A float x near a singular edge stands for an interval of x whose probability is this:
    spacing = law.cdf(np.nextafter(x, high)) - law.cdf(np.nextafter(x, low))
    assert (np.abs(law.cdf(x) - u) <= 1e-12 + spacing).all()


def test_inverse_cdf_keeps_relative_accuracy_at_a_singular_edge():
    """Arcsine: G(u) = −√2 cos(πu), so the distance to the edge is 2√2 sin²(πu/2)."""
    law = LAWS["arcsine"]
    u = np.array([1e-6, 1e-4, 1e-3, 0.3])
    got = law.icdf(u) - law.support[0]
    # Absolute 1e-15: the subtraction above rounds at the size of the edge itself.
    np.testing.assert_allclose(got, 2 * np.sqrt(2) * np.sin(np.pi * u / 2) ** 2, 1e-12, 1e-15)


@BY_NAME
def test_score_is_the_slope_of_log_pdf(law):
    low, high = law.support
    x = np.linspace(low, high, 9)[1:-1]
    h = 1e-5 * (high - low)
    slope = (law.log_pdf(x + h) - law.log_pdf(x - h)) / (2 * h)
    # Central differences: truncation h²/6 times the third derivative, about 1e-6 relative here.
    np.testing.assert_allclose(law.score(x), slope, rtol=1e-5, atol=1e-5)


def test_samples_stay_inside_and_depend_on_the_generator_alone():
    law = LAWS["singular and vanishing"]
    first = law.sample(np.random.default_rng(3), (4, 1000))
    assert first.shape == (4, 1000)
    np.testing.assert_array_equal(first, law.sample(np.random.default_rng(3), (4, 1000)))
    assert law.support[0] <= first.min() < first.max() <= law.support[1]


def test_outside_the_support():
    law = LAWS["bimodal"]
    np.testing.assert_array_equal(law.log_pdf(np.array([-9.0, 9.0])), -np.inf)
    np.testing.assert_array_equal(law.cdf(np.array([-9.0, 9.0])), [0.0, 1.0])


@pytest.mark.parametrize("u", [[-1e-9], [1.0000001], [np.nan]])
def test_bad_probabilities_are_refused(u):
    with pytest.raises(InputError, match="outside"):
        LAWS["uniform"].icdf(np.array(u))


def test_density_at_a_singular_edge_is_a_number():
    law = LAWS["arcsine"]
    assert np.isfinite(law.log_pdf(np.array(law.support))).all()


@pytest.mark.parametrize(
    "parameters",
    [
        (-0.99, 0.0),
        (0.0, 500.0),
        (0.0, np.nan),
        (0.0, 0.0, (np.inf,)),
        (0.0, 0.0, (0.0, 1e6)),
        (0.0, 0.0, (1e6,)),
    ],
)
def test_bad_parameters_are_refused(parameters):
    with pytest.raises(InputError, match="DeviceLaw"):
        DeviceLaw(*parameters)


def test_gaussian_law():
    law = Gaussian()
    x = np.linspace(-6, 6, 25)
    np.testing.assert_allclose(law.icdf(law.cdf(x)), x, rtol=1e-8)  # Q loses digits near 1
    want = [float(mp.log(mp.npdf(v))) for v in x]
    np.testing.assert_allclose(law.log_pdf(x), want, rtol=1e-14)
    np.testing.assert_array_equal(law.score(x), -x)
    assert law.entropy == pytest.approx(1.4189385332046727)  # ½ log(2πe)
