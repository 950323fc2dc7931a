"""Kernels of the greatest of independent Gaussians against the float64 reference."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import ndtr
from scipy.stats import norm
from tvm import te

from kernels.devices import targets
from kernels.maximum import grouped as maximum_grouped
from kernels.maximum import of_window as maximum
from kernels.maximum.of_window import ABSENT
from kernels.program import vectors
from kernels.program.kernel import build
from kernels.program.program import Activation, Program, Rows, Step
from refbnn.numerics import gaussian_maximum as reference
from refbnn.numerics.normal import lower_rectified

TINY = 2.0**-149
FEW = settings(max_examples=8, deadline=None, derandomize=True, database=None)  # each compiles


@dataclass(frozen=True)
class Windows:
    """k entries of n windows, entries first."""

    k: int
    n: int
    lanes: int

    @property
    def shape(self):
        return self.k, self.n

    def tensor_shape(self, batch):
        return self.k, *Rows(self.n, self.lanes).tensor_shape(batch)

    def view(self, memory):
        return memory[:, :, : self.n]


def compiled(kind, k, batch, n, schedule="hand", lanes=16):
    """A kernel of (k, batch, n) means and variances to (batch, n) ones."""
    program = Program(targets.Target("narrow", lanes, 16, targets.target("host").llvm), batch)
    means, variances = program.random(Windows(k, n, lanes)).tensors
    shape = Rows(n, lanes).tensor_shape(batch)

    def element(j, *i):
        return means[j, *i], variances[j, *i]

    if kind == "pairwise":
        result = te.compute(
            shape, lambda *i: maximum.pairwise(*element(0, *i), *element(1, *i)), name="greater"
        )
        transform = partial(vectors.schedule, blocks=["greater_v0"], lanes=lanes)
    else:
        result = maximum.exact(program, "greatest", shape, k, element)
        blocks = maximum.blocks("greatest")
        transform = partial(vectors.schedule, blocks=blocks, lanes=lanes)
    program.give(Activation(Rows(n, lanes), *result))
    program.steps.append(Step(kind, {}, {}, transform))
    return build(program, schedule)


def entries(rng, k, n):
    """Windows of many kinds, a row each: (k, kinds, n) means and variances in float32."""
    wide = 10.0 ** rng.uniform(-6, 6, (k, n))
    some = 10.0 ** rng.uniform(-3, 0, (k, n))
    kinds = [
        (rng.standard_normal((k, n)), rng.uniform(0.3, 1.4, (k, n))),
        (np.zeros((k, n)), np.ones((k, n))),
        (rng.uniform(-10, 10, (k, n)) * wide, wide),
        (rng.uniform(-10, 10, (k, n)) * some, some * (rng.random((k, n)) < 0.7)),
        (np.round(rng.uniform(-1, 1, (k, n))), 10.0 ** rng.uniform(-1, 0, (k, n))),
        (np.round(rng.uniform(-1, 1, (k, n))), some * (rng.random((k, n)) < 0.5)),
        (1e-15 * rng.standard_normal((k, n)), 1e-15 * some),
        (1e15 * rng.standard_normal((k, n)), 1e15 * some),
        (1e3 + some, 1e-4 * some),
    ]
    mean = np.stack([m for m, _ in kinds], axis=1).astype(np.float32)
    var = np.stack([s**2 for _, s in kinds], axis=1).astype(np.float32)
    return mean, var


def wanted(mean, var):
    return reference.exact(*(np.moveaxis(a.astype(float), 0, -1).copy() for a in (mean, var)))


def assert_close(got, want, relative):
    """The variance relative; the mean to its own rounding, and relative to the deviation."""
    own = 2.0**-23 * np.abs(want[0])
    assert (np.abs(got[0] - want[0]) <= 1e-5 * np.sqrt(want[1]) + own).all()
    assert (np.abs(got[1] - want[1]) <= relative * want[1] + 2.0**-126).all()


@pytest.mark.parametrize("k", [2, 4, 9])
def test_weights_of_entries(k):
    """Errors of π times the entry's deviation, and of r, relative to the maximum's moments."""
    mean, var = entries(np.random.default_rng(k), k, 100)
    batch, n = mean.shape[1:]
    program = Program(targets.target("host"), batch)
    layout = Windows(k, n, program.target.lanes)
    means, variances = program.random(layout).tensors
    shape = Rows(n, layout.lanes).tensor_shape(batch)
    result = maximum.exact(
        program, "greatest", shape, k, lambda j, *i: (means[j, *i], variances[j, *i]), True
    )
    vectors.add_step(program, "weights", maximum.blocks("greatest"))
    program.give_arrays(Rows(n, layout.lanes), *result)
    kernel = build(program, "hand")
    _, _, own, *weights = kernel(mean, var)
    m, v = (np.moveaxis(a.astype(float), 0, -1) for a in (mean, var))
    pi, total = reference.weights(m, v), reference.exact(m, v)[1]
    got = np.stack(weights, axis=-1)
    error = np.abs(got - pi)
    assert (error <= 1e-6).all()
    assert (error * np.sqrt(v) <= 1e-5 * np.sqrt(total)[..., np.newaxis] + TINY).all()
    left = np.maximum(total - (pi**2 * v).sum(axis=-1), 0.0)
    assert (np.abs(own - left) <= 2e-5 * total + 2.0**-126).all()
    mean[0, 0, 0], var[1, 1, 1] = np.nan, np.inf
    results = np.stack(kernel(mean, var)[2:])
    assert np.isnan(results[:, [0, 1], [0, 1]]).all()
    assert np.isnan(results).sum() == 2 * (k + 1)


@pytest.mark.parametrize("schedule", ["hand", "default"])
def test_pairwise_is_as_accurate_as_stated(schedule):
    rng = np.random.default_rng(0)
    scale = 10.0 ** rng.uniform(-22, 18, (2, 5, 4000))
    scale[1] = scale[0] * 10.0 ** rng.uniform(-8, 0, scale[0].shape)
    scale[:, :2] = scale[::-1, :2]
    scale[1, 4] = 0.0
    var = np.square(scale).astype(np.float32)
    theta = np.sqrt(var.astype(float).sum(axis=0))
    x = rng.uniform(-10, 10, theta.shape)
    mean = np.empty_like(var)
    mean[0] = rng.standard_normal(theta.shape) * theta
    mean[1] = mean[0] + x * theta
    got_mean, got_var = compiled("pairwise", 2, 5, 4000, schedule)(mean, var)
    m, v = mean.astype(float), var.astype(float)
    want_mean, want_var = reference.pair(m[0], v[0], m[1], v[1])
    alpha = np.abs(m[0] - m[1]) / theta
    held = alpha <= 10
    size = np.abs(m.max(axis=0)) + theta * lower_rectified(alpha)[1]
    assert (np.abs(got_mean - want_mean) <= 2e-6 * size + TINY)[held].all()
    assert (np.abs(got_var - want_var) <= 2e-6 * want_var + 1.5 * TINY)[held].all()


def test_pairwise_without_spread_is_exact():
    mean = np.array([[1.0, ABSENT, 0.0, 3.0, 3e38, 5.0], [1.0, 2.0, ABSENT, 4.0, -3e38, -1e-45]])
    var = np.array([[0.0, 0.0, 2.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]])
    got_mean, got_var = compiled("pairwise", 2, 1, 6)(mean[:, np.newaxis], var[:, np.newaxis])
    np.testing.assert_array_equal(got_mean[0], mean.max(axis=0).astype(np.float32))
    np.testing.assert_array_equal(got_var[0], [0, 1, 2, 0, 0, 0])


@pytest.mark.parametrize(("k", "n"), [(2, 2000), (3, 1500), (4, 1500), (9, 300), (16, 100)])
def test_exact_is_as_accurate_as_stated(k, n):
    mean, var = entries(np.random.default_rng(k), k, n)
    got = compiled("exact", k, mean.shape[1], n)(mean, var)
    assert_close(got, wanted(mean, var), 1e-5 if k <= 9 else 2e-5)


@FEW
@given(
    k=st.sampled_from([2, 3, 4, 5, 6]),
    n=st.sampled_from([1, 3, 15, 16, 17, 29]),
    lanes=st.sampled_from([4, 8, 16]),
    schedule=st.sampled_from(["hand", "default"]),
    seed=st.integers(0, 99),
)
def test_exact_for_any_size_and_lanes(k, n, lanes, schedule, seed):
    mean, var = entries(np.random.default_rng(seed), k, n)
    got = compiled("exact", k, mean.shape[1], n, schedule, lanes)(mean, var)
    assert_close(got, wanted(mean, var), 1e-5)


@pytest.mark.parametrize("k", [3, 4, 9, 16])
def test_exact_of_some_alike_and_others_below(k):
    # A window of scales far apart in every vector: by panels, all of them. The longest and steepest
    # one is of k − 1 alike.
    rng = np.random.default_rng(k)
    n = 400
    alike = np.arange(k)[:, np.newaxis] < rng.integers(1, k + 1, n)
    alike[:-1, :100], alike[-1, :100] = True, False
    mean = np.where(alike, 0.0, -(10 ** rng.uniform(-0.5, 1.1, n)))
    small = ~alike & (rng.random((k, n)) < 0.3)
    scale = np.where(small, 10.0 ** rng.uniform(-1, 0, n), 1.0)
    scale[:, 300:] *= rng.uniform(0.8, 1.2, (k, 100))
    mean[0, ::4], scale[0, ::4] = 0.0, 1e-4
    mean, var = (a.astype(np.float32)[:, np.newaxis] for a in (mean, scale**2))
    got = compiled("exact", k, 1, n, lanes=4)(mean, var)
    assert_close(got, wanted(mean, var), 1e-5 if k <= 9 else 2e-5)


def test_exact_of_a_rare_tail():
    # max(0, X) with the mean of X up to 10 deviations below 0: rectified moments, in closed form.
    a = np.linspace(0.0, 10.0, 1001)
    scale = 10.0 ** np.linspace(-8, 8, 7)[:, np.newaxis]
    mean, var = np.zeros((2, 4, 7, 1001), np.float32)
    var[2] = scale**2
    mean[2] = -a * np.sqrt(var[2].astype(float))
    mean[3] = ABSENT  # not there
    got_mean, got_var = compiled("exact", 4, 7, 1001)(mean, var)
    want_mean, want_var = reference.pair(
        *(b.astype(float) for b in (mean[2], var[2], mean[0], var[0]))
    )
    assert (np.abs(got_mean - want_mean) <= 1e-5 * want_mean + 2.0**-126).all()
    assert (np.abs(got_var - want_var) <= 1e-5 * want_var + 2.0**-126).all()


def test_exact_without_spread_is_exact():
    rng = np.random.default_rng(5)
    mean = rng.integers(-2, 3, (4, 2, 50)).astype(np.float32)
    mean[rng.random(mean.shape) < 0.3] = ABSENT
    mean[0] = np.maximum(mean[0], -2.0)  # one entry at least is there
    got_mean, got_var = compiled("exact", 4, 2, 50)(mean, np.zeros_like(mean))
    np.testing.assert_array_equal(got_mean, mean.max(axis=0))
    assert not got_var.any()


@pytest.mark.parametrize("schedule", ["hand", "default"])
@pytest.mark.parametrize(("kind", "k"), [("pairwise", 2), ("exact", 2), ("exact", 4)])
def test_of_nan_nan_is_made(kind, k, schedule):
    # An overflow before it would otherwise pass for a number. Window 0 has none.
    places = [(part, j) for part in range(2) for j in range(k)]
    mean, var = np.zeros((k, 1, 1 + len(places))), np.ones((k, 1, 1 + len(places)))
    for window, (part, j) in enumerate(places, start=1):
        (mean, var)[part][j, 0, window] = np.nan
    for result in compiled(kind, k, 1, 1 + len(places), schedule)(mean, var):
        np.testing.assert_array_equal(np.isnan(result[0]), [False] + [True] * len(places))


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_exact_of_infinite_variances_ends_and_is_no_number(bad):
    # Of all windows of a vector, or of one: as many steps as for others, at most.
    mean, var = np.zeros((4, 2, 16)), np.ones((4, 2, 16))
    var[:, 0], var[2, 1, 3] = bad, bad
    with np.errstate(invalid="ignore"):
        got = compiled("exact", 4, 2, 16)(mean, var)[0]
    assert np.isnan(got[0]).all()
    np.testing.assert_array_equal(np.isnan(got[1]), np.arange(16) == 3)


@FEW
@given(
    k=st.sampled_from([2, 3, 4, 7, 9]),
    lanes=st.sampled_from([4, 8, 16]),
    ratio=st.sampled_from([1.0, 1.5, 3.0, 10.0, 100.0]),
    seed=st.integers(0, 99),
)
def test_exact_of_scales_alike(k, lanes, ratio, seed):
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.uniform(-12, 12, (5, 40))
    scale = ratio ** rng.uniform(0, 1, (k, 5, 40))
    mean = rng.uniform(-5, 5, (k, 5, 40)) * scale
    mean[:, 0] = 0.0  # ties of means; and of everything
    scale[:, 1], mean[:, 1] = 1.0, np.round(mean[:, 1] / scale[:, 1])
    mean[0, 2] += 12.0 * ratio  # one above all others
    mean[-1, 3], scale[-1, 3] = ABSENT, 0.0  # not there
    mean = np.maximum(mean * size, ABSENT).astype(np.float32)
    var = ((scale * size) ** 2).astype(np.float32)
    assert_close(compiled("exact", k, 5, 40, lanes=lanes)(mean, var), wanted(mean, var), 1e-5)


def test_exact_against_integrals_of_the_distribution_function():
    # E − a = ∫(1 − F) − ∫F above and below a, E(M − a)² = 2∫|x − a|(1 − F or F), by QUADPACK.
    mean = np.array([[0, 0, 0, 0], [1, -1, 0.5, 0], [0, 3, -2, 1], [0, 0, 0, 5], [0, 1, 1, -9]])
    scale = np.array([[1, 1, 1, 1], [1, 1.5, 0.7, 1], [2, 1, 3, 1], [1, 1, 1, 1], [0.3, 1, 4, 2]])
    got = compiled("exact", 4, 5, 1)(mean.T[..., np.newaxis], scale.T[..., np.newaxis] ** 2)
    for m, s, got_mean, got_var in zip(mean, scale, got[0][:, 0], got[1][:, 0], strict=True):
        a = m.max()

        def F(x, m=m, s=s):
            return float(np.prod(ndtr((x - m) / s)))

        def both(power, a=a, F=F):
            above = quad(lambda x: (x - a) ** power * (1.0 - F(x)), a, a + 40, epsabs=1e-11)[0]
            return above, quad(lambda x: (a - x) ** power * F(x), a - 40, a, epsabs=1e-11)[0]

        (above, below), second = both(0), 2.0 * sum(both(1))
        want_var = second - (above - below) ** 2
        assert abs(got_mean - a - (above - below)) <= 1e-5 * np.sqrt(want_var)
        assert abs(got_var - want_var) <= 1e-5 * want_var


@pytest.mark.parametrize("k", [2, 4, 9, 16, 25])
def test_a_step_is_too_short_to_be_seen(k):
    # |f̂(2π/h)| of k N(0, 1), f = kφΦ^{k−1}, is below what the step is derived for, by QUADPACK.
    omega = 2.0 * np.pi / maximum_grouped.step(k)
    real, imaginary = (
        quad(lambda x: k * norm.pdf(x) * ndtr(x) ** (k - 1), -12, 12, weight=kind, wvar=omega)[0]
        for kind in ("cos", "sin")
    )
    assert 1e-9 < np.hypot(real, imaginary) < 5e-7
