"""Kernels of images against the float64 reference, and networks of them."""

from dataclasses import replace
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import compile_network
from kernels.devices import targets
from kernels.layers import conv2d, images, tiles
from kernels.layers.activations import elementwise, relu
from kernels.layers.images import Packs, Planes
from kernels.layers.layer import build_layer
from kernels.layers.products import n_sums
from kernels.program.kernel import build
from kernels.program.program import Program, Rows
from refbnn.errors import InputError
from refbnn.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    MaxPool2d,
    ReLU,
    Residual,
    Sigmoid,
)
from refbnn.layers.images import conv2d as conv2d_reference
from refbnn.layers.moments import Moments, deterministic
from refbnn.layers.posterior import Posterior
from refbnn.network.architectures import lenet5
from refbnn.network.network import Network
from refbnn.prediction import raw_moments
from tests.helpers.layer_kernels import build_conv2d, conv2d_program
from verification.rounding import U, conv2d_bound, gamma

SCHEDULES = pytest.mark.parametrize("schedule", ["hand", "default"])
HOST = targets.target("host")
FEW = settings(max_examples=14, deadline=None, derandomize=True, database=None)  # each compiles


def wild(rng, shape):
    """Both signs, twelve orders of magnitude, one number in ten 0; no product underflows."""
    values = 10.0 ** rng.uniform(-6, 6, shape) * rng.choice([-1.0, 1.0], shape)
    return np.where(rng.random(shape) < 0.1, 0.0, values)


def wild_posterior(rng, shape):
    return Posterior(wild(rng, shape), np.abs(wild(rng, shape)))


def wild_moments(rng, shape):
    return Moments(wild(rng, shape), np.abs(wild(rng, shape)))


def within(result, expected, bounds):
    for got, exact, bound in zip(result, (expected.mean, expected.var), bounds, strict=True):
        assert got.shape == exact.shape
        assert (np.abs(got - exact) <= bound).all()


# Channels and columns on both sides of every number of lanes; groups take the way of pixels.
SIZES = st.sampled_from([1, 2, 3, 5, 6, 7, 8, 15, 16, 17, 33])
PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@SCHEDULES
@FEW
@given(
    channels=st.sampled_from([1, 2, 3, 5, 17]),
    outputs=SIZES,
    groups=st.sampled_from([1, 1, 2, 3]),
    image=st.tuples(st.integers(4, 7), st.sampled_from([4, 5, 11, 17, 18, 33])),
    kernel=PAIRS,
    stride=PAIRS,
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    batch=st.sampled_from([1, 2, 3]),
    known=st.booleans(),
    seed=st.integers(0, 999),
)
def test_conv2d_is_within_the_rounding_bound(
    schedule, channels, outputs, groups, image, kernel, stride, padding, batch, known, seed
):
    rng = np.random.default_rng(seed)
    weight = wild_posterior(rng, (groups * outputs, channels, *kernel))
    bias = wild_posterior(rng, (groups * outputs,))
    x = wild_moments(rng, (batch, groups * channels, *image))
    if known:
        x = deterministic(x.mean)
    sizes = stride, padding, groups
    kernel_ = build_conv2d(weight, bias, image, sizes, batch, "host", schedule, known)
    result = kernel_(x.mean) if known else kernel_(x.mean, x.var)
    expected = conv2d_reference.moments(x, weight, bias, *sizes)
    within(result, expected, conv2d_bound(x, weight, bias, *sizes))


