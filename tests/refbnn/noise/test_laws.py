"""Every law against its definition in mpmath, and against closed forms that share no code."""

from collections.abc import Callable
from copy import copy
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from scipy import stats

from refbnn.errors import InputError
from refbnn.noise import (
    Bimodal,
    DensityLaw,
    DeviceLaw,
    Gaussian,
    HeavyTailed,
    Law,
    Mixture,
    cumulants,
)
from refbnn.noise.word_table import exact, word_table


def triangle(x):
    return 1.0 - np.abs(x)


LAWS = {
    "Gaussian": Gaussian(),
    "two peaks": Bimodal(),
    "far peaks": Bimodal(0.999),
    "asymmetric": Bimodal(0.6, 0.2, 3.0),
    "contaminated": Bimodal(0.0, 0.9, 5.0),
    "spike far from a broad peak": Bimodal(0.99, 0.1, 30.0),
    "spike in a broad peak": Bimodal(0.5, 0.5, 1000.0),
    "heavy": HeavyTailed(0.7),
    "heavy and skewed": HeavyTailed(0.95, 0.6),
    "one heavy side": HeavyTailed(0.995, -0.99),
    "barely heavy": HeavyTailed(0.01, 0.005),
    "triangle": DensityLaw.of(triangle, -1.0, 1.0),
    "arcsine by density": DensityLaw.of(
        lambda x: 1.0 / np.sqrt((x - 2.0) * (5.0 - x)), 2.0, 5.0, exponents=(-0.5, -0.5)
    ),
    "bounded": DeviceLaw(-0.7, 3.0, (1.0, -0.5, 0.2)),
}
BY_NAME = pytest.mark.parametrize("name", LAWS)


def exact_density(name):
    """The standardised density in mpmath, from the definition, and points that split integrals."""
    law = LAWS[name]
    if isinstance(law, Gaussian):
        return mp.npdf, [-20, -10, -5, 0, 5, 10, 20]
    if isinstance(law, Bimodal):
        d, w, r = mp.mpf(law.separation), mp.mpf(law.weight), mp.mpf(law.ratio)
        # Unstandardised components 0 and 1, scaled by the moments that they turn out to have.
        mu = [-d * mp.sqrt((1 - w) / w), d * mp.sqrt(w / (1 - w))]
        s_1 = mp.sqrt((1 - d**2) / (w + (1 - w) * r**2))
        sd = [s_1, r * s_1]

        def mixture(z):
            return w * mp.npdf(z, mu[0], sd[0]) + (1 - w) * mp.npdf(z, mu[1], sd[1])

        points = sorted(
            m + k * s for m, s in zip(mu, sd, strict=True) for k in (-20, -6, -2, 2, 6, 20)
        )
        return mixture, points
    if isinstance(law, HeavyTailed):
        xi, chi = mp.mpf(law.steepness), mp.mpf(law.asymmetry)
        zeta, rho = 1 / xi**2 - 1, chi / xi
        # Textbook form with δ = 1, µ = 0, γ = ζ, then scaled to variance α²/γ³ and mean β/γ.
        gamma = zeta
        alpha = gamma / mp.sqrt(1 - rho**2)
        beta = rho * alpha
        mean, sd = beta / gamma, mp.sqrt(alpha**2 / gamma**3)

        def inverse_gaussian(z):
            y = mean + sd * z
            r = mp.sqrt(1 + y**2)
            return sd * alpha / mp.pi * mp.besselk(1, alpha * r) / r * mp.exp(gamma + beta * y)

        scale = 1 / (sd * (alpha - abs(beta)))  # of the longer tail
        centre, core = -mean / sd, 1 / sd
        core_sides = [core * k for k in (0, 0.3, 1, 3, 10)]
        tail_sides = [mp.mpf(k) for k in (0, 0.5, 2, 4, 7, 12)]
        tail_sides += [scale * k for k in (1, 5, 15, 40, 100)]
        points = [sign * t for sign in (-1, 1) for t in tail_sides]
        if core < 1:
            points += [centre + sign * t for sign in (-1, 1) for t in core_sides]
        return inverse_gaussian, sorted(points)
    raise AssertionError(name)


