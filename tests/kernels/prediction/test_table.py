"""Statistics of correlated logits by a table of points, against the same points in float64."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.devices import targets
from kernels.prediction import table
from kernels.program.kernel import Kernel, build
from kernels.program.program import Padded, Plain, Program, Rows
from refbnn import Moments
from refbnn.prediction.result import Prediction, from_logit_samples

POINTS = 100  # no whole vectors


def points(classes: int) -> np.ndarray:
    return np.random.default_rng(classes).standard_normal((POINTS, classes - 1))


def compiled(n_outputs: int, batch: int, target: str = "host", **options) -> Kernel:
    chosen = targets.target(target)
    program = Program(chosen, batch)
    mean = program.array(Rows(n_outputs, chosen.lanes), "mean")
    cov = program.array(Padded((batch, n_outputs, n_outputs), chosen.lanes), "cov")
    z = points(max(2, n_outputs))
    p, found = table.add(program, mean, cov, n_outputs, z, "predict")
    program.give_arrays(Rows(max(2, n_outputs), chosen.lanes), p)
    program.give_arrays(Plain((4, batch)), found)
    return build(program, "hand", **options)


def reference(mean: np.ndarray, cov: np.ndarray) -> Prediction:
    """By NumPy's Cholesky, of the differences to logit 0."""
    if mean.shape[1] == 1:
        mean, cov = np.pad(mean, ((0, 0), (1, 0))), np.pad(cov, ((0, 0), (1, 0), (1, 0)))
    n = mean.shape[1]
    difference = np.column_stack([-np.ones(n - 1), np.eye(n - 1)])
    factor = np.linalg.cholesky(difference @ cov @ difference.T)
    steps = np.einsum("bij,nj->nbi", factor, points(n))
    samples = np.pad(mean @ difference.T + steps, ((0, 0), (0, 0), (1, 0)))
    return from_logit_samples(samples, Moments(mean, np.zeros_like(mean)))


@pytest.mark.parametrize(("n_outputs", "batch"), [(1, 3), (2, 1), (3, 3), (10, 1), (17, 3)])
def test_statistics_of_correlated_logits(n_outputs, batch):
    kernel = compiled(n_outputs, batch)
    rng = np.random.default_rng(n_outputs)
    for spread in (0.01, 1.0, 10.0):
        root = spread * rng.standard_normal((batch, n_outputs, n_outputs))
        cov = root @ root.transpose(0, 2, 1) + 0.1 * spread**2 * np.eye(n_outputs)
        mean = 3.0 * rng.standard_normal((batch, n_outputs))
        p, found = kernel(mean, cov)
        exact = reference(mean, cov)
        # Rounding of the covariance, 6e-8, times its condition number of some 1e3, halved.
        np.testing.assert_allclose(p, exact.probabilities, atol=1e-5)
        for got, want in zip(
            found, (exact.aleatoric, exact.entropy, exact.mutual_information), strict=False
        ):
            np.testing.assert_allclose(got, want, atol=1e-5)


def test_singular_covariances():
    """One direction that all logits share changes nothing; no variance leaves the softmax."""
    kernel = compiled(3, 3)
    mean = np.array([[0.0, 1.0, 2.0]] * 3)
    shared, zero, one = np.full((3, 3), 9.0), np.zeros((3, 3)), np.diag([0.0, 4.0, 0.0])
    p, found = kernel(mean, np.stack([shared, zero, one]))
    plain = np.exp(mean[0]) / np.exp(mean[0]).sum()
    np.testing.assert_allclose(p[:2], [plain, plain], atol=1e-6)
    np.testing.assert_allclose(found[2, :2], 0.0, atol=1e-6)
    z = points(3)[:, 0]
    e = np.exp(np.column_stack([np.zeros(POINTS), 1.0 + 2.0 * z, np.full(POINTS, 2.0)]))
    np.testing.assert_allclose(p[2], np.mean(e / e.sum(axis=1, keepdims=True), axis=0), atol=1e-6)


def test_the_a72_agrees():
    cov = np.eye(3) + 0.5
    expected = compiled(3, 1)(np.ones((1, 3)), cov[np.newaxis])
    got = compiled(3, 1, "cortex-a72", device="emulated")(np.ones((1, 3)), cov[np.newaxis])
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
