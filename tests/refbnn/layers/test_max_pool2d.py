import mpmath as mp
import numpy as np
import pytest
from scipy.integrate import quad, simpson
from scipy.special import log_ndtr
from scipy.stats import norm

from refbnn import InputError, Moments
from refbnn.layers import MaxPool2d
from refbnn.layers.images.windows import padded, windows
from refbnn.layers.moments import deterministic
from refbnn.numerics import gaussian_maximum as maximum
from refbnn.numerics.normal import rectified_moments
from verification import max_pool2d as verification

CASES = [
    # kernel, stride, padding, image
    ((2, 2), (2, 2), (0, 0), (6, 8)),
    ((2, 2), (2, 2), (0, 0), (7, 5)),  # a row and a column are left over
    ((3, 3), (2, 2), (1, 1), (7, 7)),  # overlapping, partly in the padding
    ((3, 2), (1, 3), (1, 0), (4, 9)),
    ((5, 4), (2, 1), (2, 2), (3, 2)),  # larger than the image
    ((1, 1), (2, 3), (0, 0), (5, 5)),
]


def by_windows(x, kernel, stride, padding):
    """Greatest entry of every window; x (..., H, W) -> (..., OH, OW)."""
    return windows(padded(x, padding, -np.inf), kernel, stride).max(axis=(-2, -1))


def backward_by_windows(x, grad_y, kernel, stride, padding):
    """∂L/∂x (..., H, W) from x (..., H, W) and g = ∂L/∂y (..., OH, OW)."""
    window = windows(padded(x, padding, -np.inf), kernel, stride)
    first = window.reshape(*window.shape[:-2], -1).argmax(axis=-1)
    a, b = np.divmod(first, kernel[1])
    *leading, i, j = np.indices(first.shape, sparse=True)
    (p, q), (s, t) = padding, stride
    grad_x = np.zeros(x.shape, grad_y.dtype)
    # Where all of a window is −∞, the first is one of padding: moved inside, as in the loops.
    row, column = np.maximum(s * i - p + a, 0), np.maximum(t * j - q + b, 0)
    np.add.at(grad_x, (*leading, row, column), grad_y)
    return grad_x


def written_out(x, kernel, stride, padding):
    """Value and place of every window's first maximum, by Python loops over one image."""
    height, width = x.shape
    found = []
    for top in range(-padding[0], height + padding[0] - kernel[0] + 1, stride[0]):
        for left in range(-padding[1], width + padding[1] - kernel[1] + 1, stride[1]):
            inside = [
                (r, c)
                for r in range(top, top + kernel[0])
                for c in range(left, left + kernel[1])
                if 0 <= r < height and 0 <= c < width
            ]
            place = max(inside, key=lambda at: x[at])  # the first of equals
            found.append((x[place], place))
    return found


def images(rng, shape, dtype=float):
    """Few values, so that many windows hold ties."""
    return rng.integers(-2, 3, shape).astype(dtype)


@pytest.mark.parametrize(("kernel", "stride", "padding", "image"), CASES)
def test_three_ways_agree_exactly(kernel, stride, padding, image):
    rng = np.random.default_rng(0)
    x = images(rng, (2, 3, *image))
    layer = MaxPool2d(kernel, stride, padding)
    y = layer.forward(x, {})
    assert y.shape == (2, *layer.output_shape(x.shape[1:]))
    g = images(rng, y.shape)  # whole numbers add up exactly in any order
    grad_x = layer.backward(x, {}, g)[0]
    np.testing.assert_array_equal(by_windows(x, kernel, stride, padding), y)
    np.testing.assert_array_equal(backward_by_windows(x, g, kernel, stride, padding), grad_x)
    for n in range(2):
        for channel in range(3):
            found = written_out(x[n, channel], kernel, stride, padding)
            want = np.zeros(image)
            for (value, place), got, grad in zip(
                found, y[n, channel].ravel(), g[n, channel].ravel(), strict=True
            ):
                assert got == value
                want[place] += grad
            np.testing.assert_array_equal(grad_x[n, channel], want)


@pytest.mark.parametrize(("kernel", "stride", "padding", "image"), CASES)
def test_backward_matches_central_differences(kernel, stride, padding, image):
    """Distinct entries, 1 apart: a step of 0.25 changes no maximum, so differences are exact."""
    rng = np.random.default_rng(1)
    x = rng.permutation(np.arange(2.0 * np.prod(image))).reshape(1, 2, *image)
    layer = MaxPool2d(kernel, stride, padding)
    g = images(rng, layer.forward(x, {}).shape)
    grad_x = layer.backward(x, {}, g)[0]
    for index in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[index] = 0.25
        change = (g * (layer.forward(x + step, {}) - layer.forward(x - step, {}))).sum()
        assert grad_x[index] == change / 0.5


