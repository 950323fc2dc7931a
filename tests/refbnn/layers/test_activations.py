import mpmath as mp
import numpy as np
import pytest
from scipy.special import owens_t
from scipy.stats import norm

from refbnn import InputError, Moments
from refbnn.layers import ELU, GELU, LeakyReLU, Sigmoid, Tanh
from verification import activations

LAYERS = [LeakyReLU(), LeakyReLU(-0.5), Sigmoid(), Tanh(), GELU(), ELU(), ELU(1.7)]


def exact(layer, x):
    """y for an mpmath number x, by the definitions."""
    match layer:
        case LeakyReLU(slope=slope):
            return x if x > 0 else mp.mpf(slope) * x
        case Sigmoid():
            return 1 / (1 + mp.exp(-x))
        case Tanh():
            return mp.tanh(x)
        case GELU():
            return x * mp.erfc(-x / mp.sqrt(2)) / 2
        case ELU(alpha=alpha):
            return x if x > 0 else mp.mpf(alpha) * mp.expm1(x)


POINTS = np.concatenate([np.linspace(-30, 30, 61), [-100.0, -1e-3, 1e-3, 100.0]])
POINTS = POINTS[POINTS != 0]  # kinks


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_forward_and_backward_against_mpmath(layer):
    """Relative errors: rounding, times x² where Φ(x) and φ(x) fall as e^{−x²/2}; sums of a few."""
    y = layer.forward(POINTS, {})
    grad_x = layer.backward(POINTS, {}, np.full(POINTS.shape, 2.0))[0]
    for x, got, got_grad in zip(POINTS, y, grad_x, strict=True):
        with mp.workdps(120):
            want = exact(layer, mp.mpf(x))
            want_grad = 2 * mp.diff(lambda t: exact(layer, t), mp.mpf(x), h=mp.mpf(10) ** -40)
        # Below 1e-300 a double holds fewer digits.
        assert got == pytest.approx(float(want), rel=2e-13, abs=1e-300)
        assert got_grad == pytest.approx(float(want_grad), rel=2e-13, abs=1e-300)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_float32_is_kept_and_nothing_warns(layer):
    x = np.array([-3e38, -1e20, -100, -1, -1e-40, 0, 1e-40, 1, 100, 1e20, 3e38], np.float32)
    y = layer.forward(x, {})
    grad_x = layer.backward(x, {}, np.ones_like(x))[0]
    assert y.dtype == grad_x.dtype == np.float32
    assert np.isfinite(y).all()
    assert np.isfinite(grad_x).all()
    # Two roundings to 24 bits and one of the function.
    np.testing.assert_allclose(y, layer.forward(x.astype(float), {}), rtol=3e-7, atol=1e-37)
    want = layer.backward(x.astype(float), {}, np.ones(x.shape))[0]
    np.testing.assert_allclose(grad_x, want, rtol=1e-6, atol=1e-37)
    assert np.isnan(layer.forward(np.array([np.nan], np.float32), {})).all()


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_shapes_and_sample_axes(layer):
    rng = np.random.default_rng(0)
    assert layer.parameter_shapes() == {}
    assert layer.output_shape((3, 4, 5)) == (3, 4, 5)
    x, g = rng.standard_normal((3, 4)), rng.standard_normal((6, 3, 4))
    got = layer.backward(x, {}, g)[0]
    for s in range(6):
        np.testing.assert_array_equal(got[s], layer.backward(x, {}, g[s])[0])


def test_at_the_kink_the_left_derivative_counts():
    zero, one = np.zeros(1), np.ones(1)
    assert LeakyReLU(0.25).backward(zero, {}, one)[0] == 0.25
    assert ELU(1.7).backward(zero, {}, one)[0] == 1.7


@pytest.mark.parametrize("layer", [LeakyReLU, ELU])
def test_bad_fields_are_refused(layer):
    for bad in (np.nan, np.inf):
        with pytest.raises(InputError, match="finite"):
            layer(bad)


def test_numpy_fields_do_not_widen():
    x = np.ones(2, np.float32)
    assert LeakyReLU(np.float64(0.1)).forward(-x, {}).dtype == np.float32
    assert ELU(np.float64(0.1)).forward(-x, {}).dtype == np.float32


def normal_pdf(x):
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


