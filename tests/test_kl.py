import mpmath as mp
import numpy as np
import pytest
from exact_laws import ExactLaw

from refbnn import InputError, Posterior, kl
from refbnn.noise import DeviceLaw, Gaussian, Law
from refbnn.prior import GaussianPrior, Prior, StudentTPrior

LAWS: list[Law] = [Gaussian(), DeviceLaw(0.0, 0.0, (0.3, 1.5)), DeviceLaw(-0.5, 2.0)]
PRIORS: list[Prior] = [GaussianPrior(0.3), StudentTPrior(3.0, 1.0)]
WEIGHTS = Posterior(np.array([0.0, 0.2, -3.0]), np.array([0.3, 1e-3, 0.05]))


def exact_kl(law, prior, mu, sigma):
    """KL and its derivatives by mpmath, from the definitions."""
    if isinstance(law, Gaussian):

        def expect(f):
            return mp.quad(lambda z: mp.npdf(z) * f(z), [-40, -8, -2, 0, 2, 8, 40])

        entropy = mp.log(2 * mp.pi * mp.e) / 2
    else:
        exact = ExactLaw(law)
        expect, entropy = exact.standardised, exact.entropy()
    s = mp.mpf(prior.scale)
    if isinstance(prior, GaussianPrior):

        def log_p(t):
            return mp.log(mp.npdf(t, 0, s))
    else:
        nu = mp.mpf(prior.dof)
        constant = mp.gamma((nu + 1) / 2) / mp.gamma(nu / 2) / mp.sqrt(nu * mp.pi) / s

        def log_p(t):
            return mp.log(constant) - (nu + 1) / 2 * mp.log(1 + (t / s) ** 2 / nu)

    mu, sigma = mp.mpf(mu), mp.mpf(sigma)

    def score(z):
        return mp.diff(log_p, mu + sigma * z)

    value = -entropy - mp.log(sigma) - expect(lambda z: log_p(mu + sigma * z))
    return value, -expect(score), -1 / sigma - expect(lambda z: z * score(z))


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("law", LAWS)
def test_quadrature_against_mpmath(law, prior):
    got = kl.by_quadrature(WEIGHTS, prior, law.entropy, law.quadrature(kl.DEFAULT_NODES))
    with mp.workdps(25):
        for i, (mu, sigma) in enumerate(zip(WEIGHTS.mean, WEIGHTS.scale, strict=True)):
            value, d_mean, d_scale = exact_kl(law, prior, mu, sigma)
            # The stated accuracy; absolute where the exact derivative is zero by symmetry.
            assert got.value[i] == pytest.approx(float(value), rel=1e-10, abs=1e-12)
            assert got.d_mean[i] == pytest.approx(float(d_mean), rel=1e-10, abs=1e-12)
            assert got.d_scale[i] == pytest.approx(float(d_scale), rel=1e-10, abs=1e-9)


@pytest.mark.parametrize("law", LAWS)
def test_closed_form_equals_quadrature(law):
    prior = GaussianPrior(0.7)
    closed = kl.closed_form(WEIGHTS, prior, law.entropy)
    summed = kl.by_quadrature(WEIGHTS, prior, law.entropy, law.quadrature(8))
    np.testing.assert_allclose(closed.value, summed.value, rtol=1e-13)
    np.testing.assert_allclose(closed.d_mean, summed.d_mean, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(closed.d_scale, summed.d_scale, rtol=1e-12, atol=1e-12)


def test_kl_of_a_gaussian_from_itself_is_zero():
    posterior = Posterior(np.zeros(1), np.array([0.3]))
    assert kl.closed_form(posterior, GaussianPrior(0.3), Gaussian().entropy).value == pytest.approx(
        0.0, abs=1e-15
    )


def test_divergence_chooses_by_prior():
    law, weights = LAWS[1], {"w": WEIGHTS}
    by_gauss = kl.divergence(weights, law, PRIORS[0])["w"]
    np.testing.assert_array_equal(
        by_gauss.value, kl.closed_form(WEIGHTS, GaussianPrior(0.3), law.entropy).value
    )
    by_student = kl.divergence(weights, law, PRIORS[1])["w"]
    rule = law.quadrature(kl.DEFAULT_NODES)
    np.testing.assert_array_equal(
        by_student.value, kl.by_quadrature(WEIGHTS, PRIORS[1], law.entropy, rule).value
    )


def test_infinite_divergence_and_bad_priors_are_refused():
    known = Posterior(np.zeros(2), np.array([0.1, 0.0]))
    for compute in (
        lambda: kl.closed_form(known, GaussianPrior(), 0.0),
        lambda: kl.by_quadrature(known, StudentTPrior(), 0.0, Gaussian().quadrature(4)),
    ):
        with pytest.raises(InputError, match="scale 0"):
            compute()
    with pytest.raises(InputError, match="expected a finite number above 0"):
        GaussianPrior(0.0)
    with pytest.raises(InputError, match="dof"):
        StudentTPrior(np.nan)
