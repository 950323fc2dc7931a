"""Softmax statistics of Gaussian logits, each against integrals computed in another way."""

import mpmath
import numpy as np
import pytest
from scipy import integrate, special, stats
from scipy.special import entr, expit, softmax

from refbnn.errors import InputError
from refbnn.layers.moments import Moments
from refbnn.prediction.softmax import by_quadrature, by_sampling
from refbnn.prediction.softmax.quadrature import _on_lattice
from refbnn.prediction.softmax.wide import on_panels


def logits(mean, var):
    return Moments(np.atleast_2d(np.array(mean, float)), np.atleast_2d(np.array(var, float)))


def two_classes(m, v):
    """E[p₁], E[p₂] and E[H] from the law of the difference alone: x ~ N(m, v)."""
    s = np.sqrt(v)
    step = (10.0 + s) / 20_000  # small: the trapezoidal rule is exact to rounding
    z = step * np.arange(-20_000, 20_001)
    x = m + s * z
    weight = stats.norm.pdf(z) * step
    H = entr(expit(x)) + entr(expit(-x))
    return weight @ expit(x), weight @ expit(-x), weight @ H


# Both sides of every spread where the lattice changes.
SPREADS = (0.0, 1e-9, 0.01, 0.0874, 0.0876, 0.1749, 0.1751, 0.349, 0.351, 1.199, 1.201, 3.0, 7.9)


@pytest.mark.parametrize("m", [0.0, 0.7, -3.3, 12.0, -60.0])
@pytest.mark.parametrize("other", [0.0, 0.05, 0.5, 4.0])
def test_two_classes_are_an_integral_over_their_difference(m, other):
    for s in SPREADS[1:]:
        q = by_quadrature(logits([m + 5.0, 5.0], [s**2, other**2]))
        first, second, H = two_classes(m, s**2 + other**2)
        # The range that the module promises, relative; the entropy absolute.
        np.testing.assert_allclose(q.probabilities[0], [first, second], rtol=1e-12)
        assert q.aleatoric[0] == pytest.approx(H, rel=0.0, abs=1e-13)


@pytest.mark.parametrize(
    ("mean", "spread"), [((0.0, -150.0), (8.0, 0.5)), ((0.0, -300.0), (0.5, 7.9))]
)
def test_tails_of_wide_logits(mean, spread):
    """E[logistic(x)] = e^{d + v/2} E[1/(1 + e^x′)], x ~ N(d, v), x′ ~ N(d + v, v): here ≈ 1."""
    with mpmath.workdps(25):
        d, v = mpmath.mpf(mean[1] - mean[0]), sum(mpmath.mpf(s) ** 2 for s in spread)

        def integrand(z):
            return mpmath.npdf(z) / (1 + mpmath.exp(d + v + mpmath.sqrt(v) * z))

        rest = mpmath.quad(integrand, list(range(-14, 16, 2)))
        want = float(mpmath.exp(d + v / 2) * rest)
    q = by_quadrature(logits(mean, np.square(spread)))
    # The relative range that the module promises.
    assert q.probabilities[0, 1] == pytest.approx(want, rel=1e-12, abs=0.0)


def test_wide_logits_keep_absolute_accuracy():
    for s in (12.0, 40.0, 100.0):
        q = by_quadrature(logits([3.0 * s, s], [s**2, 4.0]))
        first, second, H = two_classes(2.0 * s, s**2 + 4.0)
        np.testing.assert_allclose(q.probabilities[0], [first, second], rtol=0.0, atol=1e-13)
        assert q.aleatoric[0] == pytest.approx(H, rel=0.0, abs=1e-13)


def against_a_known_logit(m, s):
    """E[p] and E[H] of (logistic(x), logistic(−x)), x ~ N(m, s²), s ≫ 1: a step and what is left.

    The logistic function differs from the step, and the entropy from 0, for |x| < 50 alone.
    """
    nodes, weights = np.polynomial.legendre.leggauss(200)
    x = 25.0 * (1.0 + nodes)
    up, down = (stats.norm.pdf((sign * x - m) / s) / s * 25.0 * weights for sign in (1.0, -1.0))
    first = stats.norm.cdf(m / s) + (down - up) @ expit(-x)
    return first, (up + down) @ (entr(expit(x)) + entr(expit(-x)))