@SCHEDULES
@pytest.mark.parametrize("image", [(5, 6), (5, 31)], ids=["channels", "pixels"])
@pytest.mark.parametrize("known", [False, True])
def test_conv2d_in_other_forms(schedule, image, known):
    rng = np.random.default_rng(9)
    shape = 9, 2, 3, 3
    weight = Posterior(rng.standard_normal(shape), rng.random(shape))
    bias = Posterior(rng.standard_normal(9), rng.random(9))
    mean = rng.standard_normal((3, 2, *image))
    x = Moments(mean, rng.random(mean.shape) * (not known))
    sizes = (1, 1), (1, 1), 1
    inputs = (x.mean,) if known else (x.mean, x.var)
    raw = build_conv2d(weight, bias, image, sizes, 3, "host", schedule, known, "raw")(*inputs)
    expected = conv2d_reference.moments(x, weight, bias, *sizes)
    m_bound, _ = conv2d_bound(x, weight, bias, *sizes)
    # Both sums of the raw form are rounded as the mean is: relative to their terms.
    size = conv2d_reference.moments_of_known(
        np.sqrt(x.mean**2 + x.var), weight, Posterior(0 * bias.mean, bias.scale), *sizes
    ).var + conv2d_reference.forward(x.mean**2 + x.var, weight.mean**2, 0 * bias.mean, *sizes)
    within(raw, expected, (m_bound, gamma(2 * 18 + 14) * size))
    apart = build_conv2d(weight, bias, image, sizes, 3, "host", schedule, known, "separate")
    within(apart(*inputs), expected, conv2d_bound(x, weight, bias, *sizes))
    still = Posterior(bias.mean, 0.0 * bias.scale)
    plain = build_conv2d(weight, still, image, sizes, 3, "host", schedule, known, "variance")
    expected = conv2d_reference.moments(x, weight, still, *sizes)
    within(plain(*inputs), expected, conv2d_bound(x, weight, still, *sizes))
    of_mean = build_conv2d(weight, bias, image, sizes, 3, "host", schedule, True, "mean")
    (only,) = of_mean(mean)
    assert (np.abs(only - expected.mean) <= m_bound).all()


@pytest.mark.parametrize(("lanes", "registers"), [(4, 16), (4, 32), (8, 16)])
@pytest.mark.parametrize("outputs", [5, 16], ids=["pixels", "channels"])
def test_conv2d_for_narrower_registers(lanes, registers, outputs):
    narrow = targets.Target("narrow", lanes, registers, HOST.llvm)
    rng = np.random.default_rng(7)
    weight, bias = wild_posterior(rng, (outputs, 3, 3, 2)), wild_posterior(rng, (outputs,))
    x = wild_moments(rng, (2, 3, 6, 9))
    sizes = (1, 1), (1, 0), 1
    program = conv2d_program(weight, bias, (6, 9), sizes, 2, narrow)
    expected = conv2d_reference.moments(x, weight, bias, *sizes)
    bounds = conv2d_bound(x, weight, bias, *sizes)
    within(build(program, "hand")(x.mean, x.var), expected, bounds)


@pytest.mark.parametrize("outputs", [5, 37], ids=["pixels", "channels"])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 3, 2), (3, 2, 4)])
def test_conv2d_in_other_tiles(outputs, sizes):
    rng = np.random.default_rng(7)
    weight, bias = wild_posterior(rng, (outputs, 2, 2, 3)), wild_posterior(rng, (outputs,))
    x = wild_moments(rng, (2, 2, 6, 33))
    steps = (1, 1), (0, 0), 1
    program = conv2d_program(weight, bias, (6, 33), steps, 2, HOST)
    decisions = dict(zip(("channels", "rows", "columns"), sizes, strict=True))
    assert any(step.by_hand.keys() == decisions.keys() for step in program.steps)
    program.steps = [
        replace(step, by_hand=decisions) if step.by_hand else step for step in program.steps
    ]
    expected = conv2d_reference.moments(x, weight, bias, *steps)
    bounds = conv2d_bound(x, weight, bias, *steps)
    within(build(program, "hand")(x.mean, x.var), expected, bounds)


@pytest.mark.parametrize(
    ("outputs", "columns", "stride", "groups", "lanes", "expected"),
    [
        (6, 28, 1, 1, 16, "pixels"),  # LeNet-5, first
        (6, 28, 1, 1, 4, "pixels"),
        (16, 10, 1, 1, 16, "channels"),  # and second
        (16, 10, 1, 1, 4, "channels"),
        (6, 28, 2, 1, 16, "channels"),  # every second column is no vector
        (32, 10, 1, 32, 16, "pixels"),  # depthwise
    ],
)
def test_the_way_that_leaves_fewer_lanes_idle(outputs, columns, stride, groups, lanes, expected):
    assert conv2d.way(outputs, columns, stride, groups, lanes) == expected


