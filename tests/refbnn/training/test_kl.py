"""KL against two truths: mpmath at decisive weights, fine rules from SciPy's densities at many."""

from functools import cache

import mpmath as mp
import numpy as np
import pytest
from scipy import stats

from refbnn import InputError, Posterior
from refbnn.network.layout import Layout
from refbnn.noise import Bimodal, DensityLaw, DeviceLaw, Gaussian, HeavyTailed, Law
from refbnn.prior import (
    DevicePrior,
    GaussianPrior,
    LaplacePrior,
    Prior,
    ScaleMixturePrior,
    StudentTPrior,
)
from refbnn.training.kl import adaptive_rules as law_tree
from refbnn.training.kl import kl
from refbnn.training.kl import loops as kl_loops
from refbnn.training.kl.forms import loop_form

LAWS: dict[str, Law] = {
    "Gaussian": Gaussian(),
    "bimodal": Bimodal(0.9, 0.3, 0.5),
    "heavy": HeavyTailed(0.9, 0.2),
    "device": DeviceLaw(0.0, 0.0, (0.3, 1.5)),
    "singular": DeviceLaw(-0.5, 2.0),
    "triangle": DensityLaw.of(lambda x: 1.0 - np.abs(x), -1.0, 1.0, exponents=(1.0, 1.0)),
}
BOUNDED = ("device", "singular", "triangle")
PRIORS: list[Prior] = [
    GaussianPrior(0.3),
    LaplacePrior(0.2),
    StudentTPrior(1.0, 0.1),
    StudentTPrior(3.0, 1.0),
    ScaleMixturePrior(0.5, 1.0, 0.1),
    ScaleMixturePrior(0.9, 0.1, 0.4),
    ScaleMixturePrior(0.95, 1.0, 0.2),
]
DEVICE_PRIORS = [
    DevicePrior(DeviceLaw(1.5, -0.4, (0.2, -0.3, 0.1)), 0.1, 8.0),
    DevicePrior(DeviceLaw(0.0, 3.0), -0.2, 0.5),
    DevicePrior(DeviceLaw(0.0, 0.0, (0.1, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3)), 0.0, 1.0),
]
# Largest error allowed, relative to the largest of the terms that are added up.
TARGET = 1e-10


def as_name(value):
    return value if isinstance(value, str) else None


# ---------------------------------------------------------------- truth, from SciPy's densities


def density(name):
    """The density in any units, of y or, for bounded laws, of 1 + y and 1 − y; finite ends of y."""
    law = LAWS[name]
    if isinstance(law, Gaussian):
        return stats.norm.pdf, -12.0, 12.0
    if isinstance(law, Bimodal):
        w, d, r = law.weight, law.separation, law.ratio
        odds = np.sqrt((1.0 - w) / w)
        s = np.sqrt((1.0 - d**2) / (w + (1.0 - w) * r**2))
        one, other = stats.norm(-d * odds, s), stats.norm(d / odds, r * s)
        return lambda z: w * one.pdf(z) + (1.0 - w) * other.pdf(z), -12.0, 12.0
    if isinstance(law, HeavyTailed):
        # SciPy's form: α δ and β δ, at δ = 1; E and Var as SciPy has them.
        rho = law.asymmetry / law.steepness
        a = (1.0 / law.steepness**2 - 1.0) / np.sqrt(1.0 - rho**2)
        nig = stats.norminvgauss(a, rho * a)
        mean, sd = nig.mean(), nig.std()
        return lambda z: sd * nig.pdf(mean + sd * z), -130.0, 130.0
    if isinstance(law, DeviceLaw):
        g = np.polynomial.Chebyshev([0.0, *law.coefficients])
        return (
            (
                lambda lower, upper: (
                    lower**law.alpha * upper**law.beta * np.exp(g((lower - upper) / 2))
                )
            ),
            -1.0,
            1.0,
        )
    return np.minimum, -1.0, 1.0


def breaks(name, middle, width):
    """Panels' ends in y, that shrink towards a point; those of the law itself among them."""
    _, low, high = density(name)
    steps = width * 2.0 ** np.arange(-2, 24)
    features = np.concatenate([[middle], middle + steps, middle - steps])
    features = np.append(features, np.linspace(max(low, -12.0), min(high, 12.0), 97))
    return features[(features > low) & (features < high)]


