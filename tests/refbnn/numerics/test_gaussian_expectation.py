"""The range of the panel rule, for functions with kinks, against closed forms in mpmath."""

import mpmath
import numpy as np
import pytest

from refbnn.numerics.gaussian_expectation import shift_and_variance


def exact_variance(k: float, s: float):
    """Variance of max(0, z − k)·s: from φ(k) and Q(k) with 60 digits."""
    with mpmath.workdps(60):
        k, s = mpmath.mpf(k), mpmath.mpf(s)
        phi, Q = mpmath.npdf(k), mpmath.erfc(k / mpmath.sqrt(2)) / 2
        return s**2 * ((1 + k**2) * Q - k * phi - (phi - k * Q) ** 2)


def one_sided(c: float, side: int):
    """f(m + t) − f(m) of f = max(0, x − c) for side = 1, min(0, x − c) for side = −1."""

    def f(x):
        return np.maximum(x - c, 0.0) if side > 0 else np.minimum(x - c, 0.0)

    return lambda m, t: f(m + t) - f(m)


# Relative errors as the table of the module states them, for the least k of each column.
AWAY = {0: 1e-13, 4: 1e-13, 5: 2e-12, 6: 3e-10, 7: 2e-7, 8: 2e-4, 9: 0.2, 12: 1.0}
AT_ZERO = {0: 1e-13, 4: 1e-13, 9: 1e-13, 12: 1e-13, 20: 1e-13, 30: 1e-13}
BEFORE_ZERO = {0: 1e-13, 4: 1e-13, 9: 1e-13, 12: 2e-10, 20: 4e-6}


@pytest.mark.parametrize("s", [0.01, 1.0, 100.0])
@pytest.mark.parametrize(
    ("side", "c", "allowed"),
    [
        (-1, -1.0, AWAY),
        (-1, 0.0, AWAY),
        (-1, 1.0, AWAY),
        (1, None, AWAY),
        (1, 0.0, AT_ZERO),
        (1, -1.0, BEFORE_ZERO),
    ],
)
def test_the_stated_error_holds_at_a_kink(side, c, allowed, s):
    c = 50.0 * s if c is None else c  # the mean lies between 0 and the kink
    for k, relative in allowed.items():
        m = c - side * k * s
        _, var = shift_and_variance(
            np.array([m]), np.array([s * s]), one_sided(c, side), np.unique([c, 0.0])
        )
        exact = exact_variance(side * (c - m) / s, s)
        assert abs(mpmath.mpf(var[0]) - exact) <= relative * exact
        # 3e-20 v is the mass of the nodes left out; beyond it, rounding of the variance.
        assert abs(mpmath.mpf(var[0]) - exact) <= 3e-20 * s * s + 1e-13 * exact


@pytest.mark.parametrize("m", [-3.0, -0.5, 0.0, 2.0, 4.5])
def test_a_clipped_function_near_its_kinks(m):
    """Hard tanh, whose moments are integrals over three pieces; both kinks within 5.5 s."""

    def difference(m, t):
        return np.clip(m + t, -1.0, 1.0) - np.clip(m, -1.0, 1.0)

    s = 1.0
    _, var = shift_and_variance(
        np.array([m]), np.array([s * s]), difference, np.array([-1.0, 0.0, 1.0])
    )
    with mpmath.workdps(30):
        below, above = mpmath.ncdf(-1, m, s), 1 - mpmath.ncdf(1, m, s)
        first, second = (
            mpmath.quad(lambda x, p=p: x**p * mpmath.npdf(x, m, s), [-1, 0, 1]) for p in (1, 2)
        )
        exact = second + below + above - (first - below + above) ** 2
        assert abs(var[0] - exact) <= 1e-13 * exact