def normal_cdf(x):
    return mp.erfc(-x / mp.sqrt(2)) / 2


def leaky_moments(m, v, slope):
    """From E[xᵏ; x > 0] and E[xᵏ; x < 0]."""
    s, a = mp.sqrt(v), m / mp.sqrt(v)
    e1 = m * normal_cdf(a) + s * normal_pdf(a)
    e2 = (m * m + v) * normal_cdf(a) + m * s * normal_pdf(a)
    mean = e1 + slope * (m - e1)
    return mean, e2 + slope**2 * (m * m + v - e2) - mean**2


def elu_moments(m, v, alpha):
    """The closed form; its cancellation costs a few hundred digits at most."""
    s, a = mp.sqrt(v), m / mp.sqrt(v)
    i0, i1, i2 = (mp.exp(k * m + k * k * v / 2) * normal_cdf(-(m + k * v) / s) for k in range(3))
    e1 = m * normal_cdf(a) + s * normal_pdf(a)
    e2 = (m * m + v) * normal_cdf(a) + m * s * normal_pdf(a)
    mean = e1 + alpha * (i1 - i0)
    return mean, e2 + alpha**2 * (i2 - 2 * i1 + i0) - mean**2


def gelu_moments(m, v):
    """The closed form, with G = E[Φ²] = (1/π)∫ exp(−h²(1 + x²)/2)/(1 + x²) dx from 1/s₂ on."""
    s1, s2 = mp.sqrt(1 + v), mp.sqrt(1 + 2 * v)
    h, b = m / s1, 1 / s2
    steps = [mp.sqrt(b * b + 2 * e / h**2) for e in (0, 2, 8, 30, 160)]
    steps = sorted({*steps, *(end for k in range(6) if (end := b + mp.mpf(4) ** k) < steps[-1])})
    # The first factor apart: the tolerance of mp.quad is an absolute one.
    # 48 nodes a piece: no piece is long beside its distance from the poles at x = ±i.
    g, error = mp.quad(
        lambda x: mp.exp(-h * h * (x - b) * (x + b) / 2) / (1 + x * x),
        steps,
        method="gauss-legendre",
        maxdegree=5,
        error=True,
    )
    below = mp.exp(-h * h * (1 + b * b) / 2) / mp.pi
    g, error = g * below, error * below
    if h > 0:
        g += normal_cdf(h) - normal_cdf(-h)
    dg = 2 * normal_pdf(h) / s1 * normal_cdf(m / s1 / s2)
    d2g = 2 * normal_pdf(h) / s1
    d2g *= normal_pdf(m / s1 / s2) / s1 / s2 - h / s1 * normal_cdf(m / s1 / s2)
    mean = m * normal_cdf(h) + v / s1 * normal_pdf(h)
    var = (m * m + v) * g + 2 * m * v * dg + v * v * d2g - mean**2
    assert (m * m + v) * error <= 1e-15 * var
    return mean, var


def relative_errors(layer, exact_moments, digits, m, v):
    got = layer.moments(Moments(m, v), {})
    errors = []
    with mp.workdps(digits):
        for i in range(m.size):
            mean, var = exact_moments(mp.mpf(m[i]), mp.mpf(v[i]))
            if var > mp.mpf(10) ** -300:
                errors.append([abs(got.mean[i] / mean - 1), abs(got.var[i] / var - 1)])
    return np.array(errors, float)


A_GRID = np.array([-35, -25, -14, -6.1, -3, -1.3, -0.4, 0.2, 1, 2.7, 5, 11, 35])
V_GRID = np.array([1e-6, 1e-2, 1.0, 30.0, 1e4])


@pytest.mark.parametrize("slope", [0.01, 0.0, 1e-9, 0.999, -0.3, -1.0, 3.0])
def test_leaky_relu_moments(slope):
    a = np.concatenate([A_GRID, [-1e-9, 1e-9]])
    with mp.workdps(600):
        slope_exact = mp.mpf(slope)
        errors = relative_errors(
            LeakyReLU(slope), lambda m, v: leaky_moments(m, v, slope_exact), 600, a, np.ones(a.size)
        )
    assert len(errors) >= 14
    # As stated: that of Φ(−35); no point lies at the zero of a mean.
    assert errors.max() < 2e-12


