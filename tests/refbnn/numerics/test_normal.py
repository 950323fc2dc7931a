import mpmath as mp
import numpy as np
import pytest

from refbnn.numerics import normal


def exact_h(n, a):
    """E[max(0, a + z)^n] by the parabolic cylinder function, 60 digits."""
    with mp.workdps(60):
        a = mp.mpf(a)
        return mp.factorial(n) * mp.exp(-a * a / 4) / mp.sqrt(2 * mp.pi) * mp.pcfd(-n - 1, -a)


def exact_moments(a):
    with mp.workdps(60):
        mean = exact_h(1, a)
        return mean, exact_h(2, a) - mean**2


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e150])
def test_rectified_moments_are_accurate_in_both_tails(scale):
    grid = np.concatenate([np.linspace(-35, 35, 141), [-2.0001, -1.9999, 1.9999, 2.0001, 1e-9]])
    mean, var = normal.rectified_moments(grid * scale, np.full(grid.size, scale**2))
    for a, got_mean, got_var in zip(grid, mean / scale, var / scale**2, strict=True):
        want_mean, want_var = exact_moments(a)
        # As stated: rounding of x²/2 ≈ 600 in an exponent, and of mean/√var before it.
        assert abs(got_mean / want_mean - 1) < 5e-13
        assert abs(got_var / want_var - 1) < 5e-13


def test_continued_fraction_is_converged(monkeypatch):
    x = np.linspace(2.0, 38.0, 500)
    once = normal.lower_rectified(x)
    monkeypatch.setattr(normal, "_TERMS", 2 * normal._TERMS)
    for short, long in zip(once, normal.lower_rectified(x), strict=True):
        np.testing.assert_allclose(short, long, rtol=1e-14)


def test_limits_are_exact():
    mean = np.array([2.0, -2.0, 0.0, 3.0, -3.0, 0.0, 1e300, -1e300])
    var = np.array([0.0, 0.0, 0.0, 1e-300, 5e-324, 1e-300, 1e-300, 1e-300])
    got_mean, got_var = normal.rectified_moments(mean, var)
    np.testing.assert_array_equal(got_mean[[0, 1, 2, 3, 4, 6, 7]], [2, 0, 0, 3, 0, 1e300, 0])
    np.testing.assert_array_equal(got_var[[0, 1, 2, 4, 7]], 0)
    assert got_var[3] == 1e-300
    assert got_mean[5] == pytest.approx(1e-150 / np.sqrt(2 * np.pi), rel=1e-15)
    assert got_var[5] == pytest.approx(1e-300 * (0.5 - 0.5 / np.pi), rel=1e-15)


def test_a_scalar_is_as_good_as_an_array():
    for mean in (-3.0, 0.5):
        got = normal.rectified_moments(mean, 1.0)
        want = normal.rectified_moments(np.array([mean]), np.ones(1))
        assert [float(v) for v in got] == [v[0] for v in want]


def test_variance_is_never_negative():
    rng = np.random.default_rng(0)
    mean = rng.standard_normal(100_000) * 10.0 ** rng.uniform(-200, 100, 100_000)
    var = 10.0 ** rng.uniform(-300, 200, 100_000)
    got_mean, got_var = normal.rectified_moments(mean, var)
    assert (got_mean >= np.maximum(mean, 0)).all()
    assert (got_var >= 0).all()
    assert (got_var <= var).all()