def test_infinite_entries_keep_their_place():
    """A window of nothing but −∞ still has a first entry."""
    x = np.full((1, 1, 3, 3), -np.inf)
    layer = MaxPool2d(3, 2, 1)
    y = layer.forward(x, {})
    np.testing.assert_array_equal(y, -np.inf)
    grad_x = layer.backward(x, {}, np.array([[[[1.0, 2.0], [3.0, 4.0]]]]))[0]
    np.testing.assert_array_equal(grad_x[0, 0], [[1, 2, 0], [3, 4, 0], [0, 0, 0]])
    want = backward_by_windows(x, np.ones((1, 1, 2, 2)), (2, 2), (1, 1), (0, 0))
    got = MaxPool2d(2, 1).backward(x, {}, np.ones((1, 1, 2, 2)))[0]
    np.testing.assert_array_equal(got, want)


def test_a_window_of_infinity_and_padding_alone():
    """The first entry of such a window is padding; its gradient goes to the first one inside."""
    x = np.full((1, 4, 4), -np.inf)
    x[0, 3, 3] = 1.0
    g = np.arange(1.0, 10.0).reshape(1, 3, 3)
    expected = np.zeros((4, 4))
    for i in range(3):
        for j in range(3):
            inside = [
                (r, c)
                for r in (2 * i - 1, 2 * i)
                for c in (2 * j - 1, 2 * j)
                if 0 <= r < 4 and 0 <= c < 4
            ]
            expected[max(inside, key=lambda place: x[0][place])] += g[0, i, j]
    sizes = (2, 2), (2, 2), (1, 1)
    np.testing.assert_array_equal(backward_by_windows(x, g, *sizes)[0], expected)
    by_loops, _ = MaxPool2d(2, 2, padding=1).backward(x, {}, g)
    np.testing.assert_array_equal(by_loops[0], expected)


@pytest.mark.parametrize("place", range(4))
def test_nan_is_let_through_and_takes_the_gradient(place):
    x = np.array([3.0, np.inf, -np.inf, 3.0])
    x[place] = np.nan
    x = x.reshape(1, 1, 2, 2)
    assert np.isnan(MaxPool2d(2).forward(x, {})).all()
    assert np.isnan(by_windows(x, (2, 2), (2, 2), (0, 0))).all()
    g = np.full((1, 1, 1, 1), 5.0)
    want = np.where(np.isnan(x), 5.0, 0.0)
    np.testing.assert_array_equal(MaxPool2d(2).backward(x, {}, g)[0], want)
    np.testing.assert_array_equal(backward_by_windows(x, g, (2, 2), (2, 2), (0, 0)), want)


def test_sample_axes_types_and_strides_of_arrays():
    rng = np.random.default_rng(2)
    x = images(rng, (4, 2, 3, 6, 6), np.float32)
    layer = MaxPool2d(3, 2, 1)
    y = layer.forward(x, {})
    g = images(rng, y.shape, np.float32)
    grad_x = layer.backward(x, {}, g)[0]
    assert y.dtype == grad_x.dtype == np.float32
    for s in range(4):
        np.testing.assert_array_equal(layer.forward(x[s], {}), y[s])
        np.testing.assert_array_equal(layer.backward(x[s], {}, g[s])[0], grad_x[s])
        # One input for all samples of what follows.
        shared = layer.backward(x[0], {}, g)[0]
        np.testing.assert_array_equal(layer.backward(x[0], {}, g[s])[0], shared[s])
    turned = np.swapaxes(x, -1, -2)  # not contiguous
    np.testing.assert_array_equal(layer.forward(turned, {}), np.swapaxes(y, -1, -2))


def test_sizes():
    assert MaxPool2d(2) == MaxPool2d((2, 2), (2, 2), (0, 0))
    assert MaxPool2d(3, 2, 1).output_shape((6, 28, 28)) == (6, 14, 14)
    assert MaxPool2d((2, 3), (1, 2)).output_shape((1, 5, 7)) == (1, 4, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0,), "kernel_size is 0"),
        (((2, 2, 2),), "or a pair"),
        ((2.0,), "whole number"),
        ((True,), "whole number"),
        ((2, 0), "stride is 0"),
        ((2, 1, -1), "padding is -1"),
        ((3, 1, 2), "at most half"),
        (((2, 1), 1, (1, 1)), "at most half"),
    ],
)
def test_bad_sizes_are_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        MaxPool2d(*arguments)


