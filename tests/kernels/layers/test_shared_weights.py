"""Max pooling and average pooling behind a convolution against the float64 reference."""

import numpy as np
import pytest

from kernels import compile_network
from kernels.devices import targets
from kernels.layers import shared_weights
from kernels.layers.images import Packs, Planes
from kernels.program.kernel import build
from kernels.program.program import Program
from refbnn.errors import InputError
from refbnn.layers import (
    ELU,
    GELU,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Layer,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Residual,
    Sigmoid,
    Tanh,
)
from refbnn.layers.moments import Moments
from refbnn.layers.posterior import Posterior
from refbnn.network.network import Network
from refbnn.numerics import correlated_maximum

ACCURACY = 1e-5  # ten times what is observed
HOST = targets.target("host")


def norm(channels):
    return BatchNorm2d([0.1] * channels, [2.0] * channels, [-1.3] * channels, [0.2] * channels)


def single(values):
    return values.astype(np.float32).astype(float)


def unpacked(layout, array):
    """Images (batch, channels, height, width) of an array in the axes of the layout's view."""
    if isinstance(layout, Packs):
        array = array.reshape(len(array), -1, *array.shape[3:])[:, : layout.channels]
    return array


def moments_and_weights(layers, own, x, known, schedule="hand"):
    """Mean, variance, own variance, weights and σ² ∗ v of the entries, by the one operator."""
    program = Program(HOST, len(x.mean), flush=True)
    channels, height, width = x.mean.shape[1:]
    given = program.given(Planes(channels, height, width, HOST.lanes), known)
    y, pooled = shared_weights.add(program, "y", layers, own, given, linearised=True)
    assert pooled is not None
    program.give(y)
    program.give_arrays(y.layout, pooled.own, *pooled.entries, *pooled.products)
    kernel = build(program, schedule)
    results = kernel(x.mean) if known else kernel(x.mean, x.var)
    return type(y.layout), [unpacked(y.layout, result) for result in results]


def n_entries(pool):
    """Number of entries of a window."""
    return pool.sizes[0][0] * pool.sizes[0][1]


def drawn(conv, shape, batch=2, seed=0):
    """Weights, and inputs in float32."""
    rng = np.random.default_rng(seed)
    shapes = conv.parameter_shapes()
    own = {k: Posterior(rng.standard_normal(s), 0.3 * rng.random(s)) for k, s in shapes.items()}
    shape = batch, *shape
    return own, Moments(single(rng.standard_normal(shape)), single(0.1 * rng.random(shape)))


OPERATORS = [
    ([Conv2d(1, 6, 5, padding=2), MaxPool2d(2)], (1, 12, 28), True, Planes),  # LeNet-5, first
    ([Conv2d(6, 16, 5), MaxPool2d(2)], (6, 10, 10), False, Packs),  # and second
    ([Conv2d(2, 33, 2), norm(33), MaxPool2d((2, 1), 1)], (2, 4, 5), True, Packs),
    ([Conv2d(4, 6, (3, 2), (2, 3), 1, groups=2), MaxPool2d((1, 3), 2)], (4, 9, 40), False, Planes),
    ([Conv2d(3, 4, 1), norm(4), norm(4), MaxPool2d(2, (1, 3))], (3, 4, 22), False, Planes),
]


@pytest.mark.parametrize(("layers", "shape", "known", "layout"), OPERATORS)
def test_one_operator_of_convolution_and_max_pooling(layers, shape, known, layout):
    conv, *norms, pool = layers
    assert shared_weights.covered([*layers, ReLU()]) == len(layers)
    own, x = drawn(conv, shape)
    kind, (mean, var, own_variance, *others) = moments_and_weights(layers, own, x, known)
    assert kind is layout
    weights, products = np.split(np.stack(others, axis=-1), [n_entries(pool)], axis=-1)
    entries = conv.moments(x.mean if known else x, own)
    for one in norms:
        entries = one.moments(entries, {})
    m, _ = pool._windows(entries)
    cov = pool._covariance(entries)
    want_mean, want_var, pi = correlated_maximum.maximum(m, cov)
    assert (np.abs(mean - want_mean) <= ACCURACY * (np.abs(want_mean) + np.sqrt(want_var))).all()
    assert (np.abs(var - want_var) <= ACCURACY * want_var).all()
    assert (np.abs(weights - pi) <= ACCURACY).all()
    linear = np.einsum("...i,...ij,...j->...", pi, cov, pi)
    assert (np.abs(own_variance - (want_var - linear)) <= ACCURACY * want_var).all()
    assert (own_variance >= 0.0).all()
    if not known:  # σ² ∗ v of the convolution with its normalisation
        square = np.prod([one.slope**2 for one in norms], axis=0) * np.ones(conv.out_channels)
        weight = own["weight"].var * square[:, np.newaxis, np.newaxis, np.newaxis]
        full = conv.forward(x.var, {"weight": weight, "bias": np.zeros(conv.out_channels)})
        of_windows, _ = pool._windows(Moments(full, full))
        np.testing.assert_allclose(products, of_windows, rtol=1e-5)


