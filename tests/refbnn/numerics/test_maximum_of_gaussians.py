import numpy as np
import pytest
from scipy import integrate, stats

from refbnn.numerics import correlated_maximum, gaussian_maximum

RNG = np.random.default_rng(11)


@pytest.mark.parametrize("k", [2, 3, 4, 5, 9])
def test_without_covariance_it_is_the_tree(k):
    mean, var = RNG.standard_normal((20, k)), RNG.uniform(0.1, 2.0, (20, k))
    got = correlated_maximum.maximum(mean, var[..., np.newaxis] * np.eye(k))
    wanted = gaussian_maximum.tree(mean, var)
    np.testing.assert_allclose(got[0], wanted[0], rtol=1e-13)
    np.testing.assert_allclose(got[1], wanted[1], rtol=1e-13)
    np.testing.assert_allclose(got[2].sum(axis=-1), 1.0, rtol=1e-14)


@pytest.mark.parametrize("rho", [-0.95, -0.3, 0.5, 0.999])
def test_maximum_of_two_against_integration(rho):
    m, s = np.array([0.3, -0.4]), np.array([0.8, 1.7])
    c = rho * s[0] * s[1]
    cov = np.array([[s[0] ** 2, c], [c, s[1] ** 2]])

    # Density of the maximum at t: entry i is t and the other below, given that.
    def density(t):
        total = 0.0
        for i, j in ((0, 1), (1, 0)):
            centre = m[j] + c / s[i] ** 2 * (t - m[i])
            spread = s[j] * np.sqrt(1 - rho**2)
            total += stats.norm.pdf(t, m[i], s[i]) * stats.norm.cdf(t, centre, spread)
        return total

    def moment(f):
        return integrate.quad(lambda t: f(t) * density(t), -15, 15, limit=500, epsabs=1e-12)[0]

    mean, var, weights = correlated_maximum.maximum(m, cov)
    assert mean == pytest.approx(moment(lambda t: t), abs=1e-10)
    assert var == pytest.approx(moment(lambda t: (t - mean) ** 2), abs=1e-9)
    difference = np.sqrt(s[0] ** 2 + s[1] ** 2 - 2 * c)
    assert weights[0] == pytest.approx(stats.norm.cdf((m[0] - m[1]) / difference), rel=1e-12)


def test_covariance_with_a_third_and_weights_against_draws():
    sd = np.array([0.9, 1.0, 1.2, 0.8])
    cov = (0.3 * np.eye(4) + 0.7) * np.outer(sd, sd)
    mean, n = np.array([0.2, 0.0, -0.3, 0.4]), 400_000
    draws = RNG.multivariate_normal(mean, cov, n)
    greatest = draws.max(axis=1)
    got = correlated_maximum.maximum(mean, cov)
    # Clark's closure at ρ = 0.7 beside a standard error of 0.002.
    assert got[0] == pytest.approx(greatest.mean(), abs=0.02 * greatest.std())
    assert got[1] == pytest.approx(greatest.var(), rel=0.03)
    shares = np.bincount(draws.argmax(axis=1), minlength=4) / n
    np.testing.assert_allclose(got[2], shares, atol=0.02)


def test_ties_absent_entries_and_no_spread():
    cov = np.array([[1.0, 1.0], [1.0, 1.0]])  # the same variable twice
    mean, var, weights = correlated_maximum.maximum(np.zeros(2), cov)
    assert (mean.item(), var.item(), weights.tolist()) == (0.0, 1.0, [1.0, 0.0])
    mean, var, weights = correlated_maximum.maximum(np.array([-np.inf, 0.5]), np.diag([0.0, 2.0]))
    assert (mean.item(), var.item(), weights.tolist()) == (0.5, 2.0, [0.0, 1.0])
    mean, var, weights = correlated_maximum.maximum(np.array([1.0, 3.0, 2.0]), np.zeros((3, 3)))
    assert (mean.item(), var.item(), weights.tolist()) == (3.0, 0.0, [0.0, 1.0, 0.0])


@pytest.mark.parametrize("k", [2, 4, 9])
def test_weights_of_independent_entries_against_integration(k):
    mean, scale = RNG.standard_normal(k), RNG.uniform(0.05, 2.0, k)

    def share(i):
        others = [j for j in range(k) if j != i]

        def f(t):
            below = np.prod(stats.norm.cdf((t - mean[others]) / scale[others]))
            return stats.norm.pdf(t, mean[i], scale[i]) * below

        ends = mean[i] + 9 * scale[i] * np.array([-1, 1])
        return integrate.quad(f, *ends, points=sorted(mean), limit=500, epsabs=1e-11)[0]

    got = gaussian_maximum.weights(mean, scale**2)
    np.testing.assert_allclose(got, [share(i) for i in range(k)], atol=1e-9)
    assert got.sum() == pytest.approx(1.0, abs=1e-13)


def test_weights_of_a_known_entry():
    got = gaussian_maximum.weights(np.array([0.5, 0.0]), np.array([0.0, 1.0]))
    np.testing.assert_allclose(got, [stats.norm.cdf(0.5), stats.norm.cdf(-0.5)], rtol=1e-12)
