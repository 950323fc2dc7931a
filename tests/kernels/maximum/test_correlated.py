"""Kernels of the greatest of dependent Gaussians against the float64 reference."""

import numpy as np
import pytest

from kernels.devices import targets
from kernels.maximum import correlated
from kernels.maximum.of_window import ABSENT
from kernels.program.kernel import build
from kernels.program.program import Plain, Program
from refbnn.numerics import correlated_maximum as reference

LANES = 16
ACCURACY = 1e-5


def compiled(k, shape, together):
    """A kernel of k means, k variances and γ of all pairs to mean, variance, r and weights."""
    program = Program(targets.target("host"), shape[0])
    pairs = [(i, j) for j in range(k) for i in range(j)]
    tensors = [program.array(Plain(shape), f"x{n}") for n in range(2 * k + len(pairs))]

    def window(buffers, index):
        values = [buffer[index] for buffer in buffers]
        apart = dict(zip(pairs, values[2 * k :], strict=True))
        return correlated.Window(values[:k], values[k : 2 * k], apart)

    results = correlated.greatest(
        "greatest", shape, tensors, [], window, LANES, weights=k, together=together
    )
    program.give_arrays(Plain(shape), *results)
    return build(program, "hand"), pairs


def drawn(rng, k, shape):
    """Means and covariances of windows, in float32: independent to nearly equal entries."""
    loadings = rng.standard_normal((*shape, k, k))
    common = rng.standard_normal((*shape, 1, k)) * 10.0 ** rng.uniform(-1, 1, (*shape, 1, 1))
    loadings = loadings * 10.0 ** rng.uniform(-1, 0, (*shape, 1, 1)) + common
    mean = rng.standard_normal((*shape, k)) * rng.choice([0.0, 0.3, 3.0], shape)[..., np.newaxis]
    return mean.astype(np.float32), loadings @ loadings.swapaxes(-1, -2)


@pytest.mark.parametrize(("k", "shape", "together"), [(2, (2, 16), 1), (4, (1, 5, 32), 2)])
def test_the_greatest_of_dependent_entries(k, shape, together):
    mean, cov = drawn(np.random.default_rng(k), k, shape)
    kernel, pairs = compiled(k, shape, together)
    var = np.einsum("...ii->...i", cov)
    gamma = [var[..., i] + var[..., j] - 2.0 * cov[..., i, j] for i, j in pairs]
    got = kernel(*np.moveaxis(mean, -1, 0), *np.moveaxis(var, -1, 0), *gamma)
    want_mean, want_var, pi = reference.maximum(mean.astype(float), cov)
    linear = np.einsum("...i,...ij,...j->...", pi, cov, pi)
    size = (pi * var).sum(axis=-1)
    s = np.sqrt(size)
    assert (np.abs(got[0] - want_mean) <= ACCURACY * (s + np.abs(want_mean))).all()
    assert (np.abs(got[1] - want_var) <= ACCURACY * size).all()
    assert (np.abs(got[2] - (want_var - linear)) <= ACCURACY * size).all()
    assert (np.abs(np.stack(got[3:], axis=-1) - pi) <= ACCURACY).all()


def test_an_odd_entry_equal_ones_absent_ones_and_nan():
    """Three entries in one vector of windows each of whose kinds is known in closed form."""
    kernel, _ = compiled(3, (1, LANES), 1)
    m, v, gamma = (np.zeros((3, 1, LANES), np.float32) for _ in range(3))
    m[:, 0, 0] = 1.0, 2.0, 1.5  # all the same noise: the greatest mean, and its variance
    v[:, 0, 0] = 4.0
    m[:, 0, 1] = 1.0, ABSENT, ABSENT  # one entry there
    v[:, 0, 1] = 4.0, 0.0, 0.0
    m[:, 0, 2] = ABSENT, ABSENT, -1.0
    v[:, 0, 2] = 0.0, 0.0, 4.0
    m[:, 0, 3] = 1.0, 1.0, 1.0  # ties without noise
    m[:, 0, 4] = 1.0, np.nan, 1.0
    m[:, 0, 5] = 1.0, -np.inf, 1.0
    v[:, 0, 6] = 1.0, np.inf, 1.0
    mean, var, own, *weights = kernel(*m, *v, *gamma)
    np.testing.assert_array_equal(mean[0, :4], [2.0, 1.0, -1.0, 1.0])
    np.testing.assert_array_equal(var[0, :4], [4.0, 4.0, 4.0, 0.0])
    np.testing.assert_array_equal(own[0, :4], 0.0)
    np.testing.assert_array_equal([w[0, :3] for w in weights], [[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    assert np.isnan(mean[0, 4:7]).all()
    assert np.isnan(var[0, 4:7]).all()
    assert np.isfinite(mean[0, 7:]).all()
