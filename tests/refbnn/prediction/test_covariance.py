import mpmath
import numpy as np
import pytest
from scipy import stats

from refbnn import Moments, Network, Posterior, predict
from refbnn.errors import InputError
from refbnn.layers import Conv2d, Dense, Flatten, ReLU, Tanh
from refbnn.layers.moments import JointMoments
from refbnn.noise import Bimodal, DeviceLaw, Gaussian, HeavyTailed
from refbnn.numerics.normal import rectified_moments
from refbnn.prediction import covariance
from refbnn.prediction.covariance import rectified_covariance
from refbnn.prediction.covariance.propagation import dense, propagate_layers

LAWS = (Gaussian(), Bimodal(0.9), DeviceLaw(-0.3, 0.2, (0.3, 0.8)), HeavyTailed(0.7, 0.2))


def of_pair(a, b, rho, s=1.0, t=1.0):
    """Our Cov for X = s(a + z₁), Y = t(b + z₂)."""
    cov = np.array([[[s * s, rho * s * t], [rho * s * t, t * t]]])
    return rectified_covariance(np.array([[s * a, t * b]]), cov)[1][0, 0, 1]


def by_mpmath(a, b, rho):
    """E[r₁r₂] − E[r₁]E[r₂], r₂ integrated in closed form given z₁; 40 digits for the difference."""
    with mpmath.workdps(40):
        a, b, rho = mpmath.mpf(a), mpmath.mpf(b), mpmath.mpf(rho)
        q = mpmath.sqrt(1 - rho * rho)

        def h1(m, s):
            return s * mpmath.npdf(m / s) + m * mpmath.ncdf(m / s)

        unit = mpmath.npdf(max(-a, 0)) * mpmath.npdf(max(-b, 0))  # quad's errors are absolute
        alone = h1(b, 1)

        def integrand(z):
            return (a + z) * mpmath.npdf(z) * (h1(b + rho * z, q) - alone) / unit

        # z₁ begins at −a, is N(0, 1) there, and N(−ρb, q²) where z₂ = −b: for large a and ρ < 0 far
        # from both others.
        steps = [sign * k for k in (0, 0.1, 0.5, 1, 2, 3, 5, 9, 14) for sign in (1, -1)]
        pieces = {c + k for c in (-a, mpmath.mpf(0), rho * max(-b, 0)) for k in steps}
        ends = sorted(z for z in pieces if z >= -a)
        # 24 nodes on each piece: the integrand is analytic, and its features are the pieces' size.
        value, error = mpmath.quad(
            integrand, ends, method="gauss-legendre", maxdegree=4, error=True
        )
        assert error <= 1e-15 * abs(value)
        return unit * value


@pytest.mark.parametrize(
    ("a", "b", "rho"),
    [
        (0.3, -0.4, 0.5), (0.3, -0.4, 0.01), (2.0, 1.5, 0.95), (-3.0, -2.0, 0.6),
        (-10.0, -9.0, 0.4),
        (-20.0, -19.0, 0.5), (8.0, -5.0, 0.3), (8.0, 9.0, 0.7), (-35.0, 1.0, 0.2),
        (0.5, 0.5 + 1e-4, 0.9999),
    ],
)  # fmt: skip
def test_pairs_of_positive_correlation_are_right_in_both_tails(a, b, rho):
    # 1e-12 is what the module promises.
    assert of_pair(a, b, rho) == pytest.approx(float(by_mpmath(a, b, rho)), rel=1e-12, abs=0.0)


@pytest.mark.parametrize(
    ("a", "b", "rho"),
    [
        (0.3, -0.4, -0.5), (-2.0, 1.0, -0.9), (3.0, 1.0, -0.2),
        (26.79, -26.79, -0.266), (-23.54, 23.54, -0.784), (26.79, -26.79, -0.95),
        (35.0, -34.0, -0.9), (-30.0, 30.5, -0.999), (34.0, -35.0, -0.5),
    ],
)  # fmt: skip
def test_pairs_of_negative_correlation(a, b, rho):
    # What the module promises.
    bound = 3e-13 * abs(rho) * stats.norm.cdf(a) * stats.norm.cdf(b)
    assert abs(of_pair(a, b, rho) - float(by_mpmath(a, b, rho))) <= bound