SMOOTH = [name for name in LAWS if isinstance(LAWS[name], Gaussian | Bimodal | HeavyTailed)]


@pytest.mark.parametrize("name", SMOOTH)
def test_density_mass_and_entropy_against_mpmath(name):
    law = LAWS[name]
    with mp.workdps(24):
        density, points = exact_density(name)
        for x in law.reach[0] * np.array([0.9, 0.1]), law.reach[1] * np.array([0.01, 0.2, 0.7]):
            want = [float(mp.log(density(mp.mpf(v)))) for v in x]
            np.testing.assert_allclose(law.log_pdf(x), want, rtol=2e-13, atol=1e-13)

        # Gauss–Legendre nodes between points close enough for the definition's features: one
        # evaluation of the density serves all integrals. Bessel functions take a millisecond each.
        cuts = [-0.6, 0.05, 1.1]
        breaks = np.unique(np.array([float(p) for p in points] + cuts))
        x, w = np.polynomial.legendre.leggauss(24 if isinstance(law, HeavyTailed) else 40)
        half = 0.5 * np.diff(breaks)[:, np.newaxis]
        z = breaks[:-1, np.newaxis] + half * (1.0 + x)
        q = np.array([[float(density(mp.mpf(v))) for v in row] for row in z])
    mass = half * w * q
    assert mass.sum() == pytest.approx(1.0, abs=1e-14)
    log_q = np.log(q, where=q > 0.0, out=np.zeros_like(q))
    assert law.entropy == pytest.approx(-np.sum(mass * log_q), abs=1e-13)
    for cut in cuts:
        below = breaks[1:] <= cut
        assert float(law.cdf(np.array(cut))) == pytest.approx(mass[below].sum(), abs=1e-14)
        got = float(law.partial_mean(np.array(cut)))
        assert got == pytest.approx(np.sum(mass[below] * z[below]), abs=1e-14)


def test_heavy_tails_against_scipy():
    law = HeavyTailed(0.95, 0.6)
    alpha, beta, _, delta, mu = law.parameters
    peer = stats.norminvgauss(alpha * delta, beta * delta, loc=mu, scale=delta)
    x = np.linspace(-20.0, 80.0, 41)
    np.testing.assert_allclose(law.log_pdf(x), peer.logpdf(x), rtol=1e-10)
    mean, variance, skewness, kurtosis = (float(m) for m in peer.stats("mvsk"))
    assert [mean, variance] == pytest.approx([0.0, 1.0], abs=1e-12)
    assert cumulants(law)[2:4] == pytest.approx([skewness, kurtosis], rel=1e-12)


def heavy_moments(law, order):
    """E[z^k] from the cumulant generating function's series, exact arithmetic but for digits.

    S(t) = √(γ² − 2βt − t²) by S·S = polynomial, coefficient by coefficient; moments from
    exp(cumulants) by the derivative recursion M_n = Σ C(n−1, k−1) κ_k M_{n−k}.
    """
    xi, chi = mp.mpf(law.steepness), mp.mpf(law.asymmetry)
    zeta, rho = 1 / xi**2 - 1, chi / xi
    gamma, delta = mp.sqrt(zeta / (1 - rho**2)), mp.sqrt(zeta * (1 - rho**2))
    beta = rho * gamma / mp.sqrt(1 - rho**2)
    polynomial = [gamma**2, -2 * beta, mp.mpf(-1)] + [mp.mpf(0)] * order
    root = [gamma]
    for n in range(1, order + 1):
        crossed = sum(root[k] * root[n - k] for k in range(1, n))
        root.append((polynomial[n] - crossed) / (2 * gamma))
    kappa = [-delta * root[n] * mp.factorial(n) for n in range(order + 1)]
    kappa[1] += -delta * beta / gamma
    moments = [mp.mpf(1)]
    for n in range(1, order + 1):
        moments.append(
            sum(mp.binomial(n - 1, k - 1) * kappa[k] * moments[n - k] for k in range(1, n + 1))
        )
    return moments, kappa


