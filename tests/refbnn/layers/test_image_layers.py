import itertools

import numpy as np
import pytest
from scipy import stats

from refbnn import InputError, Moments, Network, Posterior
from refbnn.layers import AvgPool2d, BatchNorm2d, Conv2d, Dense, Flatten, LeakyReLU, ReLU, Residual
from tests.helpers.derivatives import complex_step

POOLS = [
    (AvgPool2d(1), (1, 1)),
    (AvgPool2d(2), (4, 6)),
    (AvgPool2d(2), (5, 7)),  # a row and a column left out
    (AvgPool2d(3, 1), (3, 5)),
    (AvgPool2d(3, 2, 1), (6, 5)),
    (AvgPool2d((1, 3), (3, 2), (0, 2)), (7, 1)),
    (AvgPool2d((2, 1), (1, 3), (2, 0)), (1, 5)),
]
every_pool = pytest.mark.parametrize(("layer", "image"), POOLS)


def some_norm(n_channels, seed=0):
    rng = np.random.default_rng(seed)
    mean, gamma, beta = rng.standard_normal((3, n_channels))
    return BatchNorm2d(mean, rng.uniform(0.1, 2.0, n_channels), gamma, beta, 1e-3)


def some_residual(hidden=3):
    return Residual((Conv2d(2, hidden, 3, padding=1), ReLU(), Conv2d(hidden, 2, 1)))


def some_weights(layer, samples=(), seed=1):
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal((*samples, *shape))
        for name, shape in layer.parameter_shapes().items()
    }


LINEAR = [*POOLS, (Flatten(), (3, 4)), (some_norm(2), (3, 4))]


@pytest.mark.parametrize(("layer", "image"), LINEAR)
@pytest.mark.parametrize("samples", [(), (3,)])
def test_backward_matches_complex_step(layer, image, samples):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((*samples, 2, 2, *image))
    g = rng.standard_normal((*samples, 2, *layer.output_shape((2, *image))))
    grad_x, grads = layer.backward(x, {}, g)
    assert grads == {}
    expected = complex_step(lambda v: (g * layer.forward(v, {})).sum(), x)
    # Sums of at most 12 products of order 1.
    np.testing.assert_allclose(grad_x, expected, rtol=0, atol=1e-13, strict=True)


@pytest.mark.parametrize(("layer", "image"), LINEAR)
def test_a_gradient_with_samples_of_an_input_without(layer, image):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 2, *image))
    g = rng.standard_normal((3, 2, *layer.output_shape((2, *image))))
    grad_x, _ = layer.backward(x, {}, g)
    for s in range(3):
        np.testing.assert_array_equal(grad_x[s], layer.backward(x, {}, g[s])[0])


@pytest.mark.parametrize(
    ("layer", "image"), [*LINEAR, (some_residual(), (4, 3)), (Conv2d(2, 3, 2), (4, 3))]
)
def test_float32_stays(layer, image):
    x = np.random.default_rng(4).standard_normal((2, 2, *image)).astype(np.float32)
    weights = {name: w.astype(np.float32) for name, w in some_weights(layer).items()}
    y = layer.forward(x, weights)
    grad_x, grads = layer.backward(x, weights, y)
    for array in (y, grad_x, *grads.values()):
        assert array.dtype == np.float32
    if not weights:
        moments = layer.moments(Moments(x, x**2), {})
        assert moments.mean.dtype == moments.var.dtype == np.float32


@every_pool
def test_average_pool_is_the_written_sum(layer, image):
    """Value and moments, entry by entry."""
    rng = np.random.default_rng(5)
    m, v = rng.standard_normal((2, 3, *image)), rng.uniform(0, 1, (2, 3, *image))
    _, rows, columns = layer.output_shape((3, *image))
    (K, L), (s, t), (p, q) = layer.kernel_size, layer.stride, layer.padding
    mean, var = np.zeros((2, 3, rows, columns)), np.zeros((2, 3, rows, columns))
    for i, j, a, b in itertools.product(range(rows), range(columns), range(K), range(L)):
        h, w = s * i + a - p, t * j + b - q
        if 0 <= h < image[0] and 0 <= w < image[1]:
            mean[..., i, j] += m[..., h, w] / (K * L)
            var[..., i, j] += v[..., h, w] / (K * L) ** 2
    got = layer.moments(Moments(m, v), {})
    np.testing.assert_allclose(layer.forward(m, {}), mean, rtol=0, atol=1e-15)
    np.testing.assert_allclose(got.mean, mean, rtol=0, atol=1e-15)
    np.testing.assert_allclose(got.var, var, rtol=1e-14)
    known = layer.moments(m, {})
    np.testing.assert_array_equal(known.mean, got.mean)
    np.testing.assert_array_equal(known.var, 0)