@pytest.mark.parametrize("s", [16.1, 100.0, 1e4, 1e8, 1e150])
@pytest.mark.parametrize("known", [[0.0], [0.3, 0.0, -1.0, 0.2, -40.0]])
def test_one_wide_logit_beside_known_ones(s, known):
    """Known logits L count as one, Λ = log Σ e^L, whose own entropy is added."""
    total, share = special.logsumexp(known), softmax(known)
    for z in (0.0, 1.3, -2.0, -7.0):
        q = by_quadrature(logits([z * s, *known], [s**2, *[0.0] * len(known)]))
        first, H = against_a_known_logit(z * s - total, s)
        # The range that the module promises.
        assert q.probabilities[0, 0] == pytest.approx(first, rel=0.0, abs=1e-13)
        np.testing.assert_allclose(
            q.probabilities[0, 1:], (1.0 - first) * share, rtol=0.0, atol=1e-13
        )
        assert q.aleatoric[0] == pytest.approx(
            H + (1.0 - first) * entr(share).sum(), rel=0.0, abs=1e-13
        )


@pytest.mark.parametrize("n_classes", [1, 3, 10, 100])
@pytest.mark.parametrize("s", [17.0, 150.0])
def test_panels_are_the_lattice(n_classes, s):
    """Two rules for one integral, which share neither nodes nor the law that is averaged over."""
    rng = np.random.default_rng(0)
    shape = (1, n_classes)
    mixed = np.exp(rng.uniform(np.log(0.01), np.log(s), shape))
    middle = rng.uniform(0.3, 12.0, shape)  # about the scale where the rule for a logit changes
    one_of_three = np.arange(n_classes) % 3 == 0
    least_wide = rng.uniform(4.9, 6.0, shape)
    for spread in (np.full(shape, s), mixed, np.where(one_of_three, s, middle), least_wide):
        for scatter in (0.0, 3.0, s):  # of the means; without any, the product rises fastest
            mean = scatter * rng.standard_normal(shape)
            mean -= mean.max()
            found, wanted = on_panels(mean, spread), _on_lattice(mean, spread)
            np.testing.assert_allclose(found[0], wanted[0], rtol=0.0, atol=1e-13)
            np.testing.assert_allclose(found[1], wanted[1], rtol=0.0, atol=1e-13)


def test_logits_of_huge_spreads_are_an_argmax():
    """P(ℓ_c greatest), with an error of order 1/s, whatever the scales; no step is lost."""
    mean, s = np.array([0.3, -1.0, 0.0, 0.5]), np.array([1.0, 0.2, 3.0, 1e-3])

    def density(x, c):
        others = [j for j in range(4) if j != c]
        return stats.norm.pdf(x, mean[c], s[c]) * stats.norm.cdf(x, mean[others], s[others]).prod()

    wanted = [
        integrate.quad(density, mean[c] - 9 * s[c], mean[c] + 9 * s[c], (c,), points=[0.499, 0.501])
        for c in range(4)
    ]
    for scale in (1e12, 1e30, 1e150):
        q = by_quadrature(logits(scale * mean, (scale * s) ** 2))
        # SciPy's quad: 1.5e-8 by default.
        np.testing.assert_allclose(
            q.probabilities[0], [one[0] for one in wanted], rtol=0.0, atol=1.5e-8
        )
        assert 0.0 <= q.aleatoric[0] < 1e3 / scale + 1e-15


def tensor(mean, s, n):
    """C-dimensional Gauss–Hermite rule: E[p] and E[H]."""
    nodes, weights = special.roots_hermitenorm(n)
    weights = weights / weights.sum()
    grids = np.meshgrid(*[m + si * nodes for m, si in zip(mean, s, strict=True)], indexing="ij")
    w = np.ones((1,))
    for _ in mean:
        w = np.multiply.outer(w, weights)
    p = softmax(np.stack([g.ravel() for g in grids], axis=1), axis=1)
    return w.ravel() @ p, w.ravel() @ entr(p).sum(axis=1)


