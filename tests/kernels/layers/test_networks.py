"""Kernels against the float64 reference, and the errors of compile_network."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import te

from kernels import compile_network
from kernels.bench import latency as bench
from kernels.devices import targets
from kernels.layers import dense, tiles
from kernels.layers.activations import relu
from kernels.layers.layer import build_layer
from kernels.program.compiled import compiled
from kernels.program.kernel import build
from kernels.program.program import Activation, Program, Rows
from refbnn import predict
from refbnn.errors import InputError
from refbnn.layers import Conv2d, Dense, ReLU
from refbnn.layers import dense as dense_reference
from refbnn.layers.moments import Moments, deterministic
from refbnn.layers.posterior import Posterior
from refbnn.network.network import Network
from refbnn.numerics.normal import rectified_moments
from tests.helpers.layer_kernels import build_dense, dense_program
from verification.rounding import dense_bound, gamma, network_bound

TINY = 2.0**-149  # the smallest float32
SCHEDULES = pytest.mark.parametrize("schedule", ["hand", "default"])

# One, primes, whole vectors, and one more or less than these; every kind of last tile.
SIZES = st.sampled_from([1, 2, 3, 7, 13, 16, 17, 31, 33, 64, 100, 127, 144])
BATCHES = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 11])
FEW = settings(max_examples=12, deadline=None, derandomize=True, database=None)  # each compiles


def wild(rng, shape):
    """Both signs, twelve orders of magnitude, one number in ten 0; no product underflows."""
    values = 10.0 ** rng.uniform(-6, 6, shape) * rng.choice([-1.0, 1.0], shape)
    return np.where(rng.random(shape) < 0.1, 0.0, values)


def wild_layer(rng, n_in, n_out):
    return (
        Posterior(wild(rng, (n_out, n_in)), np.abs(wild(rng, (n_out, n_in)))),
        Posterior(wild(rng, n_out), np.abs(wild(rng, n_out))),
    )


@SCHEDULES
@FEW
@given(batch=BATCHES, n_in=SIZES, n_out=SIZES, seed=st.integers(0, 999))
def test_dense_is_within_the_rounding_bound(schedule, batch, n_in, n_out, seed):
    rng = np.random.default_rng(seed)
    weight, bias = wild_layer(rng, n_in, n_out)
    x = Moments(wild(rng, (batch, n_in)), np.abs(wild(rng, (batch, n_in))))
    mean, var = build_dense(weight, bias, batch, schedule=schedule)(x.mean, x.var)
    expected = dense_reference.moments(x, weight, bias)
    m_bound, v_bound = dense_bound(x, weight, bias)
    assert (np.abs(mean - expected.mean) <= m_bound).all()
    assert (np.abs(var - expected.var) <= v_bound).all()


@SCHEDULES
@FEW
@given(batch=BATCHES, n_in=SIZES, n_out=SIZES, seed=st.integers(0, 999))
def test_dense_of_known_inputs_is_within_the_rounding_bound(schedule, batch, n_in, n_out, seed):
    rng = np.random.default_rng(seed)
    weight, bias = wild_layer(rng, n_in, n_out)
    x = wild(rng, (batch, n_in))
    mean, var = build_dense(weight, bias, batch, schedule=schedule, known=True)(x)
    expected = dense_reference.moments_of_known(x, weight, bias)
    m_bound, v_bound = dense_bound(deterministic(x), weight, bias)
    assert (np.abs(mean - expected.mean) <= m_bound).all()
    assert (np.abs(var - expected.var) <= v_bound).all()


@SCHEDULES
@pytest.mark.parametrize("known", [False, True])
def test_dense_in_other_forms(schedule, known):
    rng = np.random.default_rng(9)
    shape = 33, 45
    weight = Posterior(rng.standard_normal(shape), rng.random(shape))
    bias = Posterior(rng.standard_normal(33), rng.random(33))
    x = Moments(rng.standard_normal((7, 45)), rng.random((7, 45)) * (not known))
    inputs = (x.mean,) if known else (x.mean, x.var)
    mean, var = build_dense(weight, bias, 7, "host", schedule, known, "raw")(*inputs)
    expected = dense_reference.moments(x, weight, bias)
    m_bound, _ = dense_bound(x, weight, bias)
    # Both sums of the raw form are rounded as the mean is: relative to their terms.
    squares = x.mean**2 + x.var
    size = squares @ (weight.mean**2 + weight.var).T + bias.var
    assert (np.abs(mean - expected.mean) <= m_bound).all()
    assert (np.abs(var - expected.var) <= gamma(2 * 45 + 14) * size).all()
    (only,) = build_dense(weight, bias, 7, "host", schedule, True, "mean")(x.mean)
    assert (np.abs(only - expected.mean) <= m_bound).all()
    _, v_bound = dense_bound(x, weight, bias)
    mean, var = build_dense(weight, bias, 7, "host", schedule, known, "separate")(*inputs)
    assert (np.abs(mean - expected.mean) <= m_bound).all()
    assert (np.abs(var - expected.var) <= v_bound).all()
    with pytest.raises(InputError, match="form 'both' is unknown; expected one of: variance"):
        build_dense(weight, bias, 7, form="both")


@SCHEDULES
@pytest.mark.parametrize("form", ["variance", "raw", "separate"])
def test_dense_of_known_biases(schedule, form):
    rng = np.random.default_rng(9)
    shape = 40, 30
    weight = Posterior(rng.standard_normal(shape), np.zeros(shape))
    bias = Posterior(rng.standard_normal(40), np.zeros(40))
    x = rng.standard_normal((2, 30))
    mean, var = build_dense(weight, bias, 2, "host", schedule, True, form)(x)
    m_bound, _ = dense_bound(deterministic(x), weight, bias)
    assert (np.abs(mean - (x @ weight.mean.T + bias.mean)) <= m_bound).all()
    if form == "raw":  # two sums of thirty terms, equal but for rounding
        assert (var <= gamma(2 * 30 + 14) * (x**2 @ (weight.mean**2).T)).all()
        assert (var >= 0).all()
        assert var.any()
    else:
        assert not var.any()
    # Of weights with a variance, theirs alone.
    weight = Posterior(weight.mean, rng.random(shape))
    _, var = build_dense(weight, bias, 2, "host", schedule, True, form)(x)
    size = x**2 @ (weight.mean**2 + weight.var).T
    assert (np.abs(var - x**2 @ weight.var.T) <= gamma(2 * 30 + 14) * size).all()


@pytest.mark.parametrize(("lanes", "registers"), [(4, 16), (4, 32), (8, 16)])
def test_dense_for_narrower_registers(lanes, registers):
    narrow = targets.Target("narrow", lanes, registers, targets.target("host").llvm)
    rng = np.random.default_rng(7)
    weight, bias = wild_layer(rng, 31, 45)
    x = Moments(wild(rng, (7, 31)), np.abs(wild(rng, (7, 31))))
    program = dense_program(weight, bias, 7, narrow)
    mean, var = build(program, "hand")(x.mean, x.var)
    expected = dense_reference.moments(x, weight, bias)
    m_bound, v_bound = dense_bound(x, weight, bias)
    assert (np.abs(mean - expected.mean) <= m_bound).all()
    assert (np.abs(var - expected.var) <= v_bound).all()


@FEW
@given(rows=st.integers(1, 7), packs=st.integers(1, 6), lanes=st.sampled_from([4, 16]))
def test_dense_with_other_tiles_than_its_layout_is_made_for(rows, packs, lanes):
    cpu = dataclasses.replace(targets.target("host"), lanes=lanes)
    rng = np.random.default_rng(7)
    weight, bias = wild_layer(rng, 31, 6 * lanes - 1)
    x = Moments(wild(rng, (7, 31)), np.abs(wild(rng, (7, 31))))
    program = dense_program(weight, bias, 7, cpu)
    decisions = {"rows": rows, "packs": packs}
    program.steps[0] = dataclasses.replace(program.steps[0], by_hand=decisions)
    mean, var = build(program, "hand")(x.mean, x.var)
    expected = dense_reference.moments(x, weight, bias)
    m_bound, v_bound = dense_bound(x, weight, bias)
    assert (np.abs(mean - expected.mean) <= m_bound).all()
    assert (np.abs(var - expected.var) <= v_bound).all()


@pytest.mark.parametrize(("lanes", "registers"), [(4, 16), (8, 16), (16, 32)])
@pytest.mark.parametrize(
    ("known", "form"), [(True, "variance"), (False, "variance"), (True, "mean")]
)
def test_dense_by_blocks_of_inputs(lanes, registers, known, form):
    cpu = targets.Target("narrow", lanes, registers, targets.target("host").llvm)
    rng = np.random.default_rng(12)
    weight, bias = wild_layer(rng, 3640, 33)
    x = Moments(wild(rng, (11, 3640)), wild(rng, (11, 3640)) ** 2 * (not known))
    program = dense_program(weight, bias, 11, cpu, known, form)
    decisions = program.steps[-1].by_hand
    size = 4 * lanes * decisions["packs"] * (1 if form == "mean" else 2)
    depth = dense.block_of_inputs(3640, size)
    assert decisions["rows"] < 11
    assert depth < 3640 == depth * (3640 // depth)
    assert size * depth <= 25_600
    mean, *var = build(program, "hand")(*([x.mean] if known else [x.mean, x.var]))
    expected = dense_reference.moments(x, weight, bias)
    m_bound, v_bound = dense_bound(x, weight, bias)
    assert (np.abs(mean - expected.mean) <= m_bound).all()
    for v in var:
        assert (np.abs(v - expected.var) <= v_bound).all()


@SCHEDULES
def test_dense_variance_does_not_cancel(schedule):
    # m² = 10⁸ v and weights almost known: Σ E[x²]E[w²] − (mµ)² is 0 or noise in float32.
    ones = np.ones((1, 64))
    weight, bias = Posterior(ones, 1e-6 * ones), Posterior(np.zeros(1), np.zeros(1))
    _, var = build_dense(weight, bias, 1, schedule=schedule)(1e2 * ones, 1e-4 * ones)
    exact = 64 * (1e-4 * (1 + 1e-12) + 1e4 * 1e-12)
    assert abs(var[0, 0] - exact) <= gamma(64 + 7) * exact


def test_arrays_of_another_shape_are_refused():
    kernel = build_layer(ReLU(), {}, (4,), 5)
    for shape in ((1, 4), (4,), (5, 3)):
        with pytest.raises(InputError, match=r"expected \(5, 4\)"):
            kernel(np.ones(shape), np.ones((5, 4)))
    with pytest.raises(InputError, match="1 arrays; expected 2"):
        kernel(np.ones((5, 4)))
    for batch in (0, -1, 2.5, True):
        with pytest.raises(InputError, match="batch"):
            build_layer(ReLU(), {}, (4,), batch)  # type: ignore[arg-type]


@settings(derandomize=True, database=None)
@given(
    batch=st.integers(1, 300) | st.just(10**9),
    n_packs=st.integers(1, 300),
    sums=st.sampled_from([1, 2, 3]),
    cpu=st.sampled_from(
        [
            targets.Target("x", 16, 32, {"mtriple": "x86_64-linux-gnu"}),
            targets.Target("x", 8, 16, {"mtriple": "x86_64-linux-gnu"}),
            targets.target("cortex-a53"),
            targets.target("cortex-a72"),
        ]
    ),
)
def test_a_tile_fits_the_registers_and_the_layer(batch, n_packs, sums, cpu):
    rows, packs = tiles.of_rows(batch, n_packs, sums, cpu)
    assert 1 <= rows <= batch
    assert 1 <= packs <= n_packs
    inputs = sums * rows if cpu.is_arm else 0
    assert sums * rows * packs + inputs <= (5 * cpu.registers // 8 if not cpu.is_arm else 27)


@pytest.mark.parametrize(("packs", "unroll"), [(1, 1), (2, 4), (3, 1), (5, 4)])
def test_weights_by_tiles_keep_every_weight_and_pad_with_zeros(packs, unroll):
    terms = [np.arange(1.0, 16.0).reshape(5, 3), np.arange(16.0, 31.0).reshape(5, 3)]
    packed = dense.by_tiles([dense.pack(term, 2) for term in terms], packs, unroll)
    for index in np.ndindex(5, 3, 2):
        out, k, term = index
        tile, p = divmod(out // 2, packs)
        assert packed[tile, k, term, p, out % 2] == terms[term][out, k]
    assert np.count_nonzero(packed) == 30
    assert packed.shape[1] % unroll == 0


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_packing_keeps_every_weight_and_pads_with_zeros(lanes):
    values = np.arange(1.0, 16.0).reshape(5, 3)
    rows = np.moveaxis(dense.pack(values, lanes), 2, 1).reshape(-1, 3)
    np.testing.assert_array_equal(rows[:5], values)
    assert not rows[5:].any()
    np.testing.assert_array_equal(dense.pack(values[:, 0], lanes).ravel()[:5], values[:, 0])


def test_weights_below_the_least_normal_number_count_as_zero():
    program = Program(targets.target("host"), 1)
    program.weight("w", np.array([1e-39, -1e-45, 2.0**-126, -1.0]))
    np.testing.assert_array_equal(program.weights[0][1], np.array([0.0, 0.0, 2.0**-126, -1.0]))


@pytest.fixture(scope="module", params=["hand", "default"])
def relu_kernel(request):
    return build_layer(ReLU(), {}, (2000,), 19, schedule=request.param)


def test_relu_is_as_accurate_as_stated(relu_kernel):
    # Dense in a = m/√v; the scales leave float32 at both ends, subnormal variances included.
    a = np.concatenate([np.linspace(-10, 10, 1600), np.linspace(-0.05, 0.05, 400)])
    scale = 10.0 ** np.array([-22, -21, -20, *np.linspace(-18, 18, 13), 18.8, 19.0, 19.2])
    var = (np.broadcast_to(scale[:, np.newaxis], (19, 2000)) ** 2).astype(np.float32)
    mean = (a * np.sqrt(var.astype(float))).astype(np.float32)
    got_mean, got_var = relu_kernel(mean, var)
    exact_mean, exact_var = rectified_moments(mean, var)
    # Half a unit of the last place where the result itself is subnormal.
    assert (np.abs(got_mean - exact_mean) <= relu.RELATIVE_ERROR * exact_mean + 0.5 * TINY).all()
    assert (np.abs(got_var - exact_var) <= relu.RELATIVE_ERROR * exact_var + 0.5 * TINY).all()


def test_relu_without_spread_is_exact(relu_kernel):
    mean = np.zeros((19, 2000), np.float32)
    mean[:, :11] = [0.0, -0.0, 1.0, -1.0, 3e38, -3e38, 1e-38, -1e-38, 1e-45, -1e-45, 0.1]
    got_mean, got_var = relu_kernel(mean, np.zeros_like(mean))
    np.testing.assert_array_equal(got_mean, np.maximum(mean, 0))
    assert not got_var.any()


def test_relu_of_anything_finite_is_finite_and_its_variance_not_negative(relu_kernel):
    largest = float(np.finfo(np.float32).max)
    ends = [0.0, TINY, 1e-40, 2.0**-126, 1e-30, 1e-6, 0.3, 1.0, 7.0, 1e6, 1e30, largest]
    mean, var = np.meshgrid(np.concatenate([ends, np.negative(ends)]), ends)
    m, v = np.zeros((2, 19, 2000), np.float32)
    m.ravel()[: mean.size], v.ravel()[: var.size] = mean.ravel(), var.ravel()
    # And dense where both polynomials end: x around 13.2.
    m[-4:], v[-4:] = np.linspace(-14, -12, 8000).reshape(4, 2000), 1.0
    got_mean, got_var = relu_kernel(m, v)
    assert np.isfinite(got_mean).all()
    assert np.isfinite(got_var).all()
    assert (got_mean >= 0).all()
    assert (got_var >= 0).all()
    exact_mean, exact_var = rectified_moments(m, v)
    deep = m < -10 * np.sqrt(v.astype(float))
    # Deep in the tail the result is at most a hair above 0, relative to s and v.
    assert (np.abs(got_mean - exact_mean)[deep] <= 1e-24 * np.sqrt(v[deep]) + TINY).all()
    assert (np.abs(got_var - exact_var)[deep] <= 1e-24 * v[deep].astype(float) + TINY).all()


def test_a_kernel_returns_fresh_arrays(relu_kernel):
    x = np.random.default_rng(8).random((2, 19, 2000))
    first = relu_kernel(*x)
    kept = [array.copy() for array in first]
    relu_kernel(*x[::-1])
    for array, before in zip(first, kept, strict=True):
        np.testing.assert_array_equal(array, before)


def mlp():
    return Network([Dense(784, 100), ReLU(), Dense(100, 100), ReLU(), Dense(100, 10)], seed=1)


@SCHEDULES
@pytest.mark.parametrize("batch", [1, 7])
def test_network_is_propagate_in_float32(schedule, batch):
    net = mlp()
    x = np.random.default_rng(2).random((batch, 784))
    expected = net.propagate(x)
    got = compile_network(net, batch, schedule=schedule)(x)
    assert got.mean.dtype == got.var.dtype == np.float32
    m_bound, v_bound = network_bound(net, x)
    assert (np.abs(got.mean - expected.mean) <= m_bound).all()
    assert (np.abs(got.var - expected.var) <= v_bound).all()
    assert (v_bound <= 1e-4 * expected.var).all()  # so the bounds do say something
    assert (m_bound <= 1e-3 * np.abs(expected.mean).max()).all()


@SCHEDULES
@pytest.mark.parametrize(
    "layers",
    [
        [Dense(5, 3)],
        [Dense(17, 33), Dense(33, 2)],
        [ReLU(), Dense(5, 3), ReLU(), ReLU()],
    ],
    ids=["one", "no ReLU between", "ReLU at both ends"],
)
def test_layers_in_other_orders(schedule, layers):
    net = Network(layers, seed=3)
    n_in = next(layer.in_features for layer in layers if isinstance(layer, Dense))
    x = np.random.default_rng(3).standard_normal((3, n_in)).astype(np.float32)
    got, expected = compile_network(net, 3, schedule=schedule)(x), net.propagate(x.astype(float))
    # At most two sums of 33 terms: 2γ₄₀ of their terms, which are below 10.
    np.testing.assert_allclose(got.mean, expected.mean, rtol=0, atol=20 * gamma(40))
    np.testing.assert_allclose(got.var, expected.var, rtol=0, atol=20 * gamma(40))


def test_calls_repeat_and_do_not_overwrite_each_other():
    fast = compile_network(mlp(), 7)
    x, other = np.random.default_rng(4).random((2, 7, 784))
    first = fast(x)
    kept = first.mean.copy(), first.var.copy()
    assert not np.array_equal(fast(other).mean, first.mean)
    again = fast(x)
    for array, before, after in zip(
        (first.mean, first.var), kept, (again.mean, again.var), strict=True
    ):
        np.testing.assert_array_equal(array, before)
        np.testing.assert_array_equal(array, after)


def test_inputs_of_any_real_type_and_layout():
    fast = compile_network(Network([Dense(5, 3)], seed=5), 2)
    x = np.arange(10.0).reshape(2, 5)
    expected = fast(x.astype(np.float32))
    for other in (x, x.astype(int), x.astype(np.uint8), np.asfortranarray(x), x[::-1][::-1]):
        np.testing.assert_array_equal(fast(other).mean, expected.mean)
        np.testing.assert_array_equal(fast(other).var, expected.var)


@pytest.fixture(scope="module")
def small():
    return compile_network(Network([Dense(3, 2)], seed=6), 2)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 4)), r"x has shape \(2, 4\); expected \(2, 3\)"),
        (np.zeros((1, 3)), r"x has shape \(1, 3\); expected \(2, 3\)"),
        (np.zeros(3), r"x has shape \(3,\); expected \(2, 3\)"),
        (np.zeros((2, 3), complex), "x is of type complex128; expected real numbers"),
        (np.full((2, 3), "a"), "x is of type <U1; expected real numbers"),
        (np.full((2, 3), None), "x is of type object; expected real numbers"),
        (
            np.ma.array(np.zeros((2, 3)), mask=np.eye(2, 3, dtype=bool)),
            r"x has masked entries \(2\)",
        ),
        (
            Moments(np.zeros((2, 3)), np.zeros((2, 3))),
            "x is Moments.* expected an array of real numbers",
        ),
        (np.array([[0, 0, np.nan], [0, 0, 0]]), "NaN, infinity or a number too large"),
        (np.array([[0, 0, 0], [0, np.inf, 0]], np.float32), "NaN, infinity or a number too large"),
        (np.full((2, 3), 1e39), "NaN, infinity or a number too large for float32"),
        (np.full((2, 3), 1e30), "the variance holds a negative, NaN or infinite entry"),
    ],
)
def test_bad_input(small, x, message):
    with pytest.raises(InputError, match=message):
        small(x)
    assert np.isfinite(small(np.zeros((2, 3))).mean).all()  # and the next call is not harmed


def test_moments_that_are_none_are_refused():
    # A kernel with faults of every kind: its mean is √x, its variance x.
    program = Program(targets.target("host"), 1)
    x = program.known(Rows(3, program.target.lanes))
    both = te.compute(x.mean.shape, lambda *i: (te.sqrt(x.mean(*i)), x.mean(*i)), name="y")
    program.give(Activation(x.layout, *both))
    fast = compiled(program, "hand", None, "local")
    np.testing.assert_array_equal(fast(np.array([[4.0, -0.0, 9.0]])).mean, [[2.0, 0.0, 3.0]])
    with pytest.raises(InputError, match="the mean holds NaN or infinity"):
        fast(np.array([[4.0, -1.0, 9.0]]))
    program = Program(targets.target("host"), 1)
    x = program.known(Rows(3, program.target.lanes))
    both = te.compute(x.mean.shape, lambda *i: (x.mean(*i), x.mean(*i)), name="y")
    program.give(Activation(x.layout, *both))
    with pytest.raises(InputError, match="the variance holds a negative"):
        compiled(program, "hand", None, "local")(np.array([[4.0, -1e-30, 9.0]]))


# A layer of another project: it has the methods that a network asks for.
FOREIGN: Any = SimpleNamespace(
    parameter_shapes=dict,
    output_shape=lambda shape: shape,
    forward=None,
    backward=None,
    moments=None,
)


def too_large(field):
    net = Network([Dense(3, 2)])
    weight = net.parameters()["0.weight"]
    arrays = {"mean": weight.mean, "scale": weight.scale, field: np.full((2, 3), 1e200)}
    net.set_parameters({**net.parameters(), "0.weight": Posterior(**arrays)})
    return net


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        (
            Network([Dense(3, 2)]),
            {"batch_size": 0},
            "batch_size is 0; expected a whole number of at least 1",
        ),
        (Network([Dense(3, 2)]), {"batch_size": 10**20}, "batch_size is 1.*; expected at most 21"),
        (Network([Dense(3, 2)]), {"target": "z80"}, "target 'z80' is unknown; expected one of: h"),
        (Network([Dense(3, 2)]), {"schedule": "x"}, "schedule 'x' is unknown; expected one of: d"),
        (
            Network([Dense(3, 2), FOREIGN]),
            {},
            "layer 1: SimpleNamespace has no kernel; expected a layer of refbnn.layers",
        ),
        (Network([Dense(3, 2)]), {"form": "x"}, "form 'x' is unknown; expected one of: variance"),
        (Network([ReLU()], input_shape=(3,)), {"form": "x"}, "form 'x' is unknown"),
        (Network([ReLU()]), {}, "input_shape is None; expected the shape of one input"),
        (Network([Dense(3, 2)], correlated=[0]), {}, r"layers \[0\] have correlated weights"),
        (Network([ReLU()], input_shape=(3, 4)), {}, r"input_shape is \(3, 4\); expected 1 or 3"),
        (too_large("mean"), {}, "too large for float32"),
        (too_large("scale"), {}, "too large for float32"),
    ],
)
def test_bad_call_of_compile_network(net, options, message):
    with pytest.raises(InputError, match=message) as caught:
        compile_network(net, **{"batch_size": 1, **options})
    assert "\n" not in str(caught.value)


def test_host_target_describes_a_vector_unit():
    host = targets.target("host")
    assert host.lanes in (4, 8, 16)
    assert host.registers in (16, 32)
    padded = [Rows(n, host.lanes).tensor_shape(3) for n in (1, host.lanes, host.lanes + 1)]
    assert padded == [(3, host.lanes), (3, host.lanes), (3, 2 * host.lanes)]


@pytest.mark.skipif(
    "avx2" not in targets._features(targets.target("host").llvm),
    reason="there is nothing to hide on a processor without AVX2",
)
@pytest.mark.parametrize(
    ("hidden", "lanes", "never"),
    [(["X86_V4"], 8, "zmm"), (["X86_V3", "X86_V4"], 4, "ymm")],
)
def test_host_does_without_what_the_machine_hides(hidden, lanes, never):
    cpu = targets._host(hidden)
    assert cpu.lanes == lanes
    rng = np.random.default_rng(7)
    weight, bias = wild_layer(rng, 9, 33)
    kernel = build(dense_program(weight, bias, 3, cpu, True), "hand")
    assert never not in kernel.executable.mod.inspect_source("asm")
    x = rng.standard_normal((3, 9))
    expected = dense_reference.moments_of_known(x, weight, bias)
    m_bound, _ = dense_bound(deterministic(x), weight, bias)
    assert (np.abs(kernel(x)[0] - expected.mean) <= m_bound).all()


def test_latency_ranks_a_quick_and_a_slow_function_in_bounded_calls():
    calls = {"quick": 0, "slow": 0}

    def quick():
        calls["quick"] += 1

    def slow():
        calls["slow"] += 1
        sum(range(20_000))

    seconds = bench.latency({"quick": quick, "slow": slow}, repeats=3)
    assert list(seconds) == ["quick", "slow"]
    assert 0 < seconds["quick"] < seconds["slow"]
    assert calls["quick"] > calls["slow"] > 3
    assert bench.latency({}) == {}


@SCHEDULES
@pytest.mark.skipif(targets.target("host").is_arm, reason="Arm computes with them as with others")
def test_subnormal_numbers_count_as_zero_in_networks_and_nowhere_else(schedule):
    tiny, x = np.float32(1e-40), np.full((1, 2), 1e-20, np.float32)
    net = Network([Dense(2, 1)])
    weight = Posterior(np.full((1, 2), 1e-20), np.full((1, 2), 1e-3))
    net.set_parameters({"0.weight": weight, "0.bias": Posterior(np.zeros(1), np.ones(1))})
    assert compile_network(net, 1, schedule=schedule)(x).mean == 0
    assert tiny * np.float32(1) == tiny  # the processor computes as before
    alone = build_dense(weight, net.parameters()["0.bias"], 1, schedule=schedule, known=True)
    # Two products, each a whole number of the least subnormal ones.
    assert abs(float(alone(x)[0][0, 0]) - 2e-40) <= TINY


def test_classes_and_their_uncertainty():
    """Logits agree to some 1e-6, and every statistic is smooth in them."""
    net = Network([Dense(6, 8), ReLU(), Dense(8, 3)], seed=4)
    x = np.random.default_rng(5).standard_normal((2, 6))
    got, want = compile_network(net, 2).predict(x), predict(net, x)
    for name in ("probabilities", "entropy", "mutual_information"):
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), atol=1e-5)
    images = Network([Conv2d(1, 1, 1)], input_shape=(1, 2, 2))
    with pytest.raises(InputError, match=r"outputs have shape \(2, 1, 2, 2\); expected logits"):
        compile_network(images, 2).predict(np.zeros((2, 1, 2, 2)))


def test_a_compiled_regression_is_not_answered_as_classes():
    net = Network([Dense(3, 2)])
    net.likelihood = "gaussian"
    with pytest.raises(InputError, match="trained on targets, with the likelihood 'gaussian'"):
        compile_network(net, 1).predict(np.zeros((1, 3)))


def test_one_output_of_a_compiled_network_is_the_logit_of_the_second_class():
    net, x = Network([Dense(3, 1)], seed=2), np.ones((2, 3))
    found, expected = compile_network(net, 2).predict(x), predict(net, x)
    assert found.probabilities.shape == (2, 2)
    # float32 logits.
    np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=1e-5)
    np.testing.assert_allclose(found.entropy, expected.entropy, rtol=1e-5)