def test_stride_of_a_pool_is_its_kernel_unless_given():
    assert AvgPool2d((2, 3)) == AvgPool2d((2, 3), (2, 3), (0, 0))
    assert AvgPool2d(2, 1) == AvgPool2d((2, 2), (1, 1))


def test_flatten_goes_channel_by_channel():
    x = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    layer = Flatten()
    assert layer.output_shape((3, 4, 5)) == (60,)
    np.testing.assert_array_equal(layer.forward(x, {}), np.arange(120.0).reshape(2, 60))
    np.testing.assert_array_equal(layer.backward(x, {}, layer.forward(x, {}))[0], x)
    assert layer.forward(x[:0], {}).shape == (0, 60)
    moments = layer.moments(Moments(x, x + 1), {})
    np.testing.assert_array_equal(moments.mean, np.arange(120.0).reshape(2, 60))
    np.testing.assert_array_equal(moments.var, np.arange(120.0).reshape(2, 60) + 1)
    np.testing.assert_array_equal(layer.moments(x, {}).var, 0)


def test_batch_norm_standardises_by_channel():
    """Images with exactly the running statistics come out with mean β and deviation |γ|."""
    rng = np.random.default_rng(6)
    x = rng.standard_normal((50, 3, 4, 4))
    gamma, beta = np.array([2.0, -0.5, 1.0]), np.array([0.3, 0.0, -7.0])
    layer = BatchNorm2d(x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3)), gamma, beta, 0.0)
    y = layer.forward(x, {})
    # Means and variances of 800 numbers of order 1.
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), beta, rtol=0, atol=1e-13)
    np.testing.assert_allclose(y.var(axis=(0, 2, 3)), gamma**2, rtol=1e-13)


def test_batch_norm_is_the_written_formula():
    fixed = np.array([[1.0, 2.0], [4.0, 0.25], [3.0, -2.0], [0.5, 0.0]])
    layer = BatchNorm2d(fixed[0], fixed[1], fixed[2], fixed[3], 0.75)
    x = np.array([5.0, 2.5]).reshape(1, 2, 1, 1)
    # 3·(5 − 1)/√4.75 + 0.5 and −2·(2.5 − 2)/1
    expected = np.array([12.0 / np.sqrt(4.75) + 0.5, -1.0])
    np.testing.assert_allclose(layer.forward(x, {}).ravel(), expected, rtol=1e-15)
    whole = np.array([5, 2]).reshape(1, 2, 1, 1)
    np.testing.assert_allclose(layer.forward(whole, {}).ravel(), [expected[0], 0.0], rtol=1e-15)
    got = layer.moments(Moments(x, np.full(x.shape, 0.1)), {})
    np.testing.assert_allclose(got.mean.ravel(), expected, rtol=1e-15)
    np.testing.assert_allclose(got.var.ravel(), [0.1 * 9 / 4.75, 0.4], rtol=1e-15)
    np.testing.assert_array_equal(layer.moments(x, {}).var, 0)


def test_residual_adds_its_input():
    layer, x = some_residual(), np.random.default_rng(7).standard_normal((2, 2, 4, 3))
    weights = some_weights(layer)
    assert list(weights) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    inner = x
    for index, part in enumerate(layer.layers):
        own = {n: weights[f"{index}.{n}"] for n in part.parameter_shapes()}
        inner = part.forward(inner, own)
    np.testing.assert_array_equal(layer.forward(x, weights), x + inner)