def points(name, y_breaks):
    """Points y, weights and density: 20 Gauss nodes on panels.

    Bounded laws by y = −cos πu, which takes square-root ends away, with panels that shrink towards
    both ends.
    """
    f, low, high = density(name)
    bounded = name in BOUNDED
    if bounded:
        ends = 2.0 ** np.arange(-40.0, 0.0)
        u = np.concatenate([np.arccos(-y_breaks) / np.pi, ends, 1.0 - ends, [0.0, 1.0]])
    else:
        u = np.concatenate([y_breaks, np.linspace(low, high, 97), [low, high]])
    u = np.unique(u)
    x, w = np.polynomial.legendre.leggauss(20)
    half = 0.5 * np.diff(u)[:, np.newaxis]
    u, w = (u[:-1, np.newaxis] + half * (1.0 + x)).ravel(), (half * w).ravel()
    if not bounded:
        return u, w, f(u)
    # Distances from both ends, without cancellation where they are small.
    lower, upper = 2.0 * np.sin(0.5 * np.pi * u) ** 2, 2.0 * np.cos(0.5 * np.pi * u) ** 2
    return 0.5 * (lower - upper), w * np.pi * np.sin(np.pi * u), f(lower, upper)


@cache
def location(name):
    """Mean and standard deviation of y."""
    y, w, q = points(name, breaks(name, 0.0, 1.0))
    mass = w * q / (w @ q)
    mean = mass @ y
    return mean, np.sqrt(mass @ np.square(y - mean))


def fine_rule(name, centre, width):
    """Points z, masses and entropy, with panels that shrink towards the centre, given in z."""
    mean, sd = location(name)
    y, w, q = points(name, breaks(name, mean + sd * centre, sd * width))
    seen = q > 0.0
    y, w, q = y[seen], w[seen], q[seen] / (w @ q)
    mass = w * q
    return (y - mean) / sd, mass, -mass @ np.log(q) - np.log(sd)


def truth(name, prior, mu, sigma):
    """KL and its derivatives, and the size of the terms that make each."""
    width = 0.1 * getattr(prior, "scale", 0.1) / sigma
    z, mass, entropy = fine_rule(name, -mu / sigma, width)
    log_p, s_p = prior.log_pdf(mu + sigma * z), prior.score(mu + sigma * z)
    exact = (
        -entropy - np.log(sigma) - mass @ log_p,
        -mass @ s_p,
        -1.0 / sigma - mass @ (z * s_p),
    )
    size = (
        max(abs(entropy), abs(np.log(sigma)), mass @ np.abs(log_p)),
        mass @ np.abs(s_p),
        max(1.0 / sigma, mass @ np.abs(z * s_p)),
    )
    return np.array(exact), np.array(size)


CORNERS = [(mu, sigma) for mu in (0.0, 0.07, -1.0, 10.0) for sigma in (1e-4, 0.02, 0.3, 2.0, 10.0)]


def check_corners(name, prior, corners, rounding=0.0):
    """Errors below TARGET, and below what rounding of the ends of supports may add."""
    mu, sigma = np.array(corners).T
    got = kl.divergence({"w": Posterior(mu, sigma)}, LAWS[name], prior)["w"]
    allowed = np.broadcast_to(TARGET + rounding, mu.shape)
    for i, (m, s) in enumerate(corners):
        exact, size = truth(name, prior, m, s)
        error = np.abs([got.value[i], got.d_mean[i], got.d_scale[i]] - exact) / size
        assert error.max() <= allowed[i], (m, s, error)


@pytest.mark.parametrize("prior", PRIORS, ids=as_name)
@pytest.mark.parametrize("name", LAWS)
def test_every_law_and_prior_against_fine_rules(name, prior):
    check_corners(name, prior, CORNERS)