def normal_moments(mu, s, order):
    """E[(µ + s z)^k]: M_n = µ M_{n−1} + (n − 1) s² M_{n−2}."""
    moments = [mp.mpf(1), mp.mpf(mu)]
    for n in range(2, order + 1):
        moments.append(mu * moments[-1] + (n - 1) * s**2 * moments[-2])
    return moments


def exact_moments(name, order):
    law = LAWS[name]
    if isinstance(law, Gaussian):
        return normal_moments(mp.mpf(0), mp.mpf(1), order)
    if isinstance(law, Bimodal):
        d, w, r = mp.mpf(law.separation), mp.mpf(law.weight), mp.mpf(law.ratio)
        s = mp.sqrt((1 - d**2) / (w + (1 - w) * r**2))
        lower = normal_moments(-d * mp.sqrt((1 - w) / w), s, order)
        upper = normal_moments(d * mp.sqrt(w / (1 - w)), r * s, order)
        return [w * a + (1 - w) * b for a, b in zip(lower, upper, strict=True)]
    if isinstance(law, HeavyTailed):
        return heavy_moments(law, order)[0]
    if name == "triangle":  # E[x^k] = 2/((k + 1)(k + 2)) for even k; variance 1/6
        return [
            mp.sqrt(6) ** k * mp.mpf(2) / ((k + 1) * (k + 2)) if k % 2 == 0 else mp.mpf(0)
            for k in range(order + 1)
        ]
    if name == "arcsine by density":  # E[x^2k] = C(2k, k)/4^k on [−1, 1]; variance ½
        return [
            mp.sqrt(2) ** k * mp.binomial(k, k / 2) / mp.mpf(2) ** k if k % 2 == 0 else mp.mpf(0)
            for k in range(order + 1)
        ]
    raise AssertionError(name)


WITH_MOMENTS = [
    name for name in LAWS if name != "bounded"
]  # which tests/refbnn/numerics/test_quadrature.py has


@pytest.mark.parametrize("name", WITH_MOMENTS)
@pytest.mark.parametrize("n", [3, 16, 64])
def test_gauss_rule_integrates_monomials_exactly(name, n):
    rule = LAWS[name].quadrature(n)
    with mp.workdps(60):
        moments = exact_moments(name, 2 * n)
        for k in range(2 * n):
            # Summed in mpmath: what is tested are nodes and weights. Odd moments vanish by
            # symmetry; relative to the neighbours' geometric mean, which bounds E|z|^k.
            got = mp.fsum(
                mp.mpf(w) * mp.mpf(x) ** k for x, w in zip(rule.nodes, rule.weights, strict=True)
            )
            size = abs(moments[k]) if k % 2 == 0 else mp.sqrt(moments[k - 1] * moments[k + 1])
            assert abs(got - moments[k]) <= 1e-13 * size, k


@pytest.mark.parametrize("name", WITH_MOMENTS)
def test_cumulants_to_order_six(name):
    with mp.workdps(40):
        m = [float(v) for v in exact_moments(name, 6)]
    # Central moments to cumulants, mean 0 and variance 1 (Kendall & Stuart, section 3.14).
    want = [
        0.0,
        1.0,
        m[3],
        m[4] - 3.0,
        m[5] - 10.0 * m[3],
        m[6] - 15.0 * m[4] - 10.0 * m[3] ** 2 + 30.0,
    ]
    scale = max(1.0, m[6])
    assert cumulants(LAWS[name]) == pytest.approx(want, rel=1e-12, abs=1e-13 * scale)


