"""Covariance of a convolution's outputs: against sums over all pairs of weights and pixels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from refbnn import InputError, Moments, Network, Posterior
from refbnn.layers import (
    ELU,
    GELU,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    MaxPool2d,
    ReLU,
    Residual,
    Tanh,
)
from refbnn.layers.activations.elementwise import Elementwise
from refbnn.layers.images.pool_first import pool_first
from refbnn.numerics.correlated_maximum import maximum
from refbnn.uncertainty.diagnostics.diagnose import diagnose

RNG = np.random.default_rng(3)


@dataclass(frozen=True, repr=False)
class Square(Elementwise):
    """An activation with what propagation needs, and no rule of linearised propagation."""

    def value(self, x):
        return x * x

    def grad_input(self, x, grad_y):
        return 2 * x * grad_y

    def propagated(self, x):
        return Moments(x.mean**2 + x.var, (4 * x.mean**2 + 2 * x.var) * x.var)


def posteriors(layer):
    return {
        name: Posterior(RNG.standard_normal(shape), RNG.uniform(0.1, 1.0, shape))
        for name, shape in layer.parameter_shapes().items()
    }


def noisy(net, factor):
    """The network with deviations this many times as large."""
    net.set_parameters(
        {n: Posterior(p.mean, factor * p.scale) for n, p in net.parameters().items()}
    )
    return net


def brute(layer, x, own, channel, p, q):
    """Cov(y_p, y_q), p ≠ q, of one input: Σ over pairs of weights of E[ww'] E[xx'] − E[.]E[.]."""
    (K, L), (s, t), (top, left) = layer.sizes
    per_group = layer.in_channels // layer.groups
    first = channel // (layer.out_channels // layer.groups) * per_group
    mean, var = x.mean[0], x.var[0]
    height, width = mean.shape[1:]

    def reads(position):
        for c, a, b in np.ndindex(per_group, K, L):
            row, column = s * position[0] + a - top, t * position[1] + b - left
            if 0 <= row < height and 0 <= column < width:
                yield (c, a, b), (first + c, row, column)

    weight, total = own["weight"], own["bias"].var[channel]
    for w1, x1 in reads(p):
        for w2, x2 in reads(q):
            of_weights = weight.mean[channel][w1] * weight.mean[channel][w2]
            second_w = of_weights + (weight.var[channel][w1] if w1 == w2 else 0.0)
            of_pixels = mean[x1] * mean[x2]
            second_x = of_pixels + (var[x1] if x1 == x2 else 0.0)
            total += second_w * second_x - of_weights * of_pixels
    return total


CASES = [
    # convolution; kernel, stride and padding of the windows
    (Conv2d(1, 2, 3), ((2, 2), (2, 2), (0, 0))),
    (Conv2d(2, 2, (2, 3), padding=(1, 0), groups=2), ((2, 2), (2, 2), (0, 0))),
    (Conv2d(1, 1, 3, stride=(1, 2)), ((2, 2), (1, 1), (0, 0))),
    (Conv2d(2, 1, 2, padding=1), ((3, 2), (2, 1), (1, 1))),
]


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(("layer", "window"), CASES)
def test_windows_have_the_covariance_of_the_sums(layer, window, known):
    own = posteriors(layer)
    image = RNG.standard_normal((1, layer.in_channels, 6, 7))
    x = Moments(image, np.zeros_like(image) if known else RNG.uniform(0.2, 1.0, image.shape))
    y = layer.moments(x.mean if known else x, own)
    cov = y.shared.of_windows(y.var, *window)
    (K, L), (s, t), (top, left) = window
    rows, columns = y.shape[2:]
    for o, i, j in np.ndindex(*cov.shape[1:4]):
        for e, f in np.ndindex(K * L, K * L):
            p = s * i + e // L - top, t * j + e % L - left
            q = s * i + f // L - top, t * j + f % L - left
            both = all(0 <= r < rows and 0 <= c < columns for r, c in (p, q))
            if not both:
                wanted = 0.0
            elif p == q:
                wanted = y.var[0, o][p]
            else:
                wanted = brute(layer, x, own, o, p, q)
            assert cov[0, o, i, j, e, f] == pytest.approx(wanted, rel=1e-12, abs=1e-13)


def test_batch_norm_scales_the_covariance():
    layer, norm = Conv2d(1, 2, 2), BatchNorm2d([0, 1], [1, 4], [2.0, -3.0], [0, 0], 0.0)
    own, x = posteriors(layer), RNG.standard_normal((2, 1, 4, 4))
    y: Any = layer.moments(x, own)
    z: Any = norm.moments(y, {})
    window = (2, 2), (2, 2), (0, 0)
    scale = np.square([2.0, -1.5]).reshape(-1, 1, 1, 1, 1)
    np.testing.assert_allclose(
        z.shared.of_windows(z.var, *window), scale * y.shared.of_windows(y.var, *window), rtol=1e-13
    )


def test_average_pooling_has_the_variance_of_the_sum():
    layer, pool = Conv2d(1, 2, 3), AvgPool2d((2, 3), (1, 2), (1, 0))
    own, image = posteriors(layer), RNG.standard_normal((2, 1, 7, 7))
    for x in (image, Moments(image, RNG.uniform(0.2, 1.0, image.shape))):
        y: Any = layer.moments(x, own)
        wanted = y.shared.of_windows(y.var, *pool.sizes).sum(axis=(-2, -1)) / 36
        np.testing.assert_allclose(pool.moments(y, {}).var, wanted, rtol=1e-12)


def test_average_pooling_behind_a_convolution_against_sampling():
    net = Network([Conv2d(1, 2, 3), AvgPool2d(2)], input_shape=(1, 6, 6), seed=0)
    x, n = RNG.standard_normal((2, 1, 6, 6)), 5000
    samples = net.sample(x, n, np.random.default_rng(0))
    # Gaussian outputs: a variance of n samples has the relative standard error √(2/n).
    np.testing.assert_allclose(net.propagate(x).var, samples.var(axis=0), rtol=5 * np.sqrt(2 / n))


def test_maximum_of_two_behind_a_convolution_is_exact():
    layers: list[Any] = [Conv2d(1, 3, 3), MaxPool2d((1, 2))]
    net = noisy(Network(layers, input_shape=(1, 5, 6), seed=0), 10)
    x, n = RNG.standard_normal((2, 1, 5, 6)), 5000
    samples = net.sample(x, n, np.random.default_rng(0))
    y = net.propagate(x)
    sd = np.sqrt(y.var)
    assert (np.abs(y.mean - samples.mean(axis=0)) < 5 * sd / np.sqrt(n)).all()
    fourth = ((samples - samples.mean(axis=0)) ** 4).mean(axis=0)
    assert (np.abs(y.var - samples.var(axis=0)) < 5 * np.sqrt((fourth - y.var**2) / n)).all()
    layers[1] = MaxPool2d((1, 2), method="exact")
    apart = noisy(Network(layers, input_shape=(1, 5, 6), seed=0), 10)
    assert (np.abs(apart.propagate(x).mean - samples.mean(axis=0)) > 0.1 * sd).any()


@pytest.mark.parametrize("pool", [MaxPool2d(2), MaxPool2d(3, 2, 1), MaxPool2d((2, 3), 1)])
def test_the_covariance_of_a_window_mends_the_mean(pool):
    layers: list[Any] = [Conv2d(1, 4, 3), ReLU()]
    x = np.linspace(0.5, 1.5, 81).reshape(1, 1, 9, 9)  # smooth, as images are
    apart = MaxPool2d(pool.kernel_size, pool.stride, pool.padding, "exact")
    nets = [
        noisy(Network([*layers, own], input_shape=(1, 9, 9), seed=0), 9) for own in (pool, apart)
    ]
    samples = nets[0].sample(x, 2000, np.random.default_rng(0))
    mean, sd = samples.mean(axis=0), samples.std(axis=0)
    alive = sd > 0.1 * sd.max()
    errors = [np.abs((net.propagate(x).mean - mean) / sd)[alive].mean() for net in nets]
    assert errors[0] < 0.2 * errors[1]


def test_maximum_goes_before_monotone_activations_alone():
    pool = MaxPool2d(2)
    order = pool_first([Conv2d(1, 1, 2), ReLU(), Tanh(), pool, ELU(-1.0), pool, GELU(), pool])
    assert [type(layer).__name__ for layer in order] == [
        *("Conv2d", "MaxPool2d", "ReLU", "Tanh", "ELU", "MaxPool2d", "GELU", "MaxPool2d")
    ]
    apart = MaxPool2d(2, method="exact")
    assert pool_first([ReLU(), apart]) == [ReLU(), apart]


def test_order_of_activation_and_pooling_does_not_matter():
    layers: list[Any] = [Conv2d(1, 2, 3), ReLU(), MaxPool2d(2)]
    one = Network(layers, input_shape=(1, 6, 6), seed=0)
    other = Network([layers[0], layers[2], layers[1]], input_shape=(1, 6, 6), seed=0)
    x = RNG.standard_normal((2, 1, 6, 6))
    for moment in ("mean", "var"):
        np.testing.assert_array_equal(
            getattr(one.propagate(x), moment), getattr(other.propagate(x), moment)
        )


def test_a_window_too_large_for_its_covariances():
    net = Network([Conv2d(1, 1, 1), MaxPool2d(33)], input_shape=(1, 33, 33))
    with pytest.raises(InputError, match=r"1089 entries .*or method='exact'"):
        net.propagate(np.ones((1, 1, 33, 33)))


def test_parts_of_a_linearised_maximum_make_up_its_variance():
    layer, pool = Conv2d(1, 2, 3), MaxPool2d(2)
    own, x = posteriors(layer), RNG.standard_normal((1, 1, 6, 6))
    y: Any = layer.moments(x, own)
    z: Any = pool.moments(y, {})
    J = np.eye(z.mean.size).reshape(-1, *z.shape)
    parts: Any = pool.linearise(y, z, {}, J)
    covariance, J_y = parts
    np.testing.assert_allclose(J_y.sum(axis=(-3, -2, -1)), 1.0, rtol=1e-12)  # Σ π = 1
    # πᵀ C π with the covariance of all outputs of a channel, from windows of all of them.
    whole = y.shared.of_windows(y.var, y.shape[2:], (1, 1), (0, 0))[0, :, 0, 0]
    weights = J_y[:, 0].reshape(*z.shape[1:], *y.shape[1:])
    for o, i, j in np.ndindex(*z.shape[1:]):
        pi = weights[o, i, j, o].ravel()
        linear = pi @ whole[o] @ pi
        own_part = covariance[0].diagonal().reshape(z.shape[1:])[o, i, j]
        assert own_part + linear == pytest.approx(z.var[0, o, i, j], rel=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6, 0.9, 0.99])
def test_row_of_equally_correlated_entries(rho):
    # X_i = √ρ Z + √(1 − ρ) Y_i: Var max = ρ + (1 − ρ) Var max of four independent ones, 0.491715.
    cov = np.full((4, 4), rho) + (1 - rho) * np.eye(4)
    exact = rho + (1 - rho) * 0.4917152369
    error = maximum(np.zeros(4), cov)[1] / exact - 1
    row = {0.0: -0.055, 0.3: -0.029, 0.6: -0.014, 0.9: -0.003, 0.99: -0.0003}
    assert error == pytest.approx(row[rho], abs=0.0006)  # as the docstring rounds it


@pytest.mark.parametrize("rows", [1, slice(1, 3), np.array([True, False, True]), [2, 0]])
@pytest.mark.parametrize("pool", [MaxPool2d(2), AvgPool2d(2), MaxPool2d(3, 2, 1)])
def test_rows_keep_what_their_entries_share(rows, pool):
    layer, x = Conv2d(1, 2, 3), Moments(RNG.standard_normal((3, 1, 7, 7)), np.ones((3, 1, 7, 7)))
    y = Tanh().moments(layer.moments(x, posteriors(layer)), {})
    np.testing.assert_allclose(
        pool.moments(y[rows], {}).var, pool.moments(y, {}).var[rows], rtol=1e-13
    )
    for index in ((slice(None), slice(1)), None, True):  # a channel, and axes more
        assert y[index].shared is None
    assert y[0][:1].shared is None  # a channel again


def test_an_activation_that_tells_no_gain_counts_entries_as_independent():
    layers: list[Any] = [Conv2d(1, 2, 3), Square(), MaxPool2d(2), Flatten(), Dense(8, 3)]
    net = Network(layers, input_shape=(1, 6, 6), seed=0)
    x = RNG.standard_normal((2, 1, 6, 6))
    layers[2] = MaxPool2d(2, method="exact")
    apart = Network(layers, input_shape=(1, 6, 6), seed=0)
    np.testing.assert_array_equal(net.propagate(x).var, apart.propagate(x).var)
    for inner in (Square(), Residual([Square()])):
        other = Network([Dense(3, 3), inner, Dense(3, 2)], seed=0)
        with pytest.raises(InputError, match=r"linearised: Square\(\) has no rule"):
            other.propagate(np.ones((1, 3)), method="linearised")
        assert diagnose(other, np.ones((1, 3)), n_samples=0)[-1].linearised_ratio is None


def test_an_activation_with_knots_has_a_gain():
    class Known(Square):
        knots = np.zeros(1)

    x = Moments(np.array([0.5, -2.0]), np.array([0.3, 4.0]))
    np.testing.assert_allclose(Known().gain(x), 2.0 * x.mean, rtol=1e-12)  # E[2x]
