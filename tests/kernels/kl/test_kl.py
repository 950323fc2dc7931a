"""KL kernels against the float64 reference, how many nodes they take, and what they refuse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import te

from kernels.arithmetic import logarithm, softplus
from kernels.arithmetic.polynomials import named
from kernels.devices import targets
from kernels.kl import kernel as kl
from kernels.kl import nodes as kl_nodes
from kernels.program.kernel import build
from kernels.program.program import Padded, Program
from refbnn.errors import InputError
from refbnn.layers.posterior import Posterior
from refbnn.noise import Bimodal, DeviceLaw, Gaussian
from refbnn.numerics.softplus import inverse_softplus, softplus_and_slope
from refbnn.prior import (
    DevicePrior,
    GaussianPrior,
    LaplacePrior,
    ScaleMixturePrior,
    StudentTPrior,
)
from refbnn.training.kl import kl as reference
from verification.kernels.gradients import DEVICE, DIVERGENCES, divergence_terms, posteriors

SCHEDULES = pytest.mark.parametrize("schedule", ["hand", "default"])
SIZES = st.sampled_from([1, 2, 3, 7, 16, 17, 31, 33, 64, 100, 127, 144])
FEW = settings(max_examples=2, deadline=None, derandomize=True, database=None)  # each compiles


def shares(result, weights, law, prior, slope=1.0):
    """Errors of value, ∂µ and ∂σ (times a slope), relative to the largest of their terms."""
    value, d_mean, d_scale = result
    expected = reference.divergence({"w": weights}, law, prior)["w"]
    terms = divergence_terms(weights, law, prior)
    return [
        abs(value - expected.value.sum()) / terms[0].sum(),
        np.max(np.abs(d_mean - expected.d_mean) / terms[1]),
        np.max(np.abs(d_scale - slope * expected.d_scale) / (slope * terms[2])),
    ]


@pytest.mark.parametrize("name", DIVERGENCES)
@SCHEDULES
@FEW
@given(size=SIZES, seed=st.integers(0, 999))
def test_kl_is_as_accurate_as_stated(name, schedule, size, seed):
    law, prior, widest = DIVERGENCES[name]
    weights = posteriors(law, prior, widest, size, np.random.default_rng(seed))
    kernel = kl.build(size, law, prior, widest and 1.001 * widest, schedule=schedule)
    result = kernel(weights.mean, weights.scale)
    assert max(shares(result, weights, law, prior)) <= kl.RELATIVE_ERROR


@pytest.mark.parametrize(("lanes", "registers"), [(4, 32), (8, 16)])
@pytest.mark.parametrize(
    "name", ["Laplace prior", "Laplace prior, device law", "device-shaped prior"]
)
def test_kl_for_narrower_registers(name, lanes, registers):
    narrow = targets.Target("narrow", lanes, registers, targets.target("host").llvm)
    law, prior, widest = DIVERGENCES[name]
    weights = posteriors(law, prior, widest, 37, np.random.default_rng(1))
    rule = None
    if isinstance(prior, kl_nodes.NodesPrior) and widest is not None:
        rule = kl_nodes.choose(law, prior, 1.001 * widest)
    program = kl.alone(37, law, prior, rule, narrow, "scale")
    d_mean, d_scale, value = build(program, "hand")(weights.mean, weights.scale)
    result = value[0], d_mean, d_scale
    assert max(shares(result, weights, law, prior)) <= kl.RELATIVE_ERROR


@SCHEDULES
@pytest.mark.parametrize("name", ["Gaussian prior", "Laplace prior", "Student-t prior"])
def test_kl_by_rho(name, schedule):
    law, prior, widest = DIVERGENCES[name]
    drawn = posteriors(law, prior, widest, 70, np.random.default_rng(2))
    rho = inverse_softplus(drawn.scale).astype(np.float32)
    scale, slope = softplus_and_slope(rho.astype(float))
    kernel = kl.build(70, law, prior, widest and 1.001 * widest, schedule=schedule, parameter="rho")
    result = kernel(drawn.mean, rho)
    weights = Posterior(drawn.mean, scale)
    assert max(shares(result, weights, law, prior, slope)) <= kl.RELATIVE_ERROR


@SCHEDULES
def test_kl_from_a_gaussian_at_extreme_scales(schedule):
    # σ² and 1/σ stay within float32, from 1e-17 to 1e17; exactly known values at the ends.
    scale = 10.0 ** np.linspace(-17, 17, 69)
    mean = np.concatenate([np.zeros(23), scale[23:46] * 10.0, -(10.0 ** np.linspace(-17, 17, 23))])
    weights = Posterior(
        mean.astype(np.float32).astype(float), scale.astype(np.float32).astype(float)
    )
    prior = GaussianPrior(1.0)
    kernel = kl.build(69, Gaussian(), prior, schedule=schedule)
    result = kernel(weights.mean, weights.scale)
    assert max(shares(result, weights, Gaussian(), prior)) <= 1e-6


@SCHEDULES
def test_a_laplace_prior_far_from_its_kink_and_on_it(schedule):
    # |µ|/σ from 0 to 1e30, of which float32 can form no square.
    ratio = np.concatenate([[0.0, 0.0], 10.0 ** np.linspace(-20, 30, 101), np.linspace(0, 16, 97)])
    mean = np.where(np.arange(200) % 2, 1.0, -1.0) * ratio * 1e-6
    weights = Posterior(
        mean.astype(np.float32).astype(float), np.full(200, float(np.float32(1e-6)))
    )
    prior = LaplacePrior(0.5)
    kernel = kl.build(200, Gaussian(), prior, schedule=schedule)
    value, d_mean, d_scale = kernel(weights.mean, weights.scale)
    assert max(shares((value, d_mean, d_scale), weights, Gaussian(), prior)) <= 1e-6
    far = ratio > 1e-6  # nearer to the kink the derivative is below its rounding
    np.testing.assert_array_equal(np.sign(d_mean[far]), np.sign(mean[far]))


@SCHEDULES
def test_a_student_prior_of_many_degrees_of_freedom_is_nearly_gaussian(schedule):
    # log(1 + t²) of t² = 1e-9 times half a million: from 1 + t² in float32 nothing would be left.
    nu, law = 1e6, Gaussian()
    weights = posteriors(law, GaussianPrior(1.0), 0.1, 40, np.random.default_rng(3))
    kernel = kl.build(40, law, StudentTPrior(nu, 1.0), 0.11, schedule=schedule)
    result = kernel(weights.mean, weights.scale)
    # log p differs by terms of 1/ν times θ⁴, 4 for |µ|/σ of 10, and score likewise.
    assert max(shares(result, weights, law, GaussianPrior(1.0))) <= kl.RELATIVE_ERROR + 10.0 / nu


@SCHEDULES
def test_the_sum_over_many_weights_is_not_rounded_away(schedule):
    # Equal terms: added up one by one in float32 they would be off by 1e-3.
    n = 200_003
    kernel = kl.build(n, Gaussian(), GaussianPrior(1.0), schedule=schedule)
    mean, scale = np.full(n, 0.5, np.float32), np.full(n, 0.25, np.float32)
    value, _, _ = kernel(mean, scale)
    exact = n * (-0.5 - np.log(0.25) + 0.5 * (0.5**2 + 0.25**2))  # −H + ½ log 2π is −½
    assert abs(value - exact) <= 3e-7 * n * np.log(4.0)  # of the logarithm


@pytest.mark.parametrize("law", [Gaussian(), DEVICE, Bimodal()], ids=["normal", "device", "two"])
@pytest.mark.parametrize(
    "prior", [StudentTPrior(2.0, 0.5), ScaleMixturePrior(0.3, 1.0, 0.2)], ids=["t", "mixture"]
)
def test_chosen_nodes_suffice_elsewhere_too_and_fewer_do_not(law, prior):
    rule = kl_nodes.choose(law, prior, 0.2)
    rng = np.random.default_rng(4)
    scale = 0.2 * rng.uniform(0.0, 1.0, 2000) ** 2 + 1e-6
    weights = Posterior(rng.uniform(-3.0, 3.0, 2000), scale)
    exact = reference.divergence({"w": weights}, law, prior)["w"]
    terms = divergence_terms(weights, law, prior)

    def error(rule):
        got = reference.by_quadrature(weights, prior, law.entropy, rule)
        return max(
            np.max(np.abs(got.value - exact.value) / terms[0]),
            np.max(np.abs(got.d_mean - exact.d_mean) / terms[1]),
            np.max(np.abs(got.d_scale - exact.d_scale) / terms[2]),
        )

    # Both judge by terms of their own, which agree to a few per cent.
    assert error(rule) <= 1.2 * kl_nodes.TRUNCATION
    assert error(law.quadrature(rule.nodes.size // 2)) > kl_nodes.TRUNCATION


@pytest.mark.parametrize(
    ("law", "prior", "widest", "nodes"),
    [
        (Gaussian(), StudentTPrior(3.0, 2.0), 0.6, 6),
        (Gaussian(), StudentTPrior(3.0, 2.0), 4.0, None),
        (Gaussian(), ScaleMixturePrior(0.5, 1.0, 0.1), 0.1, 29),
        (DEVICE, ScaleMixturePrior(0.5, 1.0, 0.1), 0.2, 32),
        (DEVICE, DevicePrior(DEVICE), 0.8, 16),
    ],
)
def test_the_table_of_nodes(law, prior, widest, nodes):
    if nodes is None:
        with pytest.raises(InputError, match="too wide for 64 nodes"):
            kl_nodes.choose(law, prior, widest)
    else:
        assert kl_nodes.choose(law, prior, widest).nodes.size == nodes


def test_pruned_nodes_carry_next_to_nothing():
    rule = Gaussian().quadrature(64)
    pruned = kl_nodes.pruned(rule)
    assert pruned.nodes.size < 40
    for power in (0, 2):
        assert abs(pruned.expect(pruned.nodes**power) - 1.0) <= 1e-9


@pytest.mark.parametrize(
    ("law", "prior", "options", "message"),
    [
        (Gaussian(), ScaleMixturePrior(0.5, 1.0, 0.01), {"widest": 1.0}, "too wide for 64 nodes"),
        (Gaussian(), StudentTPrior(), {}, "widest is None; expected a scale above 0"),
        (Gaussian(), StudentTPrior(), {"widest": -1.0}, "widest is -1.0; expected a scale above 0"),
        (DEVICE, DevicePrior(DEVICE), {"widest": 1.0}, "a scale of 1 reaches too near its ends"),
        (Gaussian(), None, {}, "the prior is None; expected one of refbnn.prior"),
        (Gaussian(), GaussianPrior(), {"parameter": "var"}, "parameter 'var' is unknown; expected"),
    ],
)
def test_bad_call_of_build(law, prior, options, message):
    with pytest.raises(InputError, match=message) as caught:
        kl.build(3, law, prior, **options)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def student():
    return kl.build(3, Gaussian(), StudentTPrior(), 0.5)


@pytest.mark.parametrize(
    ("mean", "scale", "message"),
    [
        (np.zeros(4), np.ones(4), r"mean has shape \(4,\); expected \(3,\)"),
        (np.zeros(3), np.full((3, 1), 0.1), r"scale has shape \(3, 1\); expected \(3,\)"),
        (np.zeros(3), np.array([0.1, 0.0, 0.1]), "scales from 0 to 0.1; expected 1.18e-38 to 0.5"),
        (np.zeros(3), np.array([0.1, 1e-50, 0.1]), "scales from 0 to 0.1"),
        (np.zeros(3), np.array([0.1, 1e-39, 0.1]), "scales from 1e-39 to 0.1"),
        (np.zeros(3), np.array([0.1, 0.6, 0.1]), "scales from 0.1 to 0.6; expected"),
        (np.zeros(3), np.array([0.1, np.nan, 0.1]), "scales from nan to nan"),
        (np.array([0.0, np.nan, 0.0]), np.full(3, 0.1), "KL overflows"),
        (np.array([0.0, 1e30, 0.0]), np.full(3, 0.1), "KL overflows"),
        (np.array([0.0, 1e60, 0.0]), np.full(3, 0.1), "KL overflows"),
    ],
)
def test_bad_input(student, mean, scale, message):
    with pytest.raises(InputError, match=message):
        student(mean, scale)
    assert all(np.isfinite(part).all() for part in student(np.zeros(3), np.full(3, 0.1)))


@pytest.mark.parametrize("parameter", ["scale", "rho"])
def test_a_weight_near_the_end_of_a_device_prior_is_refused(parameter):
    prior = DevicePrior(DeviceLaw(0.0, 0.0), 0.0, 1.0)  # uniform, on ±√3
    kernel = kl.build(2, DeviceLaw(0.0, 0.0), prior, 0.2, parameter=parameter)
    scale = np.array([0.1, 0.1])
    arg = scale if parameter == "scale" else inverse_softplus(scale)
    with pytest.raises(
        InputError, match=r"weight 1 has mean 1\.55 and scale 0\.1; expected its ends"
    ):
        kernel(np.array([0.0, 1.55]), arg)
    value, d_mean, _ = kernel(np.array([0.0, 1.5]), arg)
    # Uniform in uniform: KL is the log of the ratio of lengths, and does not depend on the mean.
    assert value == pytest.approx(2 * np.log(10.0), rel=1e-6)
    assert np.abs(d_mean).max() <= 1e-6


def elementwise(formula, x, lanes=16):
    """A function of one element, computed by a kernel as TVM lowers it."""
    program = Program(targets.target("host"), 1)
    layout = Padded(x.shape, lanes)
    tensor = program.array(layout, "x")
    result = te.compute(
        tensor.shape, lambda i: named(lambda name: (formula(name, tensor[i]),), 1)[0], name="f"
    )
    program.give_arrays(layout, result)
    return build(program, "default")(x)[0].astype(float)


def test_logarithms_are_as_accurate_as_stated():
    near_1 = 1.0 + np.linspace(-0.4, 0.5, 20_000)
    x = np.concatenate([10.0 ** np.linspace(-37.9, 38.5, 20_000), near_1]).astype(np.float32)
    exact = np.log(x.astype(float))
    assert (np.abs(elementwise(logarithm.log, x) - exact) <= 3e-7 * np.abs(exact)).all()

    x = 10.0 ** np.linspace(-37, 37, 40_000, dtype=np.float32)
    exact = np.log1p(x.astype(float))
    assert np.max(np.abs(elementwise(logarithm.log1p, x) / exact - 1.0)) <= 4e-7
    x = np.concatenate([10.0 ** np.linspace(-37, 0, 20_000), [1.0]]).astype(np.float32)
    got = elementwise(lambda _, x: logarithm.log1p_of_unit(x), x)
    assert np.max(np.abs(got / np.log1p(x.astype(float)) - 1.0)) <= 4e-7


@SCHEDULES
def test_softplus_and_its_slope(schedule):
    rho = np.concatenate([np.linspace(-87.0, 30.0, 30_000), [0.0, -0.0, 1e30]]).astype(np.float32)
    layout = Padded((rho.size,), targets.target("host").lanes)
    program = Program(targets.target("host"), 1)
    scale_and_slope = softplus.add(program, "softplus", program.array(layout, "rho"))
    program.give_arrays(layout, *scale_and_slope)
    kernel = build(program, schedule)
    scale, slope = kernel(rho)
    exact_scale, exact_slope = softplus_and_slope(rho.astype(float))
    assert np.max(np.abs(scale / exact_scale - 1.0)) <= softplus.RELATIVE_ERROR
    assert np.max(np.abs(slope / exact_slope - 1.0)) <= softplus.RELATIVE_ERROR
    scale, slope = kernel(np.linspace(-1e30, -100.0, rho.size))
    assert not scale.any()
    assert not slope.any()