def test_cumulants_of_the_heavy_law_in_closed_form():
    law = HeavyTailed(0.95, 0.6)
    with mp.workdps(30):
        kappa = [float(k) for k in heavy_moments(law, 6)[1][1:]]
    assert cumulants(law) == pytest.approx(kappa, rel=1e-12, abs=1e-13)
    rho, zeta = law.asymmetry / law.steepness, 1.0 / law.steepness**2 - 1.0
    assert kappa[2] == pytest.approx(3.0 * rho / np.sqrt(zeta))
    assert kappa[3] == pytest.approx(3.0 * (1.0 + 4.0 * rho**2) / zeta)


PROBABILITIES = np.unique(
    np.concatenate(
        [
            np.linspace(0.0, 1.0, 5001)[1:-1],
            10.0 ** np.arange(-280.0, -3.0, 0.5),
            1.0 - 10.0 ** np.arange(-16.0, -3.0, 0.25),
            np.nextafter(2.0**-10, [0.0, 1.0]),
            np.nextafter(1.0 - 2.0**-10, [0.0, 1.0]),
            np.nextafter(0.5, [0.0, 1.0]),
        ]
    )
)


@BY_NAME
def test_inverse_has_a_small_u_error_and_never_falls(name):
    law = LAWS[name]
    x = law.inverse(PROBABILITIES)
    # A float x near a singular edge stands for an interval of x with this probability.
    spacing = law.cdf(np.nextafter(x, np.inf)) - law.cdf(np.nextafter(x, -np.inf))
    assert (np.abs(law.cdf(x) - PROBABILITIES) <= 1e-12 + spacing).all()
    assert (np.diff(x) >= -1e-15 * np.abs(x).max()).all()


@BY_NAME
def test_inverse_meets_at_its_breaks(name):
    """Next to every break, and at the points of fresh samples, neighbours keep their order."""
    law = LAWS[name]
    breaks = law.inverse.bulk.breaks
    u = np.sort(np.concatenate([np.nextafter(breaks, 0.0), breaks, np.nextafter(breaks, 1.0)]))
    x = law.inverse(u)
    assert (np.diff(x) >= -1e-15 * np.abs(x).max()).all()
    u = np.sort(np.random.default_rng(5).random(200_000))
    x = law.inverse(u)
    assert (np.diff(x) >= -1e-15 * np.abs(x).max()).all()


@BY_NAME
def test_the_loop_and_the_vectorised_form_of_the_inverse_agree(name):
    bulk = LAWS[name].inverse.bulk
    u = np.random.default_rng(3).uniform(2.0**-10, 1.0 - 2.0**-10, 20_000)
    # The loop fuses multiplications and additions: rounding of twelve steps.
    np.testing.assert_allclose(LAWS[name].inverse(u), bulk(u), atol=2e-14)


@BY_NAME
def test_relative_accuracy_of_open_tails(name):
    law = LAWS[name]
    if law.bounded:
        assert law.icdf(np.array([0.0, 1.0])) == pytest.approx(law.support, rel=1e-15)
        return
    u = 10.0 ** np.arange(-280.0, -3.0, 3.0)
    x = law.inverse(u)
    # Tail probabilities to 1e-11: log q₀ carries up to 690 times rounding.
    np.testing.assert_allclose(law.cdf(x), u, rtol=1e-11)
    np.testing.assert_array_equal(law.icdf(np.array([0.0, 1.0])), [-np.inf, np.inf])


@BY_NAME
def test_single_precision_inverse(name):
    """Within 3e-7 of the range of x, given that u itself is known to half a unit of float32."""
    law = LAWS[name]
    u = np.random.default_rng(2).random(100_000, dtype=np.float32)
    u = np.sort(np.clip(u, 2.0**-24, 1.0 - 2.0**-24).astype(np.float32))
    x = law.inverse.single(u)
    assert x.dtype == np.float32
    exact = u.astype(float)
    half_unit = 0.5 * np.spacing(u).astype(float)
    low, high = law.inverse(exact - half_unit), law.inverse(exact + half_unit)
    span = high[-1] - low[0] if not law.bounded else np.diff(law.support)[0]
    outside = np.maximum(low - x, x - high)
    assert outside.max() <= 3e-7 * span