@pytest.mark.parametrize("alpha", [1.0, 0.2])
def test_elu_moments(alpha):
    a, v = (grid.ravel() for grid in np.meshgrid(A_GRID, V_GRID))
    with mp.workdps(600):
        alpha_exact = mp.mpf(alpha)
        errors = relative_errors(
            ELU(alpha), lambda m, v: elu_moments(m, v, alpha_exact), 600, a * np.sqrt(v), v
        )
    assert len(errors) > 55
    assert errors.max() < 1e-12


def test_gelu_moments():
    """h = m/√(1 + v) in [−35, 35], and the region where the function has its least value."""
    h, v = (grid.ravel() for grid in np.meshgrid(A_GRID, V_GRID[::2]))
    m, more = h * np.sqrt(1 + v), np.linspace(-12, 3, 17)
    m, v = np.append(m, more), np.append(v, np.full(17, 1e-6))
    errors = relative_errors(GELU(), gelu_moments, 80, m, v)
    assert len(errors) > 45
    assert errors.max() < 1e-12


# Each loses digits without one of the knots −12, −9, −6, −3, 3, 9, with 32 for the fall on a panel,
# and with 0.001, with 1 or with two nodes for the differences of close points.
GELU_POINTS = np.array(
    [
        (-69.78, 3.61), (-91.5, 6.25), (-80.8, 6.25), (-63.2, 9.0), (-19.0, 9.0), (-180.0, 900.0),
        (-2000.0, 1e4), (-14.0, 4.4e-9), (0.05, 0.44), (-22.0, 4.7e-6),
    ]
)  # fmt: skip


def test_gelu_moments_where_its_rule_is_put_to_the_test():
    errors = relative_errors(GELU(), gelu_moments, 80, *GELU_POINTS.T)
    assert len(errors) == len(GELU_POINTS)
    assert errors[:, 0].max() < 1e-12
    # Of the variance, twice what the module states as measured.
    assert errors[:, 1].max() < 2e-13


def gelu_variance(m, v):
    """E[y²] − E[y]² by Owen's T (Owen 1956), accurate where v is near 1 and m > −3.

    E[y²] = (m² + v)G + 2mvG′ + v²G″, G = E[Φ(x)²] = Φ(h) − 2T(h, 1/s₂), s₁ = √(1 + v),
    s₂ = √(1 + 2v), h = m/s₁, G′ = 2φ(h)/s₁ Φ(m/(s₁s₂)), G″ = dG′/dm.
    """
    s1, s2 = np.sqrt(1.0 + v), np.sqrt(1.0 + 2.0 * v)
    h, b = m / s1, m / (s1 * s2)
    phi, cdf = norm.pdf, norm.cdf
    g = cdf(h) - 2.0 * owens_t(h, 1.0 / s2)
    dg = 2.0 * phi(h) / s1 * cdf(b)
    d2g = 2.0 * phi(h) / s1 * (phi(b) / (s1 * s2) - h / s1 * cdf(b))
    return (m**2 + v) * g + 2.0 * m * v * dg + v**2 * d2g - (m * cdf(h) + v / s1 * phi(h)) ** 2


def test_gelu_variance_by_owens_t():
    m, v = (grid.ravel() for grid in np.meshgrid(np.linspace(-3, 5, 17), [0.1, 1.0, 10.0]))
    # Terms of up to 35 that leave 1e-2: rounding times some 1e4.
    got = GELU().moments(Moments(m, v), {}).var
    np.testing.assert_allclose(gelu_variance(m, v), got, rtol=2e-12, atol=3e-14)


def sigmoid_by_trapezoid(m, v, slope):
    """E[σ(kx)] and its variance: trapezoidal rule in z, in extended precision.

    The poles lie π/(ks) from the real line: a step h leaves e^{−2π²/(ksh)} < e^{−78}.
    """
    m, s = np.longdouble(m), np.sqrt(np.longdouble(v))
    step = min(0.1, 0.25 / float(slope * s))
    z = step * np.arange(-15.0 / step, (15.0 + max(0.0, -float(m / s))) / step).astype(
        np.longdouble
    )
    weight = np.exp(-z * z / 2)
    weight /= weight.sum()
    y = 1 / (1 + np.exp(-slope * (m + s * z)))
    mean = (weight * y).sum()
    return mean, (weight * (y - mean) ** 2).sum()