def test_negative_correlation_that_underflows():
    assert of_pair(-30.0, -35.0, -0.5) == 0.0


def conditional(a, b, rho):
    """E[r₁r₂] − E[r₁]E[r₂] by Gauss rules over z₁, r₂ integrated given z₁; panels at its bend."""
    pdf, cdf = stats.norm.pdf, stats.norm.cdf
    q, bend = np.sqrt(1.0 - rho * rho), -b / rho
    edges = np.concatenate([np.linspace(-a, 12, 60), bend + q * np.linspace(-12, 12, 60)])
    edges = np.unique(np.clip(edges, -a, 12.0))
    node, weight = np.polynomial.legendre.leggauss(20)
    half = 0.5 * np.diff(edges)[:, None]
    z = edges[:-1, None] + half * (node + 1.0)
    m = b + rho * z
    second = q * pdf(m / q) + m * cdf(m / q) if q > 0.0 else np.maximum(m, 0.0)
    product = np.sum(half * weight * (a + z) * pdf(z) * second)
    return product - np.prod([pdf(v) + v * cdf(v) for v in (a, b)])


@pytest.mark.parametrize("rho", [-1.0, -0.999999, -0.8, -0.1, 0.2, 0.7, 0.98, 1.0 - 1e-9, 1.0])
@pytest.mark.parametrize(("a", "b"), [(0.0, 0.0), (1.2, -0.3), (-1.5, -1.5), (0.5, 0.5001)])
def test_pairs_up_to_full_correlation(a, b, rho):
    # The difference of two numbers up to 2 rounds at 1e-15.
    assert of_pair(a, b, rho) == pytest.approx(conditional(a, b, rho), rel=0.0, abs=1e-14)


@pytest.mark.parametrize(("a", "b", "rho"), [(0.0, 0.0, 0.3), (1.2, -0.3, -0.8), (-1.0, 0.5, 0.9)])
def test_the_textbook_formula(a, b, rho):
    q = np.sqrt(1 - rho * rho)
    pdf, cdf = stats.norm.pdf, stats.norm.cdf
    phi_2 = np.exp(-(a * a - 2 * rho * a * b + b * b) / (2 * q * q)) / (2 * np.pi * q)
    # Φ₂, z₂ integrated in closed form given z₁; SciPy's own is good to 1e-5 only in some versions.
    cdf_2 = float(
        mpmath.quad(
            lambda z: mpmath.npdf(z) * mpmath.ncdf((b - rho * z) / q),
            [-mpmath.inf, a - 4, a - 1, a],
        )
    )
    product = (a * b + rho) * cdf_2 + q * q * phi_2
    product += a * pdf(b) * cdf((a - rho * b) / q) + b * pdf(a) * cdf((b - rho * a) / q)
    want = product - (pdf(a) + a * cdf(a)) * (pdf(b) + b * cdf(b))
    # Terms of up to 2 round at 1e-15, and mpmath's Φ₂ as well.
    assert of_pair(a, b, rho) == pytest.approx(want, rel=0.0, abs=1e-13)


def test_full_correlation_of_equal_means_is_the_variance():
    for a in (-35.0, -5.0, 0.0, 2.0, 30.0):
        want = rectified_moments(np.array([a]), np.array([1.0]))[1][0]
        assert of_pair(a, a, 1.0) == pytest.approx(want, rel=1e-12, abs=0.0)


def test_scales_and_limits():
    one = of_pair(0.4, -0.8, 0.6)
    assert of_pair(0.4, -0.8, 0.6, 1e-120, 1e90) == pytest.approx(1e-30 * one, rel=1e-12)
    assert of_pair(0.4, -0.8, 0.0) == 0.0
    mean, cov = rectified_covariance(np.array([[2.0, -1.0, 1.0]]), np.diag([0.0, 0.0, 4.0])[None])
    np.testing.assert_array_equal(mean[0, :2], [2.0, 0.0])
    np.testing.assert_array_equal(cov[0, :2], 0.0)
    # Far from the kink the ReLU is the identity, or 0.
    assert of_pair(300.0, 1e8, 0.5) == pytest.approx(0.5, rel=1e-15)
    assert of_pair(-300.0, 1e8, 0.5) == 0.0