def test_gaussian_inverse_against_scipy():
    u = PROBABILITIES
    np.testing.assert_allclose(Gaussian().inverse(u), stats.norm.ppf(u), rtol=1e-11, atol=1e-12)


@BY_NAME
def test_samples_pass_a_test_against_the_law(name):
    law = LAWS[name]
    x = law.sample(np.random.default_rng(8), (20_000,))
    assert np.isfinite(x).all()
    assert stats.kstest(x, law.cdf).pvalue > 1e-4


@BY_NAME
def test_score_is_the_slope_of_log_pdf(name):
    law = LAWS[name]
    low, high = np.clip(law.support, -3.0, 3.0)
    x = np.linspace(low, high, 12)[1:-1] + 0.01
    h = 1e-5
    slope = (law.log_pdf(x + h) - law.log_pdf(x - h)) / (2.0 * h)
    # Truncation h²/6 times a third derivative of up to 1e4 next to an edge.
    np.testing.assert_allclose(law.score(x), slope, rtol=1e-5, atol=1e-5)


@BY_NAME
@pytest.mark.parametrize("count", [1, 7, 200])
def test_rules_between_breaks_add_up(name, count):
    law = LAWS[name]
    low, high = law.reach if law.bounded else 5.0 * np.array(law.reach)  # high moments live far out
    breaks = np.linspace(low - 0.3, high + 0.2, count + 1)  # partly outside
    nodes, weights = law.rules_between(breaks, 8)
    assert nodes.shape == weights.shape == (count, 8)
    assert (weights >= 0.0).all()
    whole = law.quadrature(8)
    for k in range(16):
        scale = max(1.0, whole.expect(np.abs(whole.nodes) ** k))
        assert np.sum(weights * nodes**k) == pytest.approx(
            whole.expect(whole.nodes**k), abs=1e-12 * scale
        )
    cdf, mean = np.diff(law.cdf(breaks)), np.diff(law.partial_mean(breaks))
    np.testing.assert_allclose(weights.sum(axis=1), cdf, atol=1e-14)
    # Nodes round at the size of their interval.
    np.testing.assert_allclose(
        (weights * nodes).sum(axis=1), mean, atol=1e-14 + 1e-15 * np.ptp(breaks) / count
    )


def test_reach_holds_all_but_a_trace():
    for law in LAWS.values():
        low, high = law.reach
        assert law.cdf(np.array(low)) <= 2e-20
        assert law.icdf(np.array(1e-16)) >= low
        assert law.icdf(np.array(1.0 - 1e-15)) <= high


def test_a_law_by_density_equals_the_law_itself():
    device = DeviceLaw(-0.5, 2.0, (0.4, -0.3))

    def density(y):
        return (1 + y) ** -0.5 * (1 - y) ** 2.0 * np.exp(0.4 * y - 0.3 * (2 * y**2 - 1))

    law = DensityLaw.of(density, -1.0, 1.0, exponents=(-0.5, 2.0))
    assert law.ends[0] + law.location[0] == pytest.approx(device.location[0], rel=1e-12)
    assert law.location[1] == pytest.approx(device.location[1], rel=1e-12)
    x = np.linspace(*device.support, 31)[1:-1]
    np.testing.assert_allclose(law.log_pdf(x), device.log_pdf(x), atol=1e-11)
    np.testing.assert_allclose(law.cdf(x), device.cdf(x), atol=1e-13)
    assert law.entropy == pytest.approx(device.entropy, abs=1e-12)


def test_entropy_where_the_density_vanishes_at_an_end():
    """Triangle: −∫ q log q = ½ on [−1, 1], and log √6 more for z = √6 x."""
    for exponents in ((0.0, 0.0), (1.0, 1.0)):
        law = DensityLaw.of(triangle, -1.0, 1.0, exponents=exponents)
        assert law.entropy == pytest.approx(0.5 + 0.5 * np.log(6.0), abs=1e-13)