def test_the_default_schedule_computes_the_same():
    layers, shape, known, _ = OPERATORS[1]
    own, x = drawn(layers[0], shape)
    _, by_hand = moments_and_weights(layers, own, x, known)
    _, default = moments_and_weights(layers, own, x, known, "default")
    for one, other in zip(by_hand, default, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)


def test_equal_entries_are_one_and_nearly_equal_ones_keep_their_digits():
    conv, pool = Conv2d(1, 6, 3), MaxPool2d(2)
    own, _ = drawn(conv, (1, 6, 30))
    own["weight"] = Posterior(np.full((6, 1, 3, 3), 0.125), own["weight"].scale)
    flat = np.full((1, 1, 6, 30), 3.0)
    for slope in (0.0, 2.0**-16):
        # All entries of a window differ by less than 1e-4 deviations: by v₁ + v₂ − 2c in float32,
        # their difference would be rounding alone.
        x = Moments(flat + slope * np.arange(30.0), 0.0 * flat)
        _, (mean, var, own_variance, *weights) = moments_and_weights([conv, pool], own, x, True)
        entries = conv.moments(x.mean, own)
        cov = pool._covariance(entries)
        want_mean, want_var, pi = correlated_maximum.maximum(pool._windows(entries)[0], cov)
        assert (np.abs(mean - want_mean) <= 1e-6 * np.abs(want_mean)).all()
        assert (np.abs(var - want_var) <= 1e-6 * want_var).all()
        if slope == 0.0:
            assert not own_variance.any()
        else:
            assert (np.abs(weights[1] + weights[3] - pi[..., 1] - pi[..., 3]) <= 0.02).all()


def test_what_one_operator_does_not_cover():
    conv = Conv2d(1, 2, 3)
    for behind in (MaxPool2d(3), MaxPool2d(2, padding=1), MaxPool2d(2, method="exact"), ReLU()):
        assert shared_weights.covered([conv, behind]) == 0
    assert shared_weights.covered([conv, GELU(), MaxPool2d(2)]) == 0
    assert shared_weights.covered([conv, MaxPool2d(1)]) == 0
    overlapping: list[Layer] = [conv, MaxPool2d(2, 1)]
    assert shared_weights.covered(overlapping) == 2
    assert shared_weights.covered(overlapping, linearised=True) == 0
    assert shared_weights.covered([MaxPool2d(2)]) == shared_weights.covered([conv]) == 0


NETWORKS: list[tuple[list[Layer], tuple[int, int, int]]] = [
    ([Conv2d(2, 5, 3), MaxPool2d(3, 2), ReLU(), Conv2d(5, 16, 2), MaxPool2d(2, 1, 1)], (2, 10, 11)),
    ([Conv2d(2, 5, 3, padding=1), norm(5), GELU(), MaxPool2d(2)], (2, 6, 7)),
    ([Conv2d(2, 5, 3), ReLU(), MaxPool2d(2), ReLU(), AvgPool2d(2, 1)], (2, 9, 8)),
    ([Conv2d(2, 4, 3, 2, 1, groups=2), Tanh(), AvgPool2d(2)], (2, 10, 11)),
    (
        [Conv2d(2, 5, 3), AvgPool2d(3, 1, 1), Conv2d(5, 3, 2), Sigmoid(), AvgPool2d((1, 3))],
        (2, 6, 9),
    ),
    ([Conv2d(2, 4, 3), ELU(), norm(4), AvgPool2d(2)], (2, 6, 9)),
    ([Conv2d(2, 4, 3), LeakyReLU(-0.1), MaxPool2d(2, 1)], (2, 6, 7)),
    ([Residual([Conv2d(2, 2, 3, padding=1), ReLU(), MaxPool2d(3, 1, 1)]), MaxPool2d(2)], (2, 6, 7)),
]


FORMS = [*[(*one, "variance") for one in NETWORKS], (*NETWORKS[0], "separate")]


@pytest.mark.parametrize(("layers", "shape", "form"), FORMS)
def test_networks_with_pooling_behind_convolutions(layers, shape, form):
    net = Network(layers, input_shape=shape, seed=1)
    x = np.random.default_rng(0).standard_normal((2, *shape))
    want, got = net.propagate(x), compile_network(net, 2, form=form)(x)
    size = np.abs(want.mean) + np.sqrt(want.var)
    assert (np.abs(got.mean - want.mean) <= ACCURACY * size).all()
    assert (np.abs(got.var - want.var) <= ACCURACY * want.var).all()


def test_the_raw_form_has_the_covariance_of_windows_too():
    net = Network([Conv2d(1, 3, 2), ReLU(), MaxPool2d(2)], input_shape=(1, 5, 5), seed=1)
    x = np.random.default_rng(0).standard_normal((1, 1, 5, 5))
    got, want = compile_network(net, 1, form="raw")(x), net.propagate(x)
    np.testing.assert_allclose(got.mean, want.mean, rtol=1e-4)
    np.testing.assert_allclose(got.var, want.var, rtol=1e-3)


def test_a_window_of_too_many_entries_is_refused():
    net = Network([Conv2d(1, 1, 2), MaxPool2d(9)], input_shape=(1, 10, 10), seed=1)
    with pytest.raises(InputError, match="a window of 81 entries behind a convolution"):
        compile_network(net, 1)
