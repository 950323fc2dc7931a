"""Kernels of the greatest of independent Gaussians against the float64 reference."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import te

from kernels import elementwise, maximum, targets
from kernels.kernel import build
from kernels.program import Activation, Program, Rows, Step
from refbnn import maximum as reference
from refbnn.normal import lower_rectified

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
        transform = partial(elementwise.schedule, blocks=["greater_v0"], lanes=lanes)
    else:
        result = maximum.exact(program, "greatest", shape, k, element)
        transform = partial(maximum.schedule, name="greatest", lanes=lanes)
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
    mean = np.array([[1.0, -np.inf, 0.0, 3.0, 3e38, 5.0], [1.0, 2.0, -np.inf, 4.0, -3e38, -1e-45]])
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


def test_exact_of_a_rare_tail():
    # max(0, X) with the mean of X up to 10 deviations below 0: rectified moments, in closed form.
    a = np.linspace(0.0, 10.0, 1001)
    scale = 10.0 ** np.linspace(-8, 8, 7)[:, np.newaxis]
    mean, var = np.zeros((2, 4, 7, 1001), np.float32)
    var[2] = scale**2
    mean[2] = -a * np.sqrt(var[2].astype(float))
    mean[3] = -np.inf  # not there
    got_mean, got_var = compiled("exact", 4, 7, 1001)(mean, var)
    want_mean, want_var = reference.pair(
        *(b.astype(float) for b in (mean[2], var[2], mean[0], var[0]))
    )
    assert (np.abs(got_mean - want_mean) <= 1e-5 * want_mean + 2.0**-126).all()
    assert (np.abs(got_var - want_var) <= 1e-5 * want_var + 2.0**-126).all()


def test_exact_without_spread_is_exact():
    rng = np.random.default_rng(5)
    mean = rng.integers(-2, 3, (4, 2, 50)).astype(np.float32)
    mean[rng.random(mean.shape) < 0.3] = -np.inf
    mean[0] = np.maximum(mean[0], -2.0)  # one entry at least is there
    got_mean, got_var = compiled("exact", 4, 2, 50)(mean, np.zeros_like(mean))
    np.testing.assert_array_equal(got_mean, mean.max(axis=0))
    assert not got_var.any()