@pytest.mark.parametrize("samples", [(), (3,)])
def test_residual_backward_matches_central_differences(samples):
    layer, rng = some_residual(), np.random.default_rng(8)
    x, g = rng.standard_normal((2, 2, 4, 3)), rng.standard_normal((*samples, 2, 2, 4, 3))
    weights = some_weights(layer, samples)
    grad_x, grads = layer.backward(x, weights, g)
    assert grads.keys() == weights.keys()
    assert layer.backward(x, weights, g, need_grad_x=False)[0] is None
    assert grad_x is not None
    got = {"x": grad_x.reshape(-1, *x.shape).sum(axis=0), **grads}
    h = 2.0**-12
    for name, array in {"x": x, **weights}.items():
        for index in np.ndindex(array.shape):
            loss = []
            for sign in (1, -1):
                moved = {"x": x, **weights, name: array.copy()}
                moved[name][index] += sign * h
                loss.append((g * layer.forward(moved.pop("x"), moved)).sum())
            # Piecewise bilinear, and no pre-activation of this seed is as near as h to its kink:
            # central differences are exact but for rounding, 1e-16 of a loss near 100 over 2h.
            expected = (loss[0] - loss[1]) / (2 * h)
            assert got[name][index] == pytest.approx(expected, rel=0, abs=1e-9)


def test_residual_moments_add():
    layer, rng = some_residual(), np.random.default_rng(9)
    posteriors = {
        name: Posterior(rng.standard_normal(shape), rng.uniform(0, 1, shape))
        for name, shape in layer.parameter_shapes().items()
    }
    m, v = rng.standard_normal((1, 2, 4, 3)), rng.uniform(0, 1, (1, 2, 4, 3))
    for x, var in ((Moments(m, v), v), (m, 0.0)):
        of_f = x
        for index, part in enumerate(layer.layers):
            own = {n: posteriors[f"{index}.{n}"] for n in part.parameter_shapes()}
            of_f = part.moments(of_f, own)
        assert isinstance(of_f, Moments)
        got = layer.moments(x, posteriors)
        np.testing.assert_array_equal(got.mean, m + of_f.mean)
        np.testing.assert_array_equal(got.var, var + of_f.var)


def test_residual_variance_is_exact_for_one_dense_layer():
    """y = x + w x, all outcomes listed; the covariance left out would be 2 µ_w v."""
    layer, m, s, sigma = Residual((Dense(1, 1),)), 1.5, 0.6, 0.3
    for mu in (0.0, 0.5, -0.5, -1.0):
        y = [
            (m + s * one) * (1 + mu + sigma * other)
            for one, other in itertools.product([-1, 1], repeat=2)
        ]
        posteriors = {
            "0.weight": Posterior(np.array([[mu]]), np.array([[sigma]])),
            "0.bias": Posterior(np.zeros(1), np.zeros(1)),
        }
        got = layer.moments(Moments(np.array([[m]]), np.array([[s**2]])), posteriors)
        assert got.mean.item() == pytest.approx(np.mean(y), rel=1e-14)
        assert got.var.item() == pytest.approx(np.var(y), rel=1e-14)


def branch(layers, seed=0, scale=0.0):
    """A residual block of known or random weights, and a random input of five units in two rows."""
    layer, rng = Residual(layers), np.random.default_rng(seed)
    posteriors = {
        name: Posterior(rng.standard_normal(shape), np.full(shape, scale))
        for name, shape in layer.parameter_shapes().items()
    }
    return layer, posteriors, Moments(rng.standard_normal((2, 5)), rng.uniform(0.2, 2.0, (2, 5)))


def by_layers(layer, x, posteriors):
    """The moments that each layer of the branch is given, and those of f last."""
    moments = [x]
    for index, part in enumerate(layer.layers):
        own = {n: posteriors[f"{index}.{n}"] for n in part.parameter_shapes()}
        moments.append(part.moments(moments[-1], own))
    return moments


