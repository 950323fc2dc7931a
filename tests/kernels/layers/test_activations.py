"""Kernels of the activations against the float64 reference."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.arithmetic import gaussian_panels, polynomials
from kernels.devices import targets
from kernels.layers.activations import elementwise, elu, gelu, leaky_relu, relu, sigmoid, tanh
from kernels.layers.activations.elementwise import ClosedForm
from kernels.layers.layer import build_layer, layer_program
from kernels.program.kernel import build
from kernels.program.program import Program, Rows
from refbnn.errors import InputError
from refbnn.layers import ELU, GELU, Layer, LeakyReLU, ReLU, Sigmoid, Tanh
from refbnn.layers.activations.elementwise import Elementwise
from refbnn.layers.moments import Moments
from refbnn.numerics.normal import rectified_moments

SCHEDULES = pytest.mark.parametrize("schedule", ["hand", "default"])
FEW = settings(max_examples=6, deadline=None, derandomize=True, database=None)  # each compiles

# The layer and its description.
PANELS: dict[str, tuple[Any, Any]] = {
    "sigmoid": (Sigmoid(), sigmoid.function(Sigmoid())),
    "tanh": (Tanh(), tanh.function(Tanh())),
    "gelu": (GELU(), gelu.function(GELU())),
    "elu": (ELU(1.0), elu.function(ELU(1.0))),
    "elu_small": (ELU(0.3), elu.function(ELU(0.3))),
}


def identity(value):
    """A description of a function whose moments are those of its input."""
    return ClosedForm("test", value, lambda m, v: (m, v), lambda m, v: (m, v, 0.0 * v, 1.0))


def spread(rng, batch, n, least, greatest):
    """Rows of means within ten standard deviations, of scales over all of [10^least, 10^most]."""
    scale = 10.0 ** rng.uniform(least, greatest, (batch, n))
    var = np.square(scale).astype(np.float32)
    mean = (rng.uniform(-10, 10, (batch, n)) * np.sqrt(var.astype(float))).astype(np.float32)
    return mean, var


def exact(layer, mean, var):
    x = Moments(mean.astype(float), var.astype(float))
    return layer.propagated(x), layer.value(x.mean)


@SCHEDULES
@pytest.mark.parametrize("name", PANELS)
def test_moments_by_quadrature_are_as_accurate_as_stated(name, schedule):
    layer, _ = PANELS[name]
    rng = np.random.default_rng(1)
    mean, var = spread(rng, 3, 1501, -6, 5)
    got_mean, got_var = build_layer(layer, {}, (1501,), 3, schedule=schedule)(mean, var)
    want, at_mean = exact(layer, mean, var)
    assert (np.abs(got_var - want.var) <= gaussian_panels.RELATIVE_ERROR * want.var).all()
    size = np.abs(at_mean) + np.sqrt(want.var)
    assert (np.abs(got_mean - want.mean) <= 1e-6 * size).all()
    if name == "sigmoid":  # of one sign: relative
        assert (np.abs(got_mean - want.mean) <= 1e-5 * want.mean).all()
    # Far from the ends of float32's exponent rounding alone is left.
    near = np.abs(mean) <= 3 * np.sqrt(var)
    assert (np.abs(got_var - want.var)[near] <= 4e-6 * want.var[near]).all()


@FEW
@given(
    name=st.sampled_from([*PANELS]),
    batch=st.integers(1, 5),
    n=st.sampled_from([1, 2, 7, 15, 16, 17, 31, 97]),
    lanes=st.sampled_from([4, 8, 16]),
    seed=st.integers(0, 99),
)
def test_quadrature_for_any_size_and_lanes(name, batch, n, lanes, seed):
    layer, _ = PANELS[name]
    narrow = targets.Target("narrow", lanes, 16, targets.target("host").llvm)
    program = layer_program(layer, {}, (n,), batch, narrow)
    mean, var = spread(np.random.default_rng(seed), batch, n, -2, 2)
    got_mean, got_var = build(program, "hand")(mean, var)
    want, at_mean = exact(layer, mean, var)
    assert (np.abs(got_var - want.var) <= gaussian_panels.RELATIVE_ERROR * want.var).all()
    assert (np.abs(got_mean - want.mean) <= 1e-6 * (np.abs(at_mean) + np.sqrt(want.var))).all()


@pytest.mark.parametrize("name", PANELS)
def test_quadrature_at_the_ends_of_float32(name):
    layer, _ = PANELS[name]
    ends = np.array([0.0, 1e-45, 1e-38, 1e-20, 1e-3, 1.0, 20.0, 90.0, 1e6, 1e18])
    mean, scale = (a.ravel() for a in np.meshgrid([*ends, *-ends], ends))
    kernel = build_layer(layer, {}, (mean.size,), 1)
    mean, var = mean.astype(np.float32)[np.newaxis], np.square(scale).astype(np.float32)[np.newaxis]
    got_mean, got_var = kernel(mean, var)
    assert np.isfinite(got_mean).all()
    assert np.isfinite(got_var).all()
    assert (got_var >= 0).all()
    assert not got_var[var == 0].any()
    # Without spread: the value, whose own formulas err by a few roundings.
    known = var == 0
    want = layer.value(mean[known].astype(float))
    np.testing.assert_allclose(got_mean[known], want, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("name", PANELS)
def test_values_of_known_elements(name):
    layer, function = PANELS[name]
    x = np.concatenate([np.linspace(-12, 12, 4001), [0.0, 1e-30, -1e-30, 1e4, -1e4, 1e38, -1e38]])
    x = x.astype(np.float32)[np.newaxis]
    program = Program(targets.target("host"), 1)
    known = program.known(Rows(x.size, program.target.lanes))
    program.give(elementwise.add(program, name, identity(function.value), known))
    (got,) = build(program, "hand")(x)
    want = layer.value(x.astype(float))
    # Roundings of x²/2 in the exponent of GELU's tail: 72 of them at −12.
    np.testing.assert_allclose(got, want, rtol=1e-5 if name == "gelu" else 1e-6, atol=1e-37)


@SCHEDULES
@pytest.mark.parametrize("slope", [0.01, 1.0, 0.0, -1.0])
def test_leaky_relu_is_as_accurate_as_stated(slope, schedule):
    rng = np.random.default_rng(3)
    mean, var = spread(rng, 5, 1999, -18, 18)
    var[0, :500] = 0.0
    layer = LeakyReLU(slope)
    kernel = build_layer(layer, {}, (1999,), 5, schedule=schedule)
    got_mean, got_var = kernel(mean, var)
    want, at_mean = exact(layer, mean, var)
    limit = leaky_relu.RELATIVE_ERROR * (1 if slope >= 0 else 4)
    assert (np.abs(got_var - want.var) <= limit * want.var + 2.0**-149).all()
    m, v = mean.astype(float), var.astype(float)
    near = np.minimum(rectified_moments(m, v)[0], rectified_moments(-m, v)[0])
    size = np.abs(at_mean) + abs(1 - slope) * near
    assert (np.abs(got_mean - want.mean) <= 2e-6 * size + 2.0**-149).all()
    known = var == 0
    np.testing.assert_array_equal(got_mean[known], LeakyReLU(slope).value(mean[known]))
    assert not got_var[known].any()


@FEW
@given(
    lanes=st.sampled_from([4, 8, 16]), n=st.sampled_from([1, 5, 16, 33]), seed=st.integers(0, 99)
)
def test_relu_for_narrower_registers(lanes, n, seed):
    narrow = targets.Target("narrow", lanes, 16, targets.target("host").llvm)
    program = layer_program(ReLU(), {}, (n,), 3, narrow)
    mean, var = spread(np.random.default_rng(seed), 3, n, -10, 10)
    got_mean, got_var = build(program, "hand")(mean, var)
    want, _ = exact(ReLU(), mean, var)
    assert (np.abs(got_mean - want.mean) <= relu.RELATIVE_ERROR * want.mean + 2.0**-149).all()
    assert (np.abs(got_var - want.var) <= relu.RELATIVE_ERROR * want.var + 2.0**-149).all()


def test_polynomials_are_as_accurate_as_stated():
    r = np.linspace(-0.5, 0.5, 2001)
    power = np.polynomial.polynomial.polyval(r, polynomials.POWER_REST)
    assert (np.abs(power * 2.0**r - 1.0) <= 3e-9).all()
    t = np.linspace(-1.0, 1.0, 2000)  # not 0
    rise = t * np.polynomial.polynomial.polyval(t, polynomials._EXPM1)
    assert (np.abs(rise / np.expm1(t) - 1.0) <= 1e-8).all()


def test_exponentials_are_as_accurate_as_stated():
    def exp_minus(a):
        return polynomials.named(lambda name: (polynomials.exp_minus(name, a),), 1)[0]

    a = np.concatenate([np.linspace(0, 87.6, 20000), np.logspace(-8, 0, 2000), [88, 100, 1e30]])
    program = Program(targets.target("host"), 1)
    x = program.known(Rows(a.size, program.target.lanes))
    program.give(elementwise.add(program, "e", identity(exp_minus), x))
    program.give(elementwise.add(program, "s", identity(polynomials.exp_minus_one), x))
    single = a.astype(np.float32)[np.newaxis]
    got, rise = build(program, "hand")(single)
    want = np.exp(-single.astype(float))
    # Half a unit of the last place where the result is subnormal, from a = 87.34 on.
    assert (np.abs(got - want)[:, :-3] <= 2e-7 * want[:, :-3] + 2.0**-150).all()
    assert not got[:, -3:].any()
    near = single <= 1.0
    np.testing.assert_allclose(rise[near], np.expm1(single.astype(float)[near]), rtol=3e-7)


@SCHEDULES
@pytest.mark.parametrize("name", [*PANELS, "relu", "leaky_relu"])
def test_of_nan_nan_is_made(name, schedule):
    # An overflow before it would otherwise pass for a number.
    others: dict[str, Layer] = {"relu": ReLU(), "leaky_relu": LeakyReLU(0.1)}
    layer = others[name] if name in others else PANELS[name][0]
    mean, var = np.zeros((2, 1, 5), np.float32)
    mean[0, 1] = var[0, 3] = np.nan
    for result in build_layer(layer, {}, (5,), 1, schedule=schedule)(mean, var):
        np.testing.assert_array_equal(np.isnan(result), [[0, 1, 0, 1, 0]])


def test_a_layer_from_elsewhere_is_not_taken_for_one_of_ours():
    """A user's own elementwise layer may stand in a file with the name of one of ours."""

    class Negate(Elementwise):
        def value(self, x):
            return -x

        def grad_input(self, x, grad_y):
            return -grad_y

        def propagated(self, x):
            return Moments(-x.mean, x.var)

    Negate.__module__ = "relu"
    with pytest.raises(InputError, match="Negate has no kernel"):
        build_layer(Negate(), {}, (3,), 1)