@pytest.mark.skipif(bool(np.finfo(np.longdouble).eps > 1e-18), reason="no extended precision")
@pytest.mark.parametrize("a", [-34.0, -12.0, -4.0, -1.0, -0.1, 0.0])
@pytest.mark.parametrize("v", [1e-6, 1e-2, 1.0, 30.0, 1e4])
def test_sigmoid_and_tanh_moments(a, v):
    m = a * np.sqrt(v)
    for sign in (-1.0, 1.0):
        x = Moments(np.array([-sign * m]), np.array([v]))
        mean, var = sigmoid_by_trapezoid(m, v, 1)
        got = Sigmoid().moments(x, {})
        want = mean if sign < 0 else 1 - mean
        assert abs(got.var[0] / var - 1) < 1e-12 or var < 1e-300
        assert abs(got.mean[0] / want - 1) < 1e-12
        mean, var = sigmoid_by_trapezoid(m, v, 2)
        got = Tanh().moments(x, {})
        assert abs(got.var[0] / (4 * var) - 1) < 1e-12 or var < 1e-300
        assert abs(got.mean[0] + sign * (2 * mean - 1)) < 1e-15


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_limits_and_extremes(layer):
    """No NaN, no warning; no variance or a tiny one gives the function and its slope."""
    m = np.array([-3.0, -0.2, 0.3, 3.0])
    known = layer.moments(m, {})
    np.testing.assert_array_equal(known.var, 0)
    # To rounding: the mean of GELU is a difference of two terms at m = −3.
    np.testing.assert_allclose(known.mean, layer.forward(m, {}), rtol=3e-15)
    tiny = layer.moments(Moments(m, np.full(4, 1e-300)), {})
    np.testing.assert_allclose(tiny.mean, layer.forward(m, {}), rtol=3e-15)
    slope = layer.backward(m, {}, np.ones(4))[0]
    np.testing.assert_allclose(tiny.var, 1e-300 * slope**2, rtol=1e-12)

    m, v = (grid.ravel() for grid in np.meshgrid(EXTREME_MEANS, EXTREME_VARIANCES))
    got = layer.moments(Moments(m, v), {})  # refuses NaN, infinity and negative variances
    linear = (m > 0) & (m >= 1e8 * np.sqrt(v))
    if isinstance(layer, LeakyReLU | GELU | ELU):
        np.testing.assert_allclose(got.mean[linear], m[linear], rtol=1e-15)
        # A sum of parts of the least positive number is 0.
        np.testing.assert_allclose(got.var[linear], v[linear], rtol=1e-12, atol=1e-323)


EXTREME_MEANS = np.array([-1e300, -1e8, -50, 0, 50, 1e8, 1e300])
EXTREME_VARIANCES = np.array([0, 5e-324, 1e-300, 1e-20, 1, 1e16, 1e300])


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_moments_keep_shapes_and_are_shared_by_types(layer):
    rng = np.random.default_rng(1)
    mean = rng.standard_normal((2, 3, 4)).astype(np.float32)
    var = rng.uniform(0, 1, (2, 3, 4)).astype(np.float32)
    narrow = layer.moments(Moments(mean, var), {})
    wide = layer.moments(Moments(mean.astype(float), var.astype(float)), {})
    assert narrow.shape == (2, 3, 4)
    np.testing.assert_allclose(narrow.mean, wide.mean, rtol=1e-6, atol=1e-6)
    turned = layer.moments(Moments(mean.T.astype(float), var.T.astype(float)), {})
    np.testing.assert_array_equal(turned.var.T, wide.var)


@pytest.mark.parametrize("number", range(5))
def test_verification_sees_a_wrong_variance(monkeypatch, number):
    """Every variance wrong by 10 %: fifteen standard errors and more at 50,000 samples."""
    layer = (LeakyReLU, Sigmoid, Tanh, GELU, ELU)[number]
    right = layer.moments

    def wrong(self, x, posteriors):
        got = right(self, x, posteriors)
        return Moments(got.mean, 1.1 * got.var)

    monkeypatch.setattr(layer, "moments", wrong)
    checks = activations.check(50_000, np.random.default_rng(0))
    assert [not check.holds for check in checks] == [i == number for i in range(5)]