@settings(derandomize=True, database=None)
@given(
    kind=st.sampled_from([Planes, Packs]),
    channels=st.integers(1, 130),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    form=st.sampled_from(["variance", "raw", "mean", "spread"]),
    known=st.booleans(),
    target=st.sampled_from([(4, 16), (4, 32), (8, 16), (16, 32)]),
)
def test_a_tile_of_conv2d_fits_the_registers_and_the_layer(
    kind, channels, size, form, known, target
):
    lanes, registers = target
    cpu = targets.Target("any", lanes, registers, {})
    layout, sums = kind(channels, *size, lanes), n_sums(form, known)
    by_hand = tiles.of_images(layout, 1, sums, cpu)
    assert prod(by_hand.values()) * sums <= max(3 * registers // 4, sums)
    assert 1 <= by_hand["rows"] <= size[0]
    for decision, values in conv2d.space(layout, 1).items():
        assert values[0] == 1 <= by_hand[decision]


@pytest.mark.parametrize("layout", [Planes(5, 3, 6, 4), Packs(5, 3, 6, 4)], ids=["planes", "packs"])
def test_layouts_find_every_place_again(layout):
    memory = layout.tensor_shape(1)[1:]
    for index in np.ndindex(*memory):
        assert layout.index(*layout.place(*index)) == index
    values = np.arange(1.0, 6.0)
    for channel in range(5):
        at = layout.channel_index(*layout.index(channel, 2, 5))
        assert layout.by_channel(values)[at] == values[channel]


WINDOWS = [
    ((3, 8, 10), (2, 2), (2, 2), (0, 0)),
    ((2, 7, 35), (3, 2), (1, 1), (1, 1)),
    ((1, 5, 18), (3, 3), (2, 3), (1, 1)),
    ((2, 5, 5), (1, 1), (2, 2), (0, 0)),
]


@SCHEDULES
@pytest.mark.parametrize(("image", "kernel", "stride", "padding"), WINDOWS)
def test_avg_pool2d_is_within_the_rounding_bound(schedule, image, kernel, stride, padding):
    x = wild_moments(np.random.default_rng(3), (2, *image))
    layer = AvgPool2d(kernel, stride, padding)
    expected = layer.moments(x, {})
    terms = layer.moments(Moments(np.abs(x.mean), x.var), {})
    n = gamma(kernel[0] * kernel[1] + 2)
    for known in (False, True):
        kernel_ = build_layer(layer, {}, image, 2, "host", schedule, known)
        result = kernel_(x.mean) if known else kernel_(x.mean, x.var)
        bounds = (n * terms.mean, n * expected.var)
        for got, exact, bound in zip(result, (expected.mean, expected.var), bounds, strict=False):
            assert (np.abs(got - exact) <= bound).all()


@SCHEDULES
@pytest.mark.parametrize(("image", "kernel", "stride", "padding"), WINDOWS)
def test_max_pool2d_of_known_inputs_is_exact(schedule, image, kernel, stride, padding):
    x = wild(np.random.default_rng(3), (2, *image)).astype(np.float32)
    layer = MaxPool2d(kernel, stride, padding, "tree")
    kernel_ = build_layer(layer, {}, image, 2, "host", schedule, True)
    np.testing.assert_array_equal(kernel_(x)[0], layer.forward(x, {}))


def pooled(x, image, kernel, stride, padding, method, schedule="hand"):
    """Moments of the kernel and of the reference, which sees the same float32 numbers."""
    x = Moments(*[part.astype(np.float32) for part in (x.mean, x.var)])
    layer = MaxPool2d(kernel, stride, padding, method)
    got = build_layer(layer, {}, image, len(x.mean), "host", schedule)(x.mean, x.var)
    x = Moments(*[part.astype(float) for part in (x.mean, x.var)])
    return got, layer.moments(x, {})


# One pair is right to 2e-6. Two rounds of them, and the second's response to errors of the first:
# its derivatives by the means are below 1, by relative variances below α = 10 in the tails.
@pytest.mark.parametrize(
    ("method", "window", "schedule"),
    [
        ("tree", WINDOWS[0], "hand"),
        ("tree", ((2, 3, 9), (2, 1), (1, 1), (0, 0)), "default"),
        ("tree", ((1, 5, 18), (1, 3), (1, 2), (0, 1)), "hand"),
        ("tree", ((2, 4, 9), (2, 2), (2, 1), (1, 1)), "hand"),
        ("exact", WINDOWS[0], "hand"),
        ("exact", WINDOWS[1], "hand"),
        ("exact", WINDOWS[2], "hand"),
        ("exact", ((2, 3, 9), (2, 1), (1, 1), (0, 0)), "default"),
    ],
)
def test_max_pool2d_is_within_1e_5(method, window, schedule):
    rng = np.random.default_rng(5)
    image, kernel, stride, padding = window
    scale = 10.0 ** rng.integers(-6, 7, (6, *([1] * 3)))  # of an image; and within it
    scale = scale * rng.choice([1e-3, 0.3, 1.0, 1.0, 2.0], (6, *image))
    mean = rng.uniform(-10, 10, scale.shape) * scale
    mean[:2] = np.where(rng.random(mean[:2].shape) < 0.5, 0.0, mean[:2])  # ties
    got, expected = pooled(
        Moments(mean, scale**2), image, kernel, stride, padding, method, schedule
    )
    s = np.sqrt(expected.var)
    assert (np.abs(got[0] - expected.mean) <= 1e-5 * (np.abs(expected.mean) + s)).all()
    assert (np.abs(got[1] - expected.var) <= 1e-5 * expected.var).all()


@pytest.mark.parametrize("method", ["tree", "exact"])
def test_max_pool2d_without_spread_is_the_maximum(method):
    mean = np.random.default_rng(6).integers(-3, 4, (2, 2, 6, 6)).astype(float)
    got, _ = pooled(deterministic(mean), (2, 6, 6), (1, 2), (1, 2), (0, 1), method)
    np.testing.assert_array_equal(got[0], MaxPool2d((1, 2), (1, 2), (0, 1)).forward(mean, {}))
    assert not got[1].any()


def test_max_pool2d_of_nan_is_nan():
    x = np.zeros((1, 1, 4, 4), np.float32)
    x[0, 0, 1, 2] = np.nan  # second window, its last entry but one
    (got,) = build_layer(MaxPool2d(2), {}, (1, 4, 4), 1, known=True)(x)
    np.testing.assert_array_equal(np.isnan(got[0, 0]), [[False, True], [False, False]])


def norm(rng, channels):
    return BatchNorm2d(*rng.uniform(0.5, 2.0, (4, channels)))


@SCHEDULES
def test_batch_norm_is_within_the_rounding_bound(schedule):
    rng = np.random.default_rng(4)
    layer = norm(rng, 3)
    x = wild_moments(rng, (2, 3, 5, 19))
    expected = layer.moments(x, {})
    a, m, b = (array[:, np.newaxis, np.newaxis] for array in (layer.slope, layer.mean, layer.beta))
    bounds = (
        4 * U * np.abs(a) * (np.abs(x.mean) + np.abs(m)) + 2 * U * (np.abs(expected.mean) + b),
        4 * U * expected.var,
    )
    within(build_layer(layer, {}, (3, 5, 19), 2, "host", schedule)(x.mean, x.var), expected, bounds)
    (only,) = build_layer(layer, {}, (3, 5, 19), 2, "host", schedule, True)(x.mean)
    assert (np.abs(only - expected.mean) <= bounds[0]).all()


@SCHEDULES
@pytest.mark.parametrize("start", [Planes, Packs])
def test_images_change_layout(schedule, start):
    program = Program(HOST, 2)
    x = program.random(Planes(5, 3, 7, HOST.lanes))
    other = images.copied(program, "a", x, start(5, 3, 7, HOST.lanes))
    y = elementwise.add(program, "b", relu.function(ReLU()), other)
    program.give(images.unpacked(program, "c", y))
    values = wild_moments(np.random.default_rng(1), (2, 5, 3, 7))
    got = build(program, schedule)(values.mean, 0 * values.var)
    np.testing.assert_array_equal(got[0], np.maximum(values.mean.astype(np.float32), 0))


def random_network(layers, shape, seed=1):
    """Biases and scales of some size."""
    net = Network(layers, input_shape=shape, seed=seed)
    rng = np.random.default_rng(seed)
    net.set_parameters(
        {
            name: Posterior(
                p.mean if p.mean.ndim > 1 else rng.normal(0, 0.3, p.shape),
                rng.uniform(0.01, 0.2, p.shape),
            )
            for name, p in net.parameters().items()
        }
    )
    return net


def close(got, expected):
    """1e-5, the accuracy that the kernels are made for: of means, of them and one deviation."""
    assert got.mean.dtype == got.var.dtype == np.float32
    assert got.mean.shape == expected.mean.shape
    s = np.sqrt(expected.var)
    assert (np.abs(got.mean - expected.mean) <= 1e-5 * (np.abs(expected.mean) + s)).all()
    assert (np.abs(got.var - expected.var) <= 1e-5 * expected.var).all()


@pytest.mark.parametrize("batch", [1, 3])
def test_lenet5_is_propagate_in_float32(batch):
    net = random_network(lenet5(10), (1, 28, 28))
    x = np.random.default_rng(2).random((batch, 1, 28, 28))
    close(compile_network(net, batch)(x), net.propagate(x))


@SCHEDULES
@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        (
            [
                Conv2d(2, 17, 3, padding=1),
                ReLU(),
                MaxPool2d((1, 2), method="tree"),
                Conv2d(17, 3, 2, stride=2, padding=1),
                Flatten(),
                Dense(90, 5),
            ],
            (2, 9, 20),
        ),
        (
            [
                norm(np.random.default_rng(0), 4),
                Conv2d(4, 6, 3, groups=2),
                ReLU(),
                AvgPool2d(2),
                Conv2d(6, 20, (1, 3)),
                norm(np.random.default_rng(1), 20),
                Conv2d(20, 4, (1, 3), padding=1),
            ],
            (4, 8, 30),
        ),
        ([MaxPool2d(2), Conv2d(3, 4, 2), Sigmoid(), Flatten(), Dense(4, 3)], (3, 4, 5)),
    ],
    ids=["both ways", "ends in an image", "known at first"],
)
def test_networks_of_images(schedule, layers, shape):
    net = random_network(layers, shape)
    x = np.random.default_rng(3).standard_normal((3, *shape)).astype(np.float32)
    close(compile_network(net, 3, schedule=schedule)(x), net.propagate(x))


