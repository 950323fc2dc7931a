import json

import mpmath as mp
import numpy as np
import pytest
from scipy import integrate, stats

from refbnn import InputError
from refbnn.files.plain_data import as_fields
from refbnn.noise import DeviceLaw
from refbnn.prior import (
    DevicePrior,
    GaussianPrior,
    LaplacePrior,
    ScaleMixturePrior,
    StudentTPrior,
)
from refbnn.training.kl import loops as kl_loops
from refbnn.training.kl.forms import PanelPrior, loop_form

THETA = np.array([-3.1, -0.4, -1e-3, 0.0, 0.02, 0.7, 2.5])
BETA_SD = np.sqrt(3.0 * 1.5 / (4.5**2 * 5.5))
# Log densities that share no code with the priors; those of one form have different parameters.
SCIPY = {
    GaussianPrior(0.3): stats.norm(scale=0.3).logpdf,
    LaplacePrior(0.4): stats.laplace(scale=0.4).logpdf,
    StudentTPrior(3.0, 0.5): stats.t(3.0, scale=0.5).logpdf,
    ScaleMixturePrior(0.3, 1.0, 0.1): lambda t: np.logaddexp(
        np.log(0.3) + stats.norm.logpdf(t), np.log(0.7) + stats.norm(scale=0.1).logpdf(t)
    ),
    ScaleMixturePrior(0.98, 0.2, 1.5): lambda t: np.logaddexp(
        np.log(0.98) + stats.norm(scale=0.2).logpdf(t),
        np.log(0.02) + stats.norm(scale=1.5).logpdf(t),
    ),
    # Beta(3, 1.5) on [0, 1]: mean 2/3, variance 3·1.5/(4.5²·5.5).
    DevicePrior(DeviceLaw(2.0, 0.5), 0.2, 2.0): lambda t: stats.beta(
        3.0, 1.5, loc=0.2 - 2.0 * (2.0 / 3.0) / BETA_SD, scale=2.0 / BETA_SD
    ).logpdf(t),
}
PRIORS = list(SCIPY)
BY_PRIOR = pytest.mark.parametrize("prior", PRIORS, ids=lambda p: type(p).__name__)
IN_LOOPS = [p for p in PRIORS if isinstance(p, PanelPrior)]
SCALARS = {
    kl_loops.STUDENT: kl_loops._student,
    kl_loops.MIXTURE: kl_loops._mixture,
    kl_loops.DEVICE: kl_loops._device,
}


@BY_PRIOR
def test_log_pdf_against_scipy(prior):
    np.testing.assert_allclose(prior.log_pdf(THETA), SCIPY[prior](THETA), rtol=1e-12, atol=1e-12)


@BY_PRIOR
def test_score_is_the_derivative(prior):
    theta, h = THETA[THETA != 0.0], 1e-5
    slope = (prior.log_pdf(theta + h) - prior.log_pdf(theta - h)) / (2.0 * h)
    # Truncation h²/6·(log p)‴: the scale 0.1 makes that at most 1e-10/6·1e3·5; rounding 1e-16/h.
    np.testing.assert_allclose(prior.score(theta), slope, rtol=1e-6, atol=1e-7)


def test_score_is_zero_at_the_kink_of_a_laplace_prior():
    assert LaplacePrior().score(np.zeros(1)) == 0.0


def test_a_device_prior_ends_at_its_support():
    prior = DevicePrior(DeviceLaw(-0.5, 1.0, (0.4,)), 0.3, 0.2)
    low, high = prior.support
    assert list(prior.log_pdf(np.array([low - 1e-9, high + 1e-9]))) == [-np.inf, -np.inf]
    # sin² takes the singular end away: θ = low + (high − low) sin²(½πu).
    u, w = np.polynomial.legendre.leggauss(60)
    angle = 0.25 * np.pi * (1.0 + u)
    theta = low + (high - low) * np.sin(angle) ** 2
    density = np.exp(prior.log_pdf(theta)) * (high - low) * np.sin(2.0 * angle)
    assert 0.25 * np.pi * w @ density == pytest.approx(1.0, rel=1e-10)


@pytest.mark.parametrize("prior", IN_LOOPS, ids=lambda p: type(p).__name__)
def test_the_loops_hold_the_same_function(prior):
    form = loop_form(prior)
    parameters, (c_0, c_2) = np.array(form.parameters), form.parabola
    f, df = np.transpose([SCALARS[form.kind](parameters, t) for t in THETA])
    np.testing.assert_allclose(c_0 + c_2 * THETA**2 + f, prior.log_pdf(THETA), rtol=1e-13)
    np.testing.assert_allclose(2.0 * c_2 * THETA + df, prior.score(THETA), rtol=1e-12, atol=1e-13)