@pytest.mark.parametrize("prior", DEVICE_PRIORS, ids=as_name)
@pytest.mark.parametrize("name", BOUNDED)
def test_device_priors_against_fine_rules(name, prior):
    """Scales down to a ten-thousandth, and means from the middle to a thousandth from an end.

    The prior's score grows like one over the distance from an end of its support. Both laws
    promise their supports to 1e-15 of themselves, and the fine rule has its own mean and standard
    deviation, some ulps off. So a gap between the ends of both supports is known to 1e-15·|end|,
    and the gradients to that over the gap: 7e-10 where the gap is a millionth of the support.
    """
    (low, high), (a, b) = prior.support, LAWS[name].support
    corners, gaps = [], []
    for share in (1e-4, 0.1, 0.6, 0.999):
        sigma = share * (high - low) / (b - a)
        # The support of the weight reaches from µ + σa to µ + σb.
        least, most = low - sigma * a, high - sigma * b
        corners += [(least + f * (most - least), sigma) for f in (1e-3, 0.3, 0.999)]
        gaps += [min(f, 1.0 - f) * (most - least) for f in (1e-3, 0.3, 0.999)]
    check_corners(name, prior, corners, 1e-15 * max(-low, high) / np.array(gaps))


# -------------------------------------------------------------------------- truth, from mpmath


def exact_law(name):
    """Density, in any units, and places y as functions of u; points that split integrals over u."""
    law = LAWS[name]
    if isinstance(law, Gaussian):
        return mp.npdf, lambda u: u, lambda u: 1, [-15, -4, 0, 4, 15]
    assert isinstance(law, DeviceLaw)
    # y = −cos u takes square-root ends away.
    alpha, beta = mp.mpf(law.alpha), mp.mpf(law.beta)

    def ends(u):
        return 2 * mp.sin(u / 2) ** 2, 2 * mp.cos(u / 2) ** 2

    return (
        lambda u: ends(u)[0] ** alpha * ends(u)[1] ** beta,
        lambda u: -mp.cos(u),
        mp.sin,
        [0, mp.pi / 2, mp.pi],
    )


def exact_log_p(prior, t):
    if isinstance(prior, LaplacePrior):
        return -abs(t) / prior.scale - mp.log(2 * mp.mpf(prior.scale))
    if isinstance(prior, StudentTPrior):
        nu, s = mp.mpf(prior.dof), mp.mpf(prior.scale)
        constant = mp.gamma((nu + 1) / 2) / mp.gamma(nu / 2) / mp.sqrt(nu * mp.pi) / s
        return mp.log(constant) - (nu + 1) / 2 * mp.log(1 + (t / s) ** 2 / nu)
    if isinstance(prior, ScaleMixturePrior):
        share, one, other = prior.share, prior.scale_1, prior.scale_2
        return mp.log(share * mp.npdf(t, 0, one) + (1 - mp.mpf(share)) * mp.npdf(t, 0, other))
    # A beta law without a polynomial: B = Beta(α + 1, β + 1) on [0, 1], standardised.
    p, q = mp.mpf(prior.law.alpha) + 1, mp.mpf(prior.law.beta) + 1
    sd = mp.sqrt(p * q / ((p + q) ** 2 * (p + q + 1)))
    x = p / (p + q) + sd * (t - prior.mean) / prior.scale
    density = x ** (p - 1) * (1 - x) ** (q - 1) / mp.beta(p, q) * sd / prior.scale
    return mp.log(density)


@pytest.mark.parametrize(
    ("name", "prior", "mu", "sigma"),
    [
        ("Gaussian", LaplacePrior(0.2), 0.1, 0.3),
        ("Gaussian", StudentTPrior(3.0, 0.1), 0.1, 2.0),
        ("Gaussian", ScaleMixturePrior(0.5, 1.0, 0.1), 0.3, 0.2),
        ("singular", StudentTPrior(1.0, 0.3), -0.2, 0.5),
        ("singular", LaplacePrior(0.2), 0.1, 0.3),
        ("singular", DevicePrior(DeviceLaw(1.5, -0.5), 0.5, 1.0), -0.6, 0.35),
    ],
    ids=as_name,
)
def test_decisive_weights_against_mpmath(name, prior, mu, sigma):
    with mp.workdps(25):
        q, place, jacobian, points = exact_law(name)

        def integral(g):
            return mp.quad(lambda u: g(u) * q(u) * jacobian(u), points)

        total = integral(lambda u: 1)
        mean = integral(place) / total
        sd = mp.sqrt(integral(lambda u: (place(u) - mean) ** 2) / total)
        # Split at θ = 0, where a prior has its kink or its peak.
        zero = mean - sd * mu / sigma
        if place(points[0]) < zero < place(points[-1]):
            points = sorted([*points, mp.findroot(lambda u: place(u) - zero, 1)])

        def theta(u):
            return mu + sigma * (place(u) - mean) / sd

        entropy = -integral(lambda u: mp.log(q(u))) / total + mp.log(total) - mp.log(sd)
        log_p = integral(lambda u: exact_log_p(prior, theta(u))) / total
        value = float(-entropy - mp.log(sigma) - log_p)
        slope = {}  # of log p at each point, for both gradients

        def s_p(u):
            if u not in slope:
                slope[u] = mp.diff(lambda t: exact_log_p(prior, t), theta(u))
            return slope[u]

        d_mean = float(-integral(s_p) / total)
        moment = integral(lambda u: (place(u) - mean) / sd * s_p(u)) / total
        d_scale = float(-1 / mp.mpf(sigma) - moment)
    got = kl.divergence({"w": Posterior(np.array([mu]), np.array([sigma]))}, LAWS[name], prior)["w"]
    assert got.value[0] == pytest.approx(value, rel=1e-11)
    assert got.d_mean[0] == pytest.approx(d_mean, rel=1e-10)
    assert got.d_scale[0] == pytest.approx(d_scale, rel=1e-10)