@pytest.mark.parametrize(
    ("mean", "s", "n"),
    [
        ([0.0, 1.0, -2.0], [0.8, 0.05, 0.5], 60),
        ([2.0, 1.9, 2.3], [0.3, 0.3, 0.12], 40),
        ([0.0, -1.0, -4.0, 0.5], [0.4, 0.2, 0.02, 0.6], 30),
    ],
)
def test_several_classes_are_a_product_rule(mean, s, n):
    """The rule is never formed by the one-dimensional integrals; theirs is the same sum."""
    q = by_quadrature(logits(mean, np.square(s)))
    p, H = tensor(mean, s, n)
    # Gauss–Hermite with the logistic function's poles π/s away: exp(−2√n π/s) = 2e-14 at worst.
    np.testing.assert_allclose(q.probabilities[0], p, rtol=1e-11)
    assert q.aleatoric[0] == pytest.approx(H, abs=1e-12)


def test_ten_and_a_hundred_classes_against_draws():
    rng = np.random.default_rng(0)
    for n_classes, n in ((10, 200_000), (100, 20_000)):
        mean = rng.normal(0.0, 2.0, n_classes)
        s = np.exp(rng.normal(0.0, 1.0, n_classes))
        q = by_quadrature(logits(mean, s**2))
        p = softmax(mean + s * rng.standard_normal((n, n_classes)), axis=1)
        H = entr(p).sum(axis=1)
        z = (q.probabilities[0] - p.mean(0)) / (p.std(0) / np.sqrt(n))
        # 4.5 standard errors: 111 of them pass by chance in all but 1 of 1300 cases.
        assert np.abs(z).max() < 4.5
        assert abs(q.aleatoric[0] - H.mean()) < 4.5 * H.std() / np.sqrt(n)


def test_zero_variance_is_the_plain_softmax_exactly():
    mean = np.random.default_rng(0).normal(0.0, 5.0, (7, 10))
    q = by_quadrature(Moments(mean, np.zeros_like(mean)))
    np.testing.assert_array_equal(q.probabilities, softmax(mean - mean.max(1, keepdims=True), 1))
    np.testing.assert_array_equal(q.mutual_information, 0.0)
    # One spread among known logits: the limit is continuous.
    near = by_quadrature(Moments(mean, np.full_like(mean, 1e-30)))
    np.testing.assert_allclose(near.probabilities, q.probabilities, rtol=1e-12)
    np.testing.assert_allclose(near.aleatoric, q.aleatoric, atol=1e-13)
    np.testing.assert_allclose(near.mutual_information, 0.0, atol=1e-13)


def test_one_class_is_certain():
    q = by_quadrature(logits([[3.0], [-1e4]], [[2.0], [0.0]]))
    np.testing.assert_array_equal(q.probabilities, 1.0)
    np.testing.assert_allclose(q.aleatoric, 0.0, atol=1e-14)


def test_a_shift_or_a_new_order_of_classes_changes_nothing():
    rng = np.random.default_rng(1)
    mean, var = rng.normal(0.0, 3.0, (20, 6)), rng.gamma(0.5, 2.0, (20, 6))
    q, order = by_quadrature(Moments(mean, var)), rng.permutation(6)
    for shift in (0.0, 0.37, -1e4, 1e4):  # at 1e4 the means are rounded to 2e-12
        other = by_quadrature(Moments(mean[:, order] + shift, var[:, order]))
        np.testing.assert_allclose(other.probabilities, q.probabilities[:, order], rtol=2e-11)
        np.testing.assert_allclose(other.aleatoric, q.aleatoric, atol=1e-11)
    np.testing.assert_allclose(q.probabilities.sum(axis=1), 1.0, rtol=1e-15)
    assert (q.aleatoric <= q.entropy).all()  # Jensen, with room at these spreads


