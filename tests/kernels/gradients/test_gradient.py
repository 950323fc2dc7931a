"""Gradient kernels of sampled layers against the float64 reference, and what they refuse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.arithmetic import softplus
from kernels.devices import targets
from kernels.gradients import dense, frames
from kernels.gradients import kernel as gradients
from kernels.program.kernel import build as build_program
from refbnn.errors import InputError
from refbnn.layers import Conv2d, Dense
from refbnn.noise import DeviceLaw, Gaussian
from refbnn.numerics.random.philox import key_of
from refbnn.numerics.softplus import softplus_and_slope
from verification.kernels.gradients import Case, case, drawn_noise, sizes

SCHEDULES = pytest.mark.parametrize("schedule", ["hand", "default"])
WIDTHS = st.sampled_from([1, 2, 3, 7, 13, 16, 17, 31, 33, 64, 100])
BATCHES = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 11])
FEW = settings(max_examples=3, deadline=None, derandomize=True, database=None)  # each compiles
NARROW = pytest.mark.parametrize(("lanes", "registers", "drawn"), [(4, 32, True), (8, 16, False)])

CONVOLUTIONS = {
    "as in LeNet-5": (Conv2d(2, 6, 5, padding=2), (12, 19)),
    "oblong, without padding": (Conv2d(3, 2, (1, 4)), (3, 7)),
    "padding beyond the kernel": (Conv2d(1, 3, (2, 1), padding=(3, 2)), (4, 17)),
    "strides": (Conv2d(2, 3, (3, 2), stride=(2, 3), padding=(1, 2)), (8, 20)),
    "strides that leave pixels out": (Conv2d(1, 2, 1, stride=2), (6, 5)),
    "groups": (Conv2d(4, 6, 3, padding=1, groups=2), (7, 18)),
    "a group a channel, strides": (Conv2d(3, 6, (2, 3), stride=2, groups=3), (8, 9)),
    "one pixel": (Conv2d(1, 1, 1), (1, 1)),
}


def arguments(numbers: Case, noise):
    c = numbers
    return [c.x, c.grad_y, c.mean, c.scale, c.bias_scale, *noise]


def assert_within(result, numbers: Case, drawn: bool):
    expected, bounds = numbers.expected(), numbers.bounds(drawn)
    assert len(result) == len(expected)
    for got, exact, bound in zip(result, expected, bounds, strict=True):
        assert got.shape == exact.shape
        assert (np.abs(got - exact) <= bound).all()


@SCHEDULES
@FEW
@given(
    n_in=WIDTHS,
    n_out=WIDTHS,
    batch=BATCHES,
    samples=st.sampled_from([1, 2, 3]),
    first=st.booleans(),
    seed=st.integers(0, 999),
)
def test_dense_for_given_noise(schedule, n_in, n_out, batch, samples, first, seed):
    rng = np.random.default_rng(seed)
    numbers = case(Dense(n_in, n_out), (n_in,), batch, samples, first, None, rng)
    kernel = gradients.build(sizes(numbers), schedule=schedule)
    assert_within(kernel(*arguments(numbers, (numbers.z, numbers.z_bias))), numbers, False)


@SCHEDULES
@FEW
@given(
    n_in=WIDTHS,
    n_out=WIDTHS,
    samples=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**64 - 1),
)
def test_dense_with_noise_drawn_in_the_kernel(schedule, n_in, n_out, samples, seed):
    layer, law, index = Dense(n_in, n_out), DeviceLaw(1.0, -0.5, (0.3,)), 2
    noise = drawn_noise(layer, law, seed, index, samples)
    rng = np.random.default_rng(5)
    numbers = case(layer, (n_in,), 3, samples, False, noise, rng)
    kernel = gradients.build(sizes(numbers), schedule=schedule, law=law, layer=index)
    words = np.array(key_of(seed), np.uint32)
    assert_within(kernel(*arguments(numbers, (words,))), numbers, True)


@pytest.mark.parametrize("name", CONVOLUTIONS)
@SCHEDULES
def test_convolution_for_given_noise(name, schedule):
    layer, image = CONVOLUTIONS[name]
    first = name == "as in LeNet-5"
    shape = layer.in_channels, *image
    numbers = case(layer, shape, 5, 2, first, None, np.random.default_rng(6))
    kernel = gradients.build(sizes(numbers), schedule=schedule)
    assert_within(kernel(*arguments(numbers, (numbers.z, numbers.z_bias))), numbers, False)


@pytest.mark.parametrize(
    ("name", "schedule"), [("as in LeNet-5", "default"), ("strides", "hand"), ("groups", "hand")]
)
def test_convolution_with_noise_drawn_in_the_kernel(name, schedule):
    layer, image = CONVOLUTIONS[name]
    seed, index, samples = 77, 0, 2
    noise = drawn_noise(layer, Gaussian(), seed, index, samples)
    rng = np.random.default_rng(7)
    numbers = case(layer, (layer.in_channels, *image), 3, samples, False, noise, rng)
    kernel = gradients.build(sizes(numbers), schedule=schedule, law=Gaussian(), layer=index)
    words = np.array(key_of(seed), np.uint32)
    assert_within(kernel(*arguments(numbers, (words,))), numbers, True)


@NARROW
@pytest.mark.parametrize(
    ("layer", "shape"), [(Dense(31, 45), (31,)), (Conv2d(2, 6, 3, padding=1), (2, 5, 9))]
)
def test_gradients_for_narrower_registers(layer, shape, lanes, registers, drawn):
    narrow = targets.Target("narrow", lanes, registers, targets.target("host").llvm)
    law, seed = Gaussian(), 11
    noise = drawn_noise(layer, law, seed, 0, 2) if drawn else None
    numbers = case(layer, shape, 7, 2, False, noise, np.random.default_rng(8))
    program = gradients.alone(sizes(numbers), narrow, law=law if drawn else None)
    words = (np.array(key_of(seed), np.uint32),)
    last = words if drawn else (numbers.z, numbers.z_bias)
    assert_within(build_program(program, "hand")(*arguments(numbers, last)), numbers, drawn)


@SCHEDULES
@pytest.mark.parametrize(("layer", "shape"), [(Dense(17, 5), (17,)), (Conv2d(2, 3, 2), (2, 4, 6))])
def test_gradients_by_rho(layer, shape, schedule):
    numbers = case(layer, shape, 4, 2, False, None, np.random.default_rng(9))
    rho, bias_rho = np.log(numbers.scale), np.log(numbers.bias_scale)  # σ of similar sizes
    rho, bias_rho = (part.astype(np.float32).astype(float) for part in (rho, bias_rho))
    (scale, slope), (bias_scale, bias_slope) = map(softplus_and_slope, (rho, bias_rho))
    numbers = Case(
        layer, numbers.x, numbers.grad_y, numbers.mean, scale, bias_scale, numbers.z, numbers.z_bias
    )
    kernel = gradients.build(sizes(numbers), schedule=schedule, parameter="rho")
    c = numbers
    result = kernel(c.x, c.grad_y, c.mean, rho, bias_rho, c.z, c.z_bias)
    expected, bounds = numbers.expected(), numbers.bounds(False)
    for index, factor in ((1, slope), (3, bias_slope)):
        expected[index] = expected[index] * factor
        # The slope has an error of its own, and so has its product.
        more = (softplus.RELATIVE_ERROR + 2.0**-24) * np.abs(expected[index])
        bounds[index] = bounds[index] * factor * (1.0 + 1e-6) + more
    # And the scale, in ∂L/∂x: as much as makes up for it by means.
    fan_in = np.abs(c.scale * c.z)
    off, _ = layer.backward(np.abs(c.x), {"weight": fan_in}, np.abs(c.grad_y))
    bounds[4] = bounds[4] + softplus.RELATIVE_ERROR * off
    for got, exact, bound in zip(result, expected, bounds, strict=True):
        assert (np.abs(got - exact) <= bound).all()


def test_the_same_seed_gives_the_same_gradients_and_another_does_not():
    numbers = case(Dense(9, 5), (9,), 3, 2, False, None, np.random.default_rng(10))
    kernel = gradients.build(sizes(numbers), law=Gaussian())
    first, again, other = (
        kernel(*arguments(numbers, (np.array(words, np.uint32),)))
        for words in ((1, 2), (1, 2), (1, 3))
    )
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(first[0], other[0])  # by means: whatever the noise
    assert not np.array_equal(first[1], other[1])


@settings(derandomize=True, database=None)
@given(n_rows=st.integers(1, 300), n_packs=st.integers(1, 300), registers=st.sampled_from([16, 32]))
def test_a_tile_fits_the_registers_and_the_layer(n_rows, n_packs, registers):
    rows, packs = dense.tile(n_rows, n_packs, registers)
    assert 1 <= rows <= n_rows
    assert 1 <= packs <= n_packs
    assert rows * packs <= 3 * registers // 4


@pytest.mark.parametrize(
    ("layer", "image", "message"),
    [
        (Conv2d(1, 1, 5), (4, 8), "image of 4 × 8; expected at least 5 × 5"),
    ],
)
def test_convolutions_without_a_kernel(layer, image, message):
    with pytest.raises(InputError, match=message):
        frames.Sizes(layer, image, 2)


@pytest.mark.parametrize(
    "options", [{"batch": 0}, {"samples": 0}, {"n_in": 0}, {"n_out": 2.5}, {"batch": -3}]
)
def test_sizes_that_are_none(options):
    with pytest.raises(InputError, match="expected whole numbers of at least 1"):
        dense.Sizes(**{"n_in": 3, "n_out": 2, "batch": 4, **options})


def test_bad_input():
    kernel = gradients.build(dense.Sizes(3, 2, 4))
    good = [np.zeros(view.shape) for view in kernel.inputs]
    kernel(*good)
    with pytest.raises(InputError, match=r"input of shape \(4, 3\); expected \(1, 4, 3\)"):
        kernel(good[0][0], *good[1:])
    with pytest.raises(InputError, match="parameter 'var' is unknown"):
        gradients.build(dense.Sizes(3, 2, 4), parameter="var")