@pytest.mark.parametrize("shape", [(3, 3), (1, 1, 3), (2, 1, 4, 4)])
def test_bad_inputs_are_refused(shape):
    with pytest.raises(InputError, match=r"input has shape|image of"):
        MaxPool2d(2).output_shape(shape)


def standardised(mean, var, want_mean, want_var):
    """Largest error of the mean in standard deviations, and of the variance, relative."""
    error = np.abs(mean - want_mean) / np.sqrt(want_var)
    return max(error.max(), np.abs(var / want_var - 1).max())


def order_statistic(k):
    """Mean and variance of the greatest of k N(0, 1), by SciPy's quad of k φ Φᵏ⁻¹."""

    def moment(p):
        def integrand(x):
            return x**p * k * norm.pdf(x) * norm.cdf(x) ** (k - 1)

        return quad(integrand, -12, 12, epsabs=1e-13, epsrel=1e-13, limit=200)[0]

    return moment(1), moment(2) - moment(1) ** 2


@pytest.mark.parametrize("k", [1, 2, 3, 4, 9, 16])
def test_greatest_of_equals_is_the_order_statistic(k):
    known = {  # closed forms (Jones 1948)
        1: (0.0, 1.0),
        2: (np.pi**-0.5, 1 - 1 / np.pi),
        3: (1.5 * np.pi**-0.5, 1 + (np.sqrt(3) / 2 - 9 / 4) / np.pi),
    }
    want = known.get(k) or order_statistic(k)
    m, v = maximum.exact(np.full((1, k), 5.0), np.full((1, k), 4.0))
    assert standardised(m, v, 5 + 2 * want[0], 4 * want[1]) < 1e-11


def test_four_equals_by_two_ways():
    """The variances 0.4647 and 0.4917 that tell tree and truth apart."""
    x = np.zeros((1, 4)), np.ones((1, 4))
    assert maximum.tree(*x)[1][0] == pytest.approx(0.4647, abs=5e-5)
    assert maximum.exact(*x)[1][0] == pytest.approx(0.4917, abs=5e-5)


def clark(m1, v1, m2, v2):
    """Clark 1961, equations 2 and 3, as printed, 60 digits."""
    with mp.workdps(60):
        m1, v1, m2, v2 = map(mp.mpf, (m1, v1, m2, v2))
        theta = mp.sqrt(v1 + v2)
        alpha = (m1 - m2) / theta
        phi, cdf = mp.npdf(alpha), mp.ncdf(alpha)
        mean = m1 * cdf + m2 * (1 - cdf) + theta * phi
        second = (m1**2 + v1) * cdf + (m2**2 + v2) * (1 - cdf) + (m1 + m2) * theta * phi
        return mean, second - mean**2


def some_windows(rng, n, k, decades):
    mean = rng.standard_normal((n, k)) * 10.0 ** rng.uniform(-2, 1, (n, 1))
    return mean, 10.0 ** rng.uniform(-decades, decades, (n, k))


def test_two_are_those_of_clark():
    mean, var = some_windows(np.random.default_rng(3), 200, 2, 4)
    want = np.array([clark(*x) for x in np.stack([mean, var], -1).reshape(-1, 4)], float)
    pair = maximum.pair(mean[:, 0], var[:, 0], mean[:, 1], var[:, 1])
    assert standardised(*pair, *want.T) < 1e-12
    assert standardised(*maximum.exact(mean, var), *want.T) < 1e-11


def test_variance_of_two_survives_far_from_zero():
    """Means near 1e8, where E[x²] − E[x]² in doubles is off by all of the variance."""
    args = (1e8, 1.0, 1e8 + 0.5, 2.0)
    got = maximum.pair(*(np.array([a]) for a in args))
    assert got[1][0] == pytest.approx(float(clark(*args)[1]), rel=1e-14)