def test_a_jump_inside_the_interval():
    law = DensityLaw.of(lambda x: np.where(x > 0.3, 1.0, 0.0), 0.0, 1.0)
    assert law.location[0] == pytest.approx(0.65, abs=1e-14)  # the interval begins at 0
    assert law.location[1] == pytest.approx(0.7 / np.sqrt(12.0), abs=1e-14)
    u = np.linspace(0.0005, 0.9995, 999)
    x = law.location[0] + law.location[1] * law.icdf(u)
    np.testing.assert_allclose(x, 0.3 + 0.7 * u, atol=1e-12)


CORNERS: list[Law] = [
    *(
        Bimodal(d, w, r)
        for d in (0.0, 0.5, 0.999)
        for w in (0.001, 0.999)
        for r in (0.001, 1.0, 1000.0)
    ),
    *(HeavyTailed(xi, share * xi) for xi in (0.01, 0.5, 0.995) for share in (-0.999, 0.0, 0.999)),
    *(DeviceLaw(a, b) for a in (-0.95, 0.0, 100.0) for b in (-0.95, 0.0, 100.0)),
    DeviceLaw(-0.95, -0.95, (100.0,)),
    DeviceLaw(3.0, -0.9, (-3.0, 15.0)),
    DeviceLaw(-0.9, -0.95, (15.0, 1.0, 1.0, 15.0, -3.0, 15.0)),
    DeviceLaw(0.0, 0.0, (1000.0,)),
    Mixture((0.001, 0.998, 0.001), (-50.0, 0.0, 50.0), (0.1, 1.0, 0.2)),
]


@pytest.mark.parametrize("law", CORNERS, ids=str)
def test_laws_at_the_corners_of_their_ranges_are_whole(law):
    """Mean 0 and variance 1 by the rule, probability and mean by both ends, and the inverse."""
    rule = law.quadrature(8)
    # Places round at 2⁻⁵³ of the reach, and a spike's components at that of its ratio of widths.
    allowed = 2e-11
    assert rule.expect(rule.nodes) == pytest.approx(0.0, abs=allowed)
    assert rule.expect(rule.nodes**2) == pytest.approx(1.0, abs=allowed)
    _, high = law.reach
    assert law.cdf(np.array(high)) == pytest.approx(1.0, abs=1e-13)
    assert law.partial_mean(np.array(high)) == pytest.approx(0.0, abs=1e-12)
    assert np.isfinite(law.entropy)
    u = np.linspace(1e-6, 1.0 - 1e-6, 2001)
    x = law.icdf(u)
    assert (np.diff(x) >= -1e-15 * np.abs(x).max()).all()
    spacing = law.cdf(np.nextafter(x, np.inf)) - law.cdf(np.nextafter(x, -np.inf))
    assert (np.abs(law.cdf(x) - u) <= 1e-12 + spacing).all()


def test_an_interval_far_from_zero_loses_nothing():
    law = DensityLaw.of(np.ones_like, 1e12, 1e12 + 1.0)
    assert law.support == pytest.approx((-np.sqrt(3.0), np.sqrt(3.0)), rel=1e-14)
    assert law.score(np.array([0.1, 0.2])) == pytest.approx([0.0, 0.0], abs=1e-12)


def test_series_that_are_negative_are_no_density():
    zeros = (0.0,) * 23
    for lower in ((-1.0, *zeros), (1.0, 3.0, *zeros[1:])):
        with pytest.raises(InputError, match="negative"):
            DensityLaw((0, 1), 0, 0, ((0, 0.5), (0, 0.5)), ((lower,), ((2.0, *zeros),)))


def test_densities_at_infinity_are_zero():
    ends = np.array([-np.inf, np.inf])
    for law in (Gaussian(), Bimodal(), HeavyTailed(0.9, 0.3), LAWS["bounded"]):
        np.testing.assert_array_equal(law.log_pdf(ends), -np.inf)


