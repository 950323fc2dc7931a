import mpmath as mp
import numpy as np
import pytest

from refbnn.errors import InputError
from refbnn.noise import DeviceLaw, Gaussian, cumulants
from refbnn.numerics.quadrature import gauss_jacobi, jacobi_log_total, tanh_sinh
from tests.helpers.exact_laws import ExactLaw

LAWS = [
    DeviceLaw(0.0, 0.0),
    DeviceLaw(0.0, 0.0, (0.3, 1.5)),
    DeviceLaw(2.0, 5.0, (1.0, -0.5, 0.2)),
    DeviceLaw(-0.7, 3.0, (1.0, -0.5, 0.2)),
]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n", [4, 16])
def test_gauss_rule_is_exact_for_monomials(law, n):
    rule = law.quadrature(n)
    exact = ExactLaw(law)
    magnitude = np.abs(rule.nodes)
    for k in (1, 2, 3, 2 * n - 2, 2 * n - 1):
        # Relative to E|z|^k: odd moments nearly vanish.
        scale = rule.expect(magnitude**k)
        want = exact.standardised(lambda z, k=k: z**k)
        assert abs(rule.expect(rule.nodes**k) - want) < 1e-13 * max(scale, 1.0)


def test_gauss_hermite_moments_are_double_factorials():
    rule = Gaussian().quadrature(32)
    for k in range(0, 64, 2):
        exact = float(mp.fac2(k - 1)) if k else 1.0
        assert rule.expect(rule.nodes**k) == pytest.approx(exact, rel=1e-13)


@pytest.mark.parametrize(("p", "q"), [(0, 0), (3.0, -0.7), (-0.9, -0.9), (-0.5, -0.5), (0.3, 20.0)])
@pytest.mark.parametrize("n", [1, 2, 3, 64, 200])
def test_gauss_jacobi_moments_are_beta_functions(p, q, n):
    rule = gauss_jacobi(n, p, q)
    total = mp.exp(jacobi_log_total(p, q))
    for k in {0, 1, min(8, 2 * n - 1)}:
        exact = mp.mpf(2) ** (p + q + 1 + k) * mp.beta(p + 1, q + 1 + k) / total
        assert rule.expect((1 + rule.nodes) ** k) == pytest.approx(float(exact), rel=1e-13)


def test_tanh_sinh_integrates_edge_singularities():
    grid = tanh_sinh()
    for alpha in (-0.95, -0.5, 0.0, 3.0):
        log_integrand = grid.log_weight + alpha * grid.log_lower
        got = float(np.sum(np.exp(log_integrand) * grid.log_lower))
        # ∫ (1 + y)^α log(1 + y) dy = 2^{α+1}/(α+1)·(log 2 − 1/(α+1))
        exact = 2 ** (alpha + 1) / (alpha + 1) * (np.log(2) - 1 / (alpha + 1))
        assert got == pytest.approx(exact, rel=1e-12)


def test_cumulants_of_known_laws():
    np.testing.assert_allclose(cumulants(Gaussian(), 6), [0, 1, 0, 0, 0, 0], atol=1e-12)
    # Uniform on [−√3, √3]: κ₄ = −6/5, κ₆ = 48/7; arcsine on [−√2, √2]: κ₄ = −3/2, κ₆ = 10.
    np.testing.assert_allclose(cumulants(LAWS[0], 6), [0, 1, 0, -1.2, 0, 48 / 7], atol=1e-12)
    arcsine = cumulants(DeviceLaw(-0.5, -0.5), 6)
    np.testing.assert_allclose(arcsine, [0, 1, 0, -1.5, 0, 10], atol=1e-12)


def test_too_many_nodes_are_refused():
    with pytest.raises(InputError, match="1 to 64"):
        LAWS[0].quadrature(65)