# ------------------------------------------------------------------------------ other properties


@pytest.mark.parametrize("prior", [*PRIORS, DEVICE_PRIORS[0]], ids=as_name)
def test_gradient_is_that_of_the_value(prior):
    law = LAWS["device"]
    mu, sigma = np.array([0.0, 0.05, -0.4, 1.2]), np.array([0.3, 0.1, 0.02, 0.7])

    def value(d_mu, d_sigma):
        return kl.divergence({"w": Posterior(mu + d_mu, sigma + d_sigma)}, law, prior)["w"].value

    h = 1e-4 * sigma
    d = kl.divergence({"w": Posterior(mu, sigma)}, law, prior)["w"]
    # h²/6 times a third derivative of at most 20/σ³; at h = 1e-4 σ that is 4e-8/σ.
    for part, steps in ((d.d_mean, (h, 0.0)), (d.d_scale, (0.0, h))):
        difference = (value(*steps) - value(*(-np.array(s) for s in steps))) / (2.0 * h)
        np.testing.assert_allclose(part, difference, rtol=1e-7, atol=1e-7 / sigma.min())


def test_kl_of_a_law_from_itself_is_zero():
    weight = Posterior(np.zeros(1), np.array([0.3]))
    device = DeviceLaw(0.0, 0.0, (0.3, 1.5))
    cases: list[tuple[Law, Prior]] = [
        (Gaussian(), GaussianPrior(0.3)),
        (device, DevicePrior(device, 0.0, 0.3)),  # covers exactly; finite ends
    ]
    for law, prior in cases:
        assert kl.divergence({"w": weight}, law, prior)["w"].value == pytest.approx(0.0, abs=1e-14)


def test_a_weight_does_not_depend_on_its_neighbours():
    """Panels are split for all weights together, and for a thousandth of them first."""
    rng = np.random.default_rng(0)
    mu, sigma = rng.standard_normal(3000), np.exp(rng.uniform(np.log(1e-3), np.log(5.0), 3000))
    law, prior = HeavyTailed(0.8), ScaleMixturePrior(0.5, 1.0, 0.1)
    whole = kl.divergence({"w": Posterior(mu, sigma)}, law, prior)["w"]
    kl._tree.cache_clear()
    for i in (0, 1, 999, 1000, 2999):
        alone = kl.divergence({"w": Posterior(mu[i : i + 1], sigma[i : i + 1])}, law, prior)["w"]
        assert alone.value[0] == whole.value[i]
        assert alone.d_mean[0] == whole.d_mean[i]
        assert alone.d_scale[0] == whole.d_scale[i]


def test_training_does_not_make_panels_again(monkeypatch):
    law = DeviceLaw(0.0, 0.0, (0.3, 1.4))
    weights = {"w": Posterior(np.array([[0.1, 0.2]]), np.array([[0.5, 2.0]]))}
    first = kl.divergence(weights, law, StudentTPrior(3.0, 0.1))["w"]
    assert first.value.shape == (1, 2)
    monkeypatch.setattr(law_tree.LawTree, "_rules", None)
    again = kl.divergence(weights, DeviceLaw(0.0, 0.0, (0.3, 1.4)), StudentTPrior(3.0, 0.1))["w"]
    np.testing.assert_array_equal(again.value, first.value)