@pytest.mark.parametrize(
    ("density", "words"),
    [
        (lambda x: 1.0 / x, "not resolved"),  # the integral diverges
        (lambda x: 1.0 / np.sqrt(x), "not resolved"),  # a singularity that no exponent names
        (lambda x: np.sin(9.0 * x), "expected a finite number of at least 0"),
        (lambda x: np.where(x > 0.5, np.nan, 1.0), "expected a finite number"),
        (lambda x: np.where(x > 0.5, np.inf, 1.0), "expected a finite number"),
        (lambda x: 0.0 * x, "the density is 0"),
        (lambda x: np.ones(3), "expected the same"),
        (lambda x: 1.0 / np.abs(x - 0.3), "not resolved"),
    ],
)
def test_densities_that_do_not_integrate_are_refused(density, words):
    with pytest.raises(InputError, match=words):
        DensityLaw.of(density, 0.0, 1.0)


@pytest.mark.parametrize(
    ("low", "high", "exponents"),
    [(1.0, 0.0, (0, 0)), (0.0, np.inf, (0, 0)), (0.0, np.nan, (0, 0)), (0.0, 1.0, (-1.0, 0))],
)
def test_bad_intervals_are_refused(low, high, exponents):
    with pytest.raises(InputError, match="DensityLaw"):
        DensityLaw.of(np.ones_like, low, high, exponents=exponents)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Bimodal(1.0),
        lambda: Bimodal(-0.1),
        lambda: Bimodal(0.5, 0.0),
        lambda: Bimodal(0.5, 0.5, np.nan),
        lambda: HeavyTailed(1.0),
        lambda: HeavyTailed(0.0),
        lambda: HeavyTailed(0.5, 0.5),
        lambda: HeavyTailed(0.5, np.nan),
        lambda: Gaussian().quadrature(0),
        lambda: Gaussian().quadrature(2.5),  # type: ignore[arg-type]
        lambda: Gaussian().rules_between(np.array([0.0, 0.0]), 3),
        lambda: Gaussian().rules_between(np.array([0.0, np.inf]), 3),
        lambda: Mixture((1e308, 1e308), (0.0, 1.0), (1.0, 1.0)),
        lambda: Mixture((1.0, 2000.0), (0.0, 1.0), (1.0, 1.0)),
        lambda: HeavyTailed().quadrature(65),
        lambda: Gaussian().icdf(np.array(2.0)),
    ],
)
def test_bad_parameters_are_refused(make):
    with pytest.raises(InputError, match="expected"):
        make()


def test_laws_are_plain_data_that_compare_and_hash():
    assert HeavyTailed(np.float64(0.5)) == HeavyTailed(0.5)
    assert len({Bimodal(), Bimodal(0.9), LAWS["triangle"], Gaussian()}) == 3
    assert repr(Bimodal()) == "Bimodal(separation=0.9, weight=0.5, ratio=1.0)"
    law = DeviceLaw(np.int64(0), 1, [2])  # type: ignore[arg-type]
    assert repr(law) == "DeviceLaw(alpha=0.0, beta=1.0, coefficients=(2.0,))"


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_a_law_prints_in_one_line(law):
    shown = repr(law)
    assert shown.startswith(type(law).__name__)
    assert "\n" not in shown
    assert len(shown) < 160


def test_records_of_arrays_compare_by_identity():
    law = Gaussian()
    for record in (law.inverse, law.inverse.bulk, law.quadrature(3), word_table(law)):
        assert record == record
        assert record != copy(record)


@pytest.mark.parametrize("words", [[-1], [2**32], [1.5], [float("nan")], [2**64 - 1]])
def test_words_beyond_32_bits_are_refused(words):
    law = Gaussian()
    functions: list[Callable[[Any], np.ndarray]] = [
        word_table(law),
        lambda words: exact(law, words),
    ]
    for function in functions:
        with pytest.raises(InputError, match=r"expected whole numbers from 0 to 2\^32 - 1"):
            function(words)
        np.testing.assert_array_equal(function([0, 2.0**32 - 1]), function([0, 2**32 - 1]))