@pytest.mark.parametrize("k", [3, 4, 5, 9])
def test_tree_by_hand(k):
    mean, var = some_windows(np.random.default_rng(4), 3, k, 1)
    for m, v, tree in zip(mean, var, np.stack(maximum.tree(mean, var), -1), strict=True):
        entries = list(zip(m, v, strict=True))
        while len(entries) > 1:
            pairs = [clark(*p, *q) for p, q in zip(entries[:-1:2], entries[1::2], strict=True)]
            entries = pairs + ([entries[-1]] if len(entries) % 2 else [])
        np.testing.assert_allclose(tree, np.array(entries[0], float), rtol=1e-12)


def by_brute_force(mean, scale):
    """Mean and variance from 1 − F and F by a million panels of Simpson's rule on either side.

    E[M] = c + ∫_c (1 − F) − ∫^c F, E[(M − c)²] = 2∫_c (x − c)(1 − F) + 2∫^c (c − x)F: another form
    than the density's, and log Φ from SciPy. A geometric grid resolves every scale near c.
    """
    c = mean.max()
    distance = np.concatenate([[0.0], np.geomspace(1e-9, 12 * scale.max() + np.ptp(mean), 400_001)])
    total = np.zeros(2)
    for side in (-1, 1):
        x = side * distance
        z = (x[:, np.newaxis] + (c - mean)) / scale
        log_f = log_ndtr(z).sum(axis=1)
        tail = -np.expm1(log_f) if side > 0 else np.exp(log_f)
        total += [side * simpson(tail, x=distance), 2 * simpson(distance * tail, x=distance)]
    return c + total[0], total[1] - total[0] ** 2


@pytest.mark.parametrize("k", [3, 4, 9, 16])
def test_exact_maximum_against_another_integral(k):
    rng = np.random.default_rng(5)
    for decades in (0.3, 3):
        mean, var = some_windows(rng, 2, k, decades)
        mean[1] = mean[1, 0]  # ties
        for m, v in zip(mean, var, strict=True):
            got = maximum.exact(m[np.newaxis], v[np.newaxis])
            # Simpson's rule at steps of 1e-4 in the logarithm.
            assert standardised(*got, *by_brute_force(m, np.sqrt(v))) < 1e-10


def test_a_known_entry_makes_it_rectified():
    """max(c, X) = c + max(0, X − c): a jump of the distribution function, in both tails."""
    a = np.linspace(-35, 35, 141)
    for mean, var in zip((3.0 + 2 * a, 1e-9 * a - 7), (4.0, 1e-18), strict=True):
        floor = 3.0 if var == 4.0 else -7.0
        # The Gaussian last: before it, tree meets known entries alone.
        x = np.stack([np.full(141, floor), np.full(141, floor - 1), mean], -1)
        v = np.stack([np.zeros(141), np.zeros(141), np.full(141, var)], -1)
        want = rectified_moments(mean - floor, np.full(141, var))
        for method in (maximum.exact, maximum.tree):
            got = method(x, v)
            np.testing.assert_allclose(got[0], floor + want[0], rtol=1e-12)
            np.testing.assert_allclose(got[1], want[1], rtol=1e-11)


@pytest.mark.parametrize(
    ("k", "rms", "most", "mean_rms", "mean_most"),
    [(4, 0.086, 0.227, 0.007, 0.027), (9, 0.189, 0.357, 0.023, 0.061)],
)
def test_the_stated_errors_of_tree(k, rms, most, mean_rms, mean_most):
    """The module's table holds in windows of another seed.

    Of 10,000 windows 1 % ± 0.1 % exceed the 99 % quantile; four standard errors.
    """
    rng = np.random.default_rng(1)
    mean, var = rng.standard_normal((10_000, k)), rng.uniform(0.1, 2.0, (10_000, k))
    exact, exact_var = maximum.exact(mean, var)
    got, got_var = maximum.tree(mean, var)
    of_var, of_mean = np.abs(got_var / exact_var - 1.0), np.abs(got - exact) / np.sqrt(exact_var)
    assert np.mean(of_var > most) == pytest.approx(0.01, abs=0.004)
    # Stated to 0.0005 only, in a tail that falls by 1/e over some 0.004: 0.001 of the share more.
    assert np.mean(of_mean > mean_most) == pytest.approx(0.01, abs=0.005)
    # A kurtosis below 10 makes the standard error of a root mean square ½√(9/10,000) = 1.5 %.
    assert np.sqrt(np.mean(of_var**2)) == pytest.approx(rms, rel=0.06, abs=5e-4)
    assert np.sqrt(np.mean(of_mean**2)) == pytest.approx(mean_rms, rel=0.06, abs=5e-4)