def test_no_weights_have_no_divergence():
    nothing = Posterior(np.empty((0, 3)), np.empty((0, 3)))
    for prior in PRIORS:
        d = kl.divergence({"w": nothing}, Gaussian(), prior)["w"]
        assert d.value.shape == d.d_mean.shape == d.d_scale.shape == (0, 3)


def test_one_rule_converges_where_the_prior_is_smooth():
    """`by_quadrature` is exact for a Gaussian prior, and slow at Laplace's kink."""
    law = LAWS["device"]
    weights = Posterior(np.array([0.0, 0.2, -3.0]), np.array([0.3, 1e-3, 0.05]))
    closed = kl.closed_form(weights, GaussianPrior(0.7), law.entropy)
    summed = kl.by_quadrature(weights, GaussianPrior(0.7), law.entropy, law.quadrature(8))
    np.testing.assert_allclose(closed.value, summed.value, rtol=1e-13)
    np.testing.assert_allclose(closed.d_mean, summed.d_mean, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(closed.d_scale, summed.d_scale, rtol=1e-12, atol=1e-12)
    prior = LaplacePrior(0.2)
    exact = kl.divergence({"w": weights}, law, prior)["w"].value
    errors = [
        np.abs(kl.by_quadrature(weights, prior, law.entropy, law.quadrature(n)).value - exact)
        for n in (4, 32)
    ]
    assert 1e-5 < errors[1][0] < errors[0][0] < 1.0
    assert errors[1][1:].max() < 1e-12  # far from the kink


# -------------------------------------------------------------------------------- panels of a law


@pytest.mark.parametrize("name", LAWS)
def test_rules_and_limits_of_panels(name):
    """Rules against finer ones; the remainder against its formula, and the limit against that."""
    law = LAWS[name]
    tree = law_tree.LawTree(law)
    tree.split(np.array([0]))
    tree.split(np.array([2, 1]))
    assert list(tree.level) == [0, 1, 1, 2, 2, 2, 2]
    assert list(tree.child[:3]) == [1, 5, 3]
    cuts = np.linspace(law.reach[0], law.reach[1], 5)
    np.testing.assert_allclose(tree.ends[[5, 6, 3, 4], 0], cuts[:-1], atol=1e-12)
    np.testing.assert_allclose(tree.ends[[5, 6, 3, 4], 1], cuts[1:], atol=1e-12)
    for p in range(7):
        half = 0.5 * np.ptp(tree.ends[p])
        x, w = (
            part.ravel()
            for part in law.rules_between(np.linspace(tree.ends[p, 0], tree.ends[p, 1], 33), 24)
        )
        # Above the panel's mass, half a half-width away from it.
        z_0, y = complex(w @ x / w.sum(), 0.5 * half), 0.5 * half
        for order, n in enumerate(law_tree.ORDERS):
            at = slice(law_tree.STARTS[order], law_tree.STARTS[order + 1])
            nodes, weights = tree.nodes[p, at], tree.weights[p, at]
            assert nodes.size == n
            assert weights.sum() == pytest.approx(w.sum(), rel=1e-11)
            pi_squared = np.prod(np.square(x[:, np.newaxis] - nodes), axis=1)
            at_z_0 = np.prod(np.square(z_0 - nodes))
            remainder = np.sum(w / (z_0 - x)) - np.sum(weights / (z_0 - nodes))
            rounding = 1e-14 * w.sum() / y
            expected = np.sum(w * pi_squared / (z_0 - x)) / at_z_0
            assert remainder == pytest.approx(expected, rel=1e-6, abs=rounding)
            # At the limit the bound on the remainder is 1e-13 in units of max(1, 1/half)/distance.
            bound = np.sum(w * pi_squared) / (abs(at_z_0) * y)
            assert abs(remainder) <= bound + rounding
            share_of_limit = abs(at_z_0) / tree.limits[p, order]
            assert bound * share_of_limit == pytest.approx(1e-13 * min(half, 1.0) / y, rel=1e-9)


def test_panels_halve_to_the_stated_depth():
    tree = law_tree.LawTree(DeviceLaw(1.0, 0.0))
    depth = {"end": 0, "inside": 0}
    panel = {"end": 0, "inside": 0}
    for _ in range(40):
        for where in depth:
            if tree.divisible[panel[where]]:
                if not tree.child[panel[where]]:
                    tree.split(np.array([panel[where]]))
                inner = where == "inside" and depth[where] == 0
                # The upper half of the lower half of the support, then lower halves: never an end.
                upper = where == "inside" and depth[where] == 1
                panel[where] = tree.child[panel[where]] + (1 if upper and not inner else 0)
                depth[where] += 1
    assert depth == {"end": 30, "inside": 16}
    assert tree.ends[panel["end"], 0] == tree.ends[0, 0]
    assert (tree.weights[panel["end"]] > 0.0).all()


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("prior", [*PRIORS, DEVICE_PRIORS[0]], ids=as_name)
def test_scale_zero_is_refused(prior):
    known = Posterior(np.zeros(2), np.array([0.1, 0.0]))
    with pytest.raises(InputError, match="scale 0"):
        kl.divergence({"w": known}, LAWS["device"], prior)
    with pytest.raises(InputError, match="scale 0"):
        kl.by_quadrature(known, prior, 0.0, Gaussian().quadrature(4))


UNIFORM = DeviceLaw(0.0, 0.0)  # on ±√3


@pytest.mark.parametrize(
    ("law", "prior", "sigma", "words"),
    [
        (
            UNIFORM,
            DevicePrior(UNIFORM),
            1.0 + 1e-12,
            r"weight \[0, 1\] of '0.weight' covers \[-1.73205, 1.73205\].* infinite",
        ),
        (UNIFORM, DevicePrior(UNIFORM, -0.1), 1.0, r"within the prior's \[-1.83205, 1.63205\]"),
        (UNIFORM, DevicePrior(UNIFORM, 0.1), 1.0, r"within the prior's \[-1.63205, 1.83205\]"),
        (Gaussian(), DevicePrior(UNIFORM, 0.0, 9.0), 0.1, r"covers \[-inf, inf\]"),
        (
            DeviceLaw(-0.5, -0.5),
            DevicePrior(DeviceLaw(-0.5, -0.5)),
            1.0,
            r"weight \[0, 1\] of '0.weight' has mean 0 and scale 1; expected more than rounding",
        ),
        (Gaussian(), StudentTPrior(), 1e6, r"\[0, 1\].*wider than a thousandth of the scale"),
        (Gaussian(), ScaleMixturePrior(), 1e6, r"\[0, 1\].*wider than a thousandth of the scale"),
    ],
)
def test_infinite_divergence_is_refused(law, prior, sigma, words):
    weights = Posterior(np.zeros((1, 2)), np.array([[0.01, sigma]]))
    if np.isinf(law.support[0]) and isinstance(prior, DevicePrior):
        words = words.replace(r"[0, 1\]", r"[0, 0\]")
    with pytest.raises(InputError, match=words):
        kl.divergence({"0.weight": weights}, law, prior)


@pytest.mark.parametrize("prior", PRIORS, ids=as_name)
@pytest.mark.parametrize("name", LAWS)
def test_overflow_is_an_error_or_infinite_but_never_nan(name, prior):
    """And never a warning, which pytest makes an error."""
    for mu in (0.0, 1e-310, 1e160, -1e308):
        for sigma in (1e-310, 1.0, 1e160, 1e308):
            weight = {"w": Posterior(np.array([mu]), np.array([sigma]))}
            try:
                d = kl.divergence(weight, LAWS[name], prior)["w"]
            except InputError:
                continue
            for part in (d.value, d.d_mean, d.d_scale):
                assert not np.isnan(part).any()


def test_an_unknown_prior_is_refused():
    weights = {"w": Posterior(np.zeros(1), np.ones(1))}
    with pytest.raises(InputError, match=r"expected one of refbnn\.prior"):
        kl.divergence(weights, Gaussian(), "N(0, 1)")  # type: ignore[arg-type]


def test_singularities_decide_on_panels():
    """Both of two singularities count: the one at the near end, and its mirror image."""
    par = np.array(loop_form(ScaleMixturePrior(0.5, 1.0, 0.1)).parameters)
    x, y = par[2:]
    assert kl_loops._singularities(kl_loops.MIXTURE, par, -0.1, 5.0) == (-x, y, x, y)
    assert kl_loops._singularities(kl_loops.MIXTURE, par, 0.1, 0.3) == (x, y, x, y)
    assert kl_loops._singularities(kl_loops.MIXTURE, par, -0.3, -0.1) == (-x, y, -x, y)
    assert kl_loops._singularities(kl_loops.MIXTURE, par, 0.1, 2.0)[2] == pytest.approx(0.525)
    ends = loop_form(DEVICE_PRIORS[1]).parameters  # finite at the lower end
    got = kl_loops._singularities(kl_loops.DEVICE, np.array(ends), 0.0, 0.1)
    assert got == (-np.inf, 0.0, DEVICE_PRIORS[1].support[1], 0.0)


TOTAL_PRIORS: list[Prior] = [
    GaussianPrior(0.4),
    LaplacePrior(0.3),
    StudentTPrior(4.0, 0.5),
    ScaleMixturePrior(0.4, 1.0, 0.1),
]


def total(mean, scale, law, prior, weight, start=0.0):
    """`add_total` returns the sum, and adds to gradients that begin at some number."""
    grads = {"mean": np.full_like(mean, start), "scale": np.full_like(scale, start)}
    layout = Layout({"weights": mean.shape})
    value = kl.add_total(mean, scale, law, prior, weight, grads, layout)
    return value, grads["mean"] - start, grads["scale"] - start


@pytest.mark.parametrize("law", [Gaussian(), Bimodal(0.8, 0.3, 2.0), DeviceLaw(-0.5, 0.5, (0.3,))])
@pytest.mark.parametrize("prior", TOTAL_PRIORS, ids=lambda prior: type(prior).__name__)
def test_the_total_is_the_sum_over_weights(law, prior):
    """In float64 to rounding; in float32 to that of the terms that cancel in each derivative."""
    rng = np.random.default_rng(0)
    mean, scale = 0.5 * rng.standard_normal(300), rng.uniform(0.01, 1.0, 300)
    want = kl.divergence({"w": Posterior(mean, scale)}, law, prior)["w"]
    value, d_mean, d_scale = total(mean, scale, law, prior, 1.0)
    assert isinstance(value, float)
    assert value == pytest.approx(want.value.sum(), rel=1e-13)
    np.testing.assert_allclose(d_mean, want.d_mean, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(d_scale, want.d_scale, rtol=1e-13, atol=1e-12)
    # Weighted, and added to what is there: 2 is as large as the derivatives, and rounds with them.
    again, d_mean, d_scale = total(mean, scale, law, prior, 0.3, start=2.0)
    assert again == value
    np.testing.assert_allclose(d_mean, 0.3 * want.d_mean, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(d_scale, 0.3 * want.d_scale, rtol=1e-13, atol=1e-13)
    small = mean.astype(np.float32), scale.astype(np.float32)
    want = kl.divergence({"w": Posterior(*(a.astype(float) for a in small))}, law, prior)["w"]
    value, d_mean, d_scale = total(*small, law, prior, 1.0)
    assert d_mean.dtype == d_scale.dtype == np.float32
    # Sums are in float64; log σ of 300 float32 numbers, up to 4.6, rounds to 3e-7 each at most.
    assert value == pytest.approx(want.value.sum(), abs=300 * 3e-7)
    np.testing.assert_allclose(d_mean, want.d_mean, rtol=3e-7, atol=1e-6)
    # σ/s² and 1/σ, each to 6e-8, are subtracted.
    np.testing.assert_allclose(d_scale, want.d_scale, rtol=3e-7, atol=2e-7 * (1 / scale).max())


def test_the_total_of_a_device_prior():
    law = DeviceLaw(0.5, 1.0, (0.3,))
    prior = DevicePrior(law, 0.0, 1.0)
    rng = np.random.default_rng(1)
    mean, scale = rng.uniform(-0.1, 0.1, 20), rng.uniform(0.1, 0.5, 20)
    want = kl.divergence({"w": Posterior(mean, scale)}, law, prior)["w"]
    value, d_mean, d_scale = total(mean, scale, law, prior, 1.0)
    assert value == pytest.approx(want.value.sum(), rel=1e-13)
    np.testing.assert_array_equal(d_mean, want.d_mean)
    np.testing.assert_array_equal(d_scale, want.d_scale)
    with pytest.raises(InputError, match="so KL is infinite"):
        total(mean + 5.0, scale, law, prior, 1.0)


def test_a_scale_that_has_become_zero_makes_the_total_infinite():
    value, _, _ = total(np.zeros(3), np.array([0.1, 0.0, 1.0]), Gaussian(), GaussianPrior(), 1.0)
    assert value == np.inf