@pytest.mark.parametrize("form", ["raw", "separate", "mean"])
def test_other_forms_of_a_network(form):
    layers = [Conv2d(1, 4, 3), ReLU(), AvgPool2d(2), Flatten(), Dense(36, 5), ReLU()]
    net = random_network(layers, (1, 8, 8))
    x = np.random.default_rng(3).random((2, 1, 8, 8))
    got = compile_network(net, 2, form=form)(x)
    if form != "mean":
        close(got, raw_moments.propagate(net, x) if form == "raw" else net.propagate(x))
        return
    means = {name: p.mean for name, p in net.parameters().items()}
    expected, _ = net.forward(x, means)
    # Two sums of fewer than 40 terms below 10 each.
    np.testing.assert_allclose(got.mean, expected, rtol=0, atol=20 * gamma(80))
    assert not got.var.any()


class Own(ReLU):
    """A layer that nobody has a kernel for."""


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        ([Conv2d(1, 1, 1), Own()], (1, 3, 3), "layer 1: Own has no kernel"),
        (
            [Residual((ReLU(), Own()))],
            (1, 3, 3),
            "layer 0_1: Own has no kernel",
        ),
        ([Conv2d(1, 2, 3)], None, "input_shape is None; expected the shape of one input"),
        ([Conv2d(1, 2, 3)], (1, 2, 2), "layer 0: Conv2d.*expected at least 3 × 3"),
    ],
)
def test_what_cannot_be_compiled_is_named(layers, shape, message):
    net = Network(layers)
    net.input_shape = shape
    with pytest.raises(InputError, match=message):
        compile_network(net, 1)


def test_rows_are_no_images():
    x = Program(HOST, 1).known(Rows(4, HOST.lanes))
    with pytest.raises(InputError, match=r"shape \(4,\); expected images"):
        images.images(x)


def test_images_of_another_shape_are_refused():
    fast = compile_network(Network([Conv2d(2, 3, 2)], input_shape=(2, 4, 5)), 2)
    for shape in ((2, 2, 5, 4), (1, 2, 4, 5), (2, 40)):
        with pytest.raises(InputError, match=r"expected \(2, 2, 4, 5\)"):
            fast(np.zeros(shape))