@pytest.mark.parametrize("method", ["exact", "tree"])
def test_limits_are_exact(method):
    cases = [
        # means, variances, mean and variance of the greatest
        ([1.0, 2.0, 2.0, -3.0], [0, 0, 0, 0], 2.0, 0.0),
        ([5.0, 5.0, 5.0, 5.0], [0, 0, 0, 0], 5.0, 0.0),
        ([1e300, 0.0, -1e300, 0.0], [1.0, 1.0, 0.0, 1e300], 1e300, 1.0),
        ([1e8, 0.0, 1.0, 2.0], [1e-300, 1.0, 0.0, 1e-300], 1e8, 1e-300),
        ([0.0, -1.0, -1.0, -1.0], [1e-300, 0.0, 1e-300, 1e-300], 0.0, 1e-300),
        ([-np.inf, 2.0, -np.inf, -np.inf], [0, 3.0, 0, 0], 2.0, 3.0),
    ]
    mean, var, want_mean, want_var = (np.array(part) for part in zip(*cases, strict=True))
    got = getattr(maximum, method)(mean, var)
    # The stated error of "exact"; the others are met to rounding.
    allowed = (3e-12 if method == "exact" else 0) * np.sqrt(want_var) + 1e-15 * np.abs(want_mean)
    assert (np.abs(got[0] - want_mean) <= allowed).all()
    np.testing.assert_allclose(got[1], want_var, rtol=3e-12)
    rng = np.random.default_rng(6)
    mean = rng.standard_normal((5000, 4)) * 10.0 ** rng.uniform(-200, 100, (5000, 4))
    var = 10.0 ** rng.uniform(-300, 200, (5000, 4)) * rng.integers(0, 2, (5000, 4))
    m, v = getattr(maximum, method)(mean, var)
    assert np.isfinite(m).all()
    assert (v >= 0).all()
    assert (v <= 1.000001 * var.max(axis=1)).all()


@pytest.mark.parametrize("method", ["exact", "tree"])
@pytest.mark.parametrize(("kernel", "stride", "padding", "image"), CASES)
def test_moments_of_every_window(kernel, stride, padding, image, method):
    """Each output from the entries of its window that lie in the image, in row order."""
    rng = np.random.default_rng(7)
    layer = MaxPool2d(kernel, stride, padding, method)
    x = Moments(rng.standard_normal((2, 2, *image)), rng.uniform(0, 2, (2, 2, *image)))
    got = layer.moments(x, {})
    assert got.shape == (2, *layer.output_shape(x.shape[1:]))
    padded_mean, padded_var = (
        np.pad(part, [(0, 0)] * 2 + [(p, p) for p in padding], constant_values=value)
        for part, value in ((x.mean, -np.inf), (x.var, 0.0))
    )
    for index in np.ndindex(got.shape):
        top, left = index[2] * stride[0], index[3] * stride[1]
        rows, columns = slice(top, top + kernel[0]), slice(left, left + kernel[1])
        m = padded_mean[index[0], index[1], rows, columns].reshape(1, -1)
        v = padded_var[index[0], index[1], rows, columns].reshape(1, -1)
        want = getattr(maximum, method)(m, v)
        assert (got.mean[index], got.var[index]) == pytest.approx((want[0][0], want[1][0]), 1e-13)
        if method == "exact":
            want = maximum.exact(m[m > -np.inf][np.newaxis], v[m > -np.inf][np.newaxis])
            assert got.var[index] == pytest.approx(want[1][0], rel=1e-11)


def test_known_inputs_have_no_variance():
    x = np.random.default_rng(8).standard_normal((2, 1, 4, 4))
    layer = MaxPool2d(2)
    for known in (layer.moments(x, {}), layer.moments(deterministic(x), {})):
        np.testing.assert_array_equal(known.mean, layer.forward(x, {}))
        np.testing.assert_array_equal(known.var, 0)


def test_unknown_method_is_refused():
    for method in ("best", "chain"):
        with pytest.raises(InputError, match=f"'{method}' is unknown; expected one of: window"):
            MaxPool2d(2, method=method)


def test_verification_tells_clark_from_the_truth(monkeypatch):
    """Clark's variance of four equals is 5 % too small: nine standard errors at 50,000 samples."""
    assert all(check.holds for check in verification.check(50_000, np.random.default_rng(0)))
    monkeypatch.setattr(verification, "_LAYERS", (MaxPool2d(2, method="tree"),))
    assert not verification.check(50_000, np.random.default_rng(0))[0].holds