def test_the_loops_hold_the_same_polynomial():
    prior = DevicePrior(DeviceLaw(0.0, 0.0, (0.3, -0.8, 0.1, 0.05)), 0.1, 2.0)
    form = loop_form(prior)
    assert form.degree == 4
    f, df = np.transpose([kl_loops._device(np.array(form.parameters), t) for t in THETA])
    np.testing.assert_allclose(form.parabola[0] + f, prior.log_pdf(THETA), rtol=1e-13)
    np.testing.assert_allclose(df, prior.score(THETA), rtol=1e-12, atol=1e-14)


def exact_mixture(prior, theta):
    parts = ((prior.share, prior.scale_1), (1.0 - prior.share, prior.scale_2))
    return [share / s * mp.exp(-((theta / s) ** 2) / 2) for share, s in parts]


@pytest.mark.parametrize(
    "prior",
    [
        ScaleMixturePrior(0.3, 1.0, 0.1),
        ScaleMixturePrior(0.98, 0.2, 1.5),
        ScaleMixturePrior(0.95, 1.0, 0.2),  # the narrow peak is the lower one
    ],
)
def test_the_density_of_a_mixture_vanishes_at_its_singularities(prior):
    """At the first one as computed; the next one lies on the hyperbola through it, further out."""
    form = loop_form(prior)
    log_ratio, curvature, x, y = form.parameters
    first = mp.mpc(x, y)
    a, b = exact_mixture(prior, first)
    assert abs(a + b) < 1e-12 * abs(a)
    following = mp.sqrt(2 * mp.mpc(log_ratio, 3 * mp.pi) / curvature)
    a, b = exact_mixture(prior, following)
    assert abs(a + b) < 1e-12 * abs(a)
    # The curve's points nearest to a real θ: no singularity is nearer.
    par = np.array(form.parameters)
    for theta in (0.5 * x, x, 2.5 * x, -2.5 * x, 6.0 * x):
        near = complex(*kl_loops._on_hyperbola(par, theta))
        singular = [mp.sqrt(2 * mp.mpc(log_ratio, k * mp.pi) / curvature) for k in range(1, 99, 2)]
        closest = min(abs(abs(theta) - s) for s in singular)
        assert abs(theta - near) <= closest * (1.0 + 1e-12)
        assert (near**2).real == pytest.approx(float((first**2).real), rel=1e-9, abs=1e-12)


def test_the_broad_and_the_narrow_component_keep_their_shares_in_either_order():
    one, other = ScaleMixturePrior(0.3, 1.0, 0.1), ScaleMixturePrior(0.7, 0.1, 1.0)
    np.testing.assert_allclose(one.log_pdf(THETA), other.log_pdf(THETA), rtol=1e-15)
    total, _ = integrate.quad(lambda t: np.exp(one.log_pdf(t)), -8, 8, points=[-0.3, 0.0, 0.3])
    assert total == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GaussianPrior(0.0), "GaussianPrior: scale is 0.0"),
        (lambda: LaplacePrior(-1.0), "LaplacePrior: scale"),
        (lambda: StudentTPrior(np.nan), "StudentTPrior: dof"),
        (lambda: StudentTPrior(3.0, np.inf), "StudentTPrior: scale"),
        (lambda: ScaleMixturePrior(0.0), "share is 0.0"),
        (lambda: ScaleMixturePrior(1.0), "share is 1.0"),
        (lambda: ScaleMixturePrior(np.nan), "share is nan"),
        (lambda: ScaleMixturePrior(0.5, 0.0), "scale_1"),
        (lambda: ScaleMixturePrior(0.5, 1.0, np.nan), "scale_2"),
        (lambda: ScaleMixturePrior(0.5, 0.2, 0.2), "two different ones"),
        (lambda: ScaleMixturePrior(1e-200), "times as high"),
        (lambda: DevicePrior(DeviceLaw(0.0, 0.0), np.nan), "DevicePrior: mean"),
        (lambda: DevicePrior(DeviceLaw(0.0, 0.0), 0.0, -1.0), "DevicePrior: scale"),
        (lambda: DevicePrior(DeviceLaw(0.0, 0.0, [0.0] * 32)), "degree 32"),
    ],
)
def test_bad_parameters_are_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


@pytest.mark.parametrize("dof", [1e6, 1e9, 1e15])
def test_a_student_law_of_many_degrees_of_freedom_is_nearly_normal(dof):
    prior = StudentTPrior(dof, 0.5)
    theta = np.linspace(-2.0, 2.0, 9)
    # The difference is (t⁴ − 2t² − 1)/(4ν) to leading order, t = θ/s.
    t = theta / 0.5
    want = GaussianPrior(0.5).log_pdf(theta) + (t**4 - 2.0 * t**2 - 1.0) / (4.0 * dof)
    np.testing.assert_allclose(prior.log_pdf(theta), want, rtol=1e-9)


def test_a_prior_of_numpy_numbers_is_plain_data():
    data = as_fields(StudentTPrior(np.int64(4), np.float32(0.5)))  # type: ignore[arg-type]
    assert json.dumps(data) == '{"dof": 4.0, "scale": 0.5}'