def test_a_covariance_comes_out():
    rng = np.random.default_rng(0)
    low_rank = rng.standard_normal((20, 30, 3))
    cov = low_rank @ low_rank.transpose(0, 2, 1)
    _, out = rectified_covariance(2.0 * rng.standard_normal((20, 30)), cov)
    np.testing.assert_array_equal(out, out.transpose(0, 2, 1))
    value = np.linalg.eigvalsh(out)
    # Rounding of singular input: ρ near ±1 to 1e-16 is q to 1e-8, which enters C cubed.
    assert value.min() >= -1e-13 * value.max()


@pytest.mark.parametrize("law", LAWS)
def test_dense_covariance_is_exact_for_any_law(law):
    """Against the sum over all atoms of a discrete law with the same two moments, by loops."""
    rng = np.random.default_rng(1)
    weight = Posterior(rng.standard_normal((2, 2)), rng.uniform(0.1, 1.0, (2, 2)))
    bias = Posterior(rng.standard_normal(2), rng.uniform(0.1, 1.0, 2))
    f = rng.standard_normal((2, 2))
    x = JointMoments(rng.standard_normal((1, 2)), (f @ f.T)[None])
    rule = law.quadrature(2)
    atoms = list(zip(rule.nodes, rule.weights, strict=True))
    plus_minus = [(f @ np.array([s, t]) + x.mean[0], 0.25) for s in (-1, 1) for t in (-1, 1)]
    mean, raw = np.zeros(2), np.zeros((2, 2))
    for z in np.ndindex(*(2,) * 6):
        p = np.prod([atoms[k][1] for k in z])
        noise = np.array([atoms[k][0] for k in z])
        w = weight.mean + weight.scale * noise[:4].reshape(2, 2)
        b = bias.mean + bias.scale * noise[4:]
        for inputs, p_x in plus_minus:
            y = w @ inputs + b
            mean += p * p_x * y
            raw += p * p_x * np.outer(y, y)
    found = dense(x, weight, bias)
    np.testing.assert_allclose(found.mean[0], mean, rtol=1e-12)
    np.testing.assert_allclose(found.cov[0], raw - np.outer(mean, mean), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_correlations_that_round_beyond_one_are_full(sign):
    for a, b in ((0.3, 0.3), (1.0, -0.5)):
        # A billionth too great: unbounded, the covariance would be ΦΦ a billionth off.
        beyond, full = (of_pair(a, b, sign * rho) for rho in (1.0 + 1e-9, 1.0))
        assert beyond == pytest.approx(full, rel=1e-13, abs=0.0)
    # Inputs in proportion, as of one unit: covariances beyond √(v₁v₂) by rounding in some pairs.
    g = np.random.default_rng(0).standard_normal((1, 200))
    cov = np.swapaxes(g[..., None], 1, 2) * g[..., None]
    _, out = rectified_covariance(np.zeros((1, 200)), cov)
    # max(0, g_i z) and max(0, g_j z): of one sign a half-normal's variance, else E·E is left.
    same = np.sign(g[0, :, None]) == np.sign(g[0, None, :])
    size = np.abs(g[0, :, None] * g[0, None, :])
    want = size * np.where(same, 0.5 - 0.5 / np.pi, -0.5 / np.pi)
    np.testing.assert_allclose(out[0], want, rtol=1e-11)


def test_a_variance_that_cancels_is_not_negative():
    """Outputs that are the same difference of fully correlated inputs: 0, or rounding above it."""
    g = np.random.default_rng(0).standard_normal((50, 2))
    known = Posterior(np.array([[0.3, -0.1], [0.6, -0.2]]), np.zeros((2, 2)))
    none = Posterior(np.zeros(2), np.zeros(2))
    g[:, 1] = 3.0 * g[:, 0]
    var = dense(JointMoments(g, g[:, :, None] * g[:, None, :]), known, none).marginal.var
    assert var.min() == 0.0
    # Of each output four products (w g)² that cancel, and sums of them, round by 2⁻⁵³.
    assert (var <= 8.0 * 2.0**-53 * (g[:, :1] * [0.3, 0.6]) ** 2 * 4.0).all()


def a_network(*extra, law=None):
    return Network([Dense(6, 12), ReLU(), Dense(12, 12), ReLU(), Dense(12, 4), *extra], law=law)


def test_a_network_of_one_hidden_layer_is_that_of_the_diagonal_mode():
    """First outputs are independent, so that nothing is ignored but the outputs' covariance."""
    net = Network([Dense(3, 5), ReLU(), Dense(5, 2)])
    x = np.random.default_rng(0).standard_normal((7, 3))
    for inputs in (x, Moments(x, np.zeros_like(x))):
        full, diagonal = covariance.propagate(net, inputs), net.propagate(inputs)
        np.testing.assert_allclose(full.mean, diagonal.mean, rtol=1e-12)
        np.testing.assert_allclose(full.marginal.var, diagonal.var, rtol=1e-12)


def test_it_closes_the_gap_of_the_diagonal_mode():
    """Weights with positive means: what units share adds up. Against 20,000 samples."""
    net = a_network()
    net.set_parameters(
        {n: Posterior(np.abs(p.mean), 0.1 + 0 * p.scale) for n, p in net.parameters().items()}
    )
    x = np.random.default_rng(3).standard_normal((5, 6))
    spread = net.sample(x, 20_000, np.random.default_rng(4)).std(axis=0)
    full = np.sqrt(covariance.propagate(net, x).marginal.var) / spread
    diagonal = np.sqrt(net.propagate(x).var) / spread
    # At width 12 neither is exact: pre-activations of the second layer are not quite Gaussian.
    assert diagonal.max() < 1.0  # every covariance ignored is positive
    assert np.sqrt(np.mean((full - 1.0) ** 2)) < np.sqrt(np.mean((diagonal - 1.0) ** 2)) / 10


def test_blocks_and_images_and_known_inputs():
    net = Network([Flatten(), ReLU(), Dense(4, 3), ReLU(), Dense(3, 2)], input_shape=(1, 2, 2))
    x = np.random.default_rng(0).standard_normal((70, 1, 2, 2))
    whole = covariance.propagate(net, x)
    single = covariance.propagate(net, x[66:67])
    np.testing.assert_allclose(whole.cov[66:67], single.cov, rtol=1e-12)
    noisy = covariance.propagate(net, Moments(x, 0.1 + 0 * x))
    assert (noisy.marginal.var > whole.marginal.var).all()
    assert len(list(propagate_layers(net, x))) == 6
    assert covariance.propagate(net, x[:0]).cov.shape == (0, 2, 2)


def test_prediction():
    rng = np.random.default_rng(0)
    # Where logits are independent it is what `predict` says: the same to Monte Carlo error.
    net = Network([Dense(6, 4)])
    x = rng.standard_normal((10, 6))
    a = predict(net, x, method="full", n_samples=40_000)
    b = predict(net, x, method="pfp", n_samples=40_000)
    np.testing.assert_allclose(a.probabilities, b.probabilities, atol=5 * 0.5 / 200)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: covariance.propagate(a_network(Tanh()), np.zeros((1, 6))), "layer 5 is Tanh"),
        (lambda: covariance.propagate(Network([ReLU()]), np.zeros((1, 6))), "no dense layer"),
        (lambda: covariance.propagate(Network([Conv2d(1, 1, 3)]), np.zeros((1, 1, 5, 5))),
         "Conv2d"),
        (lambda: covariance.propagate(a_network(), np.zeros((1, 5))), "expected (6,)"),
        (lambda: covariance.propagate(Network([Dense(2, 1)], correlated=[0]), np.zeros((1, 2))),
         "correlated"),
        (lambda: covariance.propagate(a_network(), np.full((1, 6), np.nan)), "NaN"),
        (lambda: JointMoments(np.zeros((1, 2)), np.zeros((1, 2))), "(B, n, n)"),
        (lambda: JointMoments(np.zeros((1, 1)), -np.ones((1, 1, 1))), "negative variance"),
        (lambda: predict(a_network(), np.zeros((1, 6)), method="full", n_samples=1), "at least 2"),
    ],
)  # fmt: skip
def test_wrong_input_is_refused(call, said):
    with pytest.raises(InputError) as error:
        call()
    assert said in str(error.value)
    assert "\n" not in str(error.value)