def test_a_variance_of_1e8_is_an_argmax():
    m, s = 8e3, np.sqrt(2e8)
    q = by_quadrature(logits([m, 0.0], [1e8, 1e8]))
    # E[logistic(x)] = Φ(m/s) + (π²/6) φ′(m/s)/s² + …; E[H] = φ(m/s)/s ∫H dx, next term 1/s³.
    assert q.probabilities[0, 0] == pytest.approx(stats.norm.cdf(m / s), abs=1e-8)
    area = 2.0 * integrate.quad(lambda x: entr(expit(x)) + entr(expit(-x)), 0.0, 60.0)[0]
    assert q.aleatoric[0] == pytest.approx(stats.norm.pdf(m / s) / s * area, rel=1e-6)
    # A wide logit beside narrow ones: thousands of nodes in u, several blocks.
    q = by_quadrature(logits([0.0, 30.0, 31.0], [1e6, 1.0, 0.0]))
    lse, gap = 31.0 + np.log1p(np.exp(-1.0)), 1e-3
    assert q.probabilities[0, 0] == pytest.approx(stats.norm.cdf(-lse / 1e3), abs=gap)


def test_logits_far_apart():
    q = by_quadrature(logits([[1e4, -1e4, 0.0], [1e308, -1e308, 0.0]], np.ones((2, 3))))
    np.testing.assert_array_equal(q.probabilities, [[1.0, 0.0, 0.0]] * 2)
    np.testing.assert_allclose(q.mutual_information, 0.0, atol=1e-14)
    # Small but not 0: E[e^ℓ] e^−m exactly, as the other class takes all.
    q = by_quadrature(logits([500.0, 0.0], [0.0, 9.0]))
    assert q.probabilities[0, 1] == pytest.approx(np.exp(-500.0 + 4.5), rel=1e-12)


def test_wide_logits_far_apart():
    """Means whose difference overflows; the classes left over share by their own law."""
    q = by_quadrature(logits([1e308, 1e308, -1e308], np.full(3, 1e4)))
    np.testing.assert_allclose(q.probabilities, [[0.5, 0.5, 0.0]], rtol=0.0, atol=1e-13)


def test_float32_moments_are_taken():
    q = by_quadrature(Moments(np.ones((1, 3), np.float32), np.ones((1, 3), np.float32)))
    np.testing.assert_allclose(q.probabilities, 1.0 / 3.0, rtol=1e-13)


def test_bad_logits_are_refused():
    for wrong in (np.zeros(3), np.zeros((2, 0)), np.zeros((2, 3, 4))):
        with pytest.raises(InputError, match=r"expected \(B, C\)"):
            by_quadrature(Moments(wrong, wrong))
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="variance"):
            logits([0.0, 1.0], [bad, 1.0])
    with pytest.raises(InputError, match="n_samples is 0"):
        by_sampling(logits([0.0, 1.0], [1.0, 1.0]), 0, np.random.default_rng(0))


def test_no_inputs_no_predictions():
    none = Moments(np.zeros((0, 3)), np.zeros((0, 3)))
    for q in (by_quadrature(none), by_sampling(none, 8, np.random.default_rng(0))):
        assert q.probabilities.shape == (0, 3)
        assert q.mutual_information.shape == (0,)


def test_even_draws_scatter_about_the_integrals():
    rng = np.random.default_rng(0)
    some = Moments(rng.normal(0.0, 2.0, (4, 5)), rng.gamma(1.0, 2.0, (4, 5)))
    exact = by_quadrature(some)
    found = [by_sampling(some, 100, np.random.default_rng(seed)) for seed in range(30)]
    for name in ("probabilities", "aleatoric"):
        values = np.stack([getattr(q, name) for q in found])
        z = (values.mean(0) - getattr(exact, name)) / (values.std(0, ddof=1) / np.sqrt(30))
        # 24 values of Student's t with 29 degrees of freedom: beyond 5 in 1 of 1600 cases.
        assert np.abs(z).max() < 5.0


def test_all_inputs_share_their_draws():
    row = np.array([0.0, 1.0, -1.0, 2.0]), np.array([1.0, 0.2, 3.0, 0.5])
    many = Moments(*(np.tile(part, (1500, 1)) for part in row))  # more than one block
    q = by_sampling(many, 1000, np.random.default_rng(0))
    np.testing.assert_allclose(q.probabilities, np.tile(q.probabilities[:1], (1500, 1)), rtol=1e-12)