def test_covariance_with_a_branch_is_that_of_gaussian_inputs():
    """Cov(x_i, f_i) for one hidden layer: each unit's part is an integral over two Gaussians.

    h = µx + c given x_i is N(µ_i x_i + rest, rest's variance): Gauss–Hermite in x_i of
    x_i E[g(h) | x_i], with E[max(0, N(m, v))] = mΦ + √v φ, which is smooth.
    """
    for part, slope in ((ReLU(), 0.0), (LeakyReLU(0.3), 0.3)):
        layer, own, x = branch((Dense(5, 7), part, Dense(7, 5)))
        W1, c, W2 = (own[name].mean for name in ("0.weight", "0.bias", "2.weight"))
        z, weight = np.polynomial.hermite_e.hermegauss(120)
        weight /= weight.sum()
        got = layer.moments(x, own)
        of_f = by_layers(layer, x, own)[-1]
        for row, i in np.ndindex(2, 5):
            m, v = x.mean[row], x.var[row]
            cov = 0.0
            for k in range(7):
                others = np.delete(np.arange(5), i)
                mean = W1[k, others] @ m[others] + c[k] + W1[k, i] * (m[i] + np.sqrt(v[i]) * z)
                s = np.sqrt(W1[k, others] ** 2 @ v[others])
                right = mean * stats.norm.cdf(mean / s) + s * stats.norm.pdf(mean / s)
                g = slope * mean + (1.0 - slope) * right
                cov += W2[i, k] * weight @ (np.sqrt(v[i]) * z * g)
            J = cov / v[i]
            want = (1 + J) ** 2 * v[i] + max(of_f.var[row, i] - J**2 * v[i], 0.0)
            # Gauss–Hermite: the kink is smoothed over s ≥ 0.5 of x_i's own spread.
            assert got.var[row, i] == pytest.approx(want, rel=1e-9)


def test_branch_of_many_layers_by_paths():
    """J_ii as the sum over every path of weights and mean slopes, written out."""
    layer, own, x = branch(
        (ReLU(), Dense(5, 3), LeakyReLU(-0.4), Dense(3, 4), ReLU(), ReLU(), Dense(4, 5), ReLU()),
        scale=0.2,
    )
    moments = by_layers(layer, x, own)

    def slope(index, row, unit, below=0.0):
        p = stats.norm.cdf(
            0.0, -moments[index].mean[row, unit], moments[index].var[row, unit] ** 0.5
        )
        return below + (1.0 - below) * p

    got = layer.moments(x, own)
    for row, i in np.ndindex(2, 5):
        J = 0.0
        for k, j in np.ndindex(3, 4):
            weights = own["1.weight"].mean[k, i] * own["3.weight"].mean[j, k]
            gates = slope(0, row, i) * slope(2, row, k, -0.4) * slope(4, row, j) * slope(5, row, j)
            J += weights * own["6.weight"].mean[i, j] * gates * slope(7, row, i)
        v = x.var[row, i]
        want = (1 + J) ** 2 * v + max(moments[-1].var[row, i] - J**2 * v, 0.0)
        assert got.var[row, i] == pytest.approx(want, rel=1e-12)


def test_one_dense_layer_between_activations():
    """Both slopes count: J = Φ(a) µ_ii Φ(b), a and b the standardised means of their inputs."""
    layer, own, x = branch((ReLU(), Dense(5, 5), ReLU()), scale=0.2)
    inputs = by_layers(layer, x, own)
    first, last = (stats.norm.cdf(at.mean / np.sqrt(at.var)) for at in (inputs[0], inputs[2]))
    J = first * np.diagonal(own["1.weight"].mean) * last
    want = (1 + J) ** 2 * x.var + np.maximum(inputs[3].var - J**2 * x.var, 0.0)
    np.testing.assert_allclose(layer.moments(x, own).var, want, rtol=1e-12)


def test_a_branch_of_activations_alone():
    """x + max(0, x): 2x to the right of 0, x to the left."""
    x = Moments(np.array([[[[40.0, -40.0]]]]), np.array([[[[2.0, 3.0]]]]))
    np.testing.assert_allclose(Residual((ReLU(),)).moments(x, {}).var, [[[[8.0, 3.0]]]], rtol=1e-14)
    known = Moments(np.array([[[[40.0, 0.0]]]]), np.zeros_like(x.var))
    np.testing.assert_array_equal(Residual((ReLU(),)).moments(known, {}).var, 0.0)


def test_a_branch_that_takes_its_input_away_leaves_no_negative_variance():
    """f(x) = −x by n equal units: propagation takes them as independent and loses Var f to v/n."""
    n = 50
    layer = Residual((Dense(1, n), ReLU(), Dense(n, 1)))
    own = {
        "0.weight": np.ones((n, 1)), "0.bias": np.zeros(n),
        "2.weight": np.full((1, n), -1.0 / n), "2.bias": np.zeros(1),
    }  # fmt: skip
    posteriors = {name: Posterior(mean, np.zeros(mean.shape)) for name, mean in own.items()}
    got = layer.moments(Moments(np.array([[60.0]]), np.array([[1.0]])), posteriors)
    assert got.var.item() == pytest.approx(0.0, abs=1e-15)


def small_network():
    """Every layer for images, in one row."""
    return Network(
        [
            Conv2d(1, 2, 3, padding=1),
            some_norm(2),
            ReLU(),
            AvgPool2d(2),
            some_residual(),
            Conv2d(2, 4, 3, stride=2, groups=2),
            Flatten(),
            Dense(16, 3),
        ],
        seed=3,
    )


def test_a_whole_network_of_images():
    """Shapes, and its gradient along a random direction by central differences."""
    net, rng = small_network(), np.random.default_rng(10)
    x, g = rng.standard_normal((5, 1, 12, 12)), rng.standard_normal((2, 5, 3))
    assert net.check_input((1, 12, 12)) == (3,)
    weights, _ = net.draw(rng, 2)
    y, inputs = net.forward(x, weights)
    assert y.shape == (2, 5, 3)
    grads = net.backward(inputs, weights, g)
    direction = {name: rng.standard_normal(w.shape) for name, w in weights.items()}
    slope = sum((grads[name] * direction[name]).sum() for name in weights)
    # Fourth order in h, from four points; errors near 1e-10 of the slope away from kinks.
    h = 1e-5

    def loss(t):
        moved = {name: w + t * direction[name] for name, w in weights.items()}
        return (g * net.forward(x, moved)[0]).sum()

    expected = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)
    assert slope == pytest.approx(expected, rel=1e-7)
    assert net.propagate(x).shape == (5, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0,), "AvgPool2d: kernel_size is 0"),
        ((2, 0), "AvgPool2d: stride is 0"),
        ((2, 2, -1), "AvgPool2d: padding is -1"),
        (("2",), "AvgPool2d: kernel_size is '2'"),
    ],
)
def test_bad_pools_are_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        AvgPool2d(*arguments)


def norm_of(**changed):
    plain = {"mean": np.zeros(2), "var": np.ones(2), "gamma": np.ones(2), "beta": np.zeros(2)}
    return BatchNorm2d(**(plain | changed))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"var": np.ones(3)}, r"var has shape \(3,\) and mean \(2,\)"),
        ({"mean": 0.0}, r"mean has shape \(\)"),
        ({"gamma": np.array([1.0, np.nan])}, "gamma holds NaN"),
        ({"var": np.array([1.0, -1.0])}, "least variance -1.0; expected"),
        ({"eps": -1e-5}, "eps is -1e-05"),
        ({"eps": np.nan}, "eps is nan"),
        ({"eps": 0.0, "var": np.zeros(2)}, "expected a sum above 0"),
    ],
)
def test_bad_statistics_are_refused(changed, words):
    with pytest.raises(InputError, match=f"BatchNorm2d: .*{words}"):
        norm_of(**changed)


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (AvgPool2d(3), (1, 2, 5), "AvgPool2d.*image of 2 × 5; expected at least 3 × 3"),
        (AvgPool2d(3), (25,), "AvgPool2d.*expected .channels, height, width"),
        (Flatten(), (60,), r"Flatten\(\): input has shape \(60,\)"),
        (norm_of(), (3, 4, 4), r"BatchNorm2d: input has shape .*expected \(2, height"),
        (norm_of(), (2,), "BatchNorm2d: input has shape"),
        (Residual((Conv2d(1, 1, 3),)), (1, 5, 5), r"Residual: the layers make shape \(1, 3, 3\)"),
        (some_residual(), (3, 5, 5), "Residual, layer 0: Conv2d.*3 channels; expected 2"),
    ],
)
def test_images_that_do_not_fit_are_refused(layer, shape, words):
    with pytest.raises(InputError, match=words):
        layer.output_shape(shape)


def test_a_residual_of_nothing_is_refused():
    with pytest.raises(InputError, match="Residual: no layers"):
        Residual(())
