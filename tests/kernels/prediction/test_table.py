"""Statistics of correlated logits by the table of points, against the reference in float64."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.devices import targets
from kernels.prediction import table
from kernels.program.kernel import Kernel, build
from kernels.program.program import Padded, Plain, Program, Rows
from refbnn.layers.moments import JointMoments
from refbnn.prediction.result import class_joint
from refbnn.prediction.softmax import by_table


def compiled(n_outputs: int, batch: int, target: str = "host", **options) -> Kernel:
    chosen = targets.target(target)
    program = Program(chosen, batch)
    mean = program.array(Rows(n_outputs, chosen.lanes), "mean")
    cov = program.array(Padded((batch, n_outputs, n_outputs), chosen.lanes), "cov")
    p, found = table.add(program, mean, cov, n_outputs, "predict")
    program.give_arrays(Rows(max(2, n_outputs), chosen.lanes), p)
    program.give_arrays(Plain((4, batch)), found)
    return build(program, "hand", **options)


def require_reference(kernel: Kernel, mean: np.ndarray, cov: np.ndarray, atol: float) -> None:
    p, found = kernel(mean, cov)
    exact = by_table(class_joint(JointMoments(mean, cov)))
    np.testing.assert_allclose(p, exact.probabilities, atol=atol)
    for got, want in zip(
        found, (exact.aleatoric, exact.entropy, exact.mutual_information), strict=False
    ):
        np.testing.assert_allclose(got, want, atol=atol)


@pytest.mark.parametrize(
    ("n_outputs", "batch"), [(1, 3), (2, 1), (3, 3), (10, 1), (17, 3), (100, 1)]
)
def test_statistics_of_correlated_logits(n_outputs, batch):
    """Rounding of the covariance, 6e-8, times its condition number of some 1e3, halved."""
    kernel = compiled(n_outputs, batch)
    rng = np.random.default_rng(n_outputs)
    for spread in (0.01, 1.0, 5.0):
        root = spread * rng.standard_normal((batch, n_outputs, n_outputs)) / np.sqrt(n_outputs)
        cov = root @ root.transpose(0, 2, 1) + 0.1 * spread**2 * np.eye(n_outputs)
        mean = 3.0 * rng.standard_normal((batch, n_outputs))
        require_reference(kernel, mean, cov, 1e-5)


def test_singular_covariances():
    """No variance; a direction that all logits share, which changes nothing; others of rank 1."""
    mean = np.array([[0.0, 1.0, 2.0]] * 4)
    one = np.array([1.0, 2.0, -1.0])
    cov = np.stack(
        [np.zeros((3, 3)), np.full((3, 3), 9.0), np.diag([0, 4.0, 0]), np.outer(one, one)]
    )
    kernel = compiled(3, 4)
    require_reference(kernel, mean, cov, 1e-5)
    p, found = kernel(mean, cov)
    plain = np.exp(mean[0]) / np.exp(mean[0]).sum()
    np.testing.assert_allclose(p[:2], [plain, plain], atol=1e-6)
    np.testing.assert_allclose(found[2, :2], 0.0, atol=1e-6)


def test_small_mutual_information_keeps_its_digits():
    """To second order it is ½ Σ_c v_c p_c (1 − p_c) for independent logits."""
    mean, v = np.array([[0.0, 1.0, 2.0]]), 1e-6
    p, found = compiled(3, 1)(mean, v * np.eye(3)[np.newaxis])
    expected = 0.5 * v * np.sum(p * (1.0 - p))
    np.testing.assert_allclose(found[2], expected, rtol=1e-3)


def test_differences_that_overflow():
    """Two logits that far apart are certain; a row of more is marked."""
    p, found = compiled(2, 1)(np.array([[-2.4e38, 2.4e38]]), np.eye(2)[np.newaxis])
    np.testing.assert_array_equal(p, [[0.0, 1.0]])
    np.testing.assert_array_equal(found[:3], 0.0)
    mean = np.array([[2.4e38, -2.4e38, 0.0], [0.0] * 3, [0.0] * 3, [1e29, 0.0, -1e29]])
    cov = np.array([1.0, 3e38, 1.0, 1e29])[:, np.newaxis, np.newaxis] * np.eye(3)
    _, found = compiled(3, 4)(mean, cov)
    np.testing.assert_array_equal(found[3], [1.0, 1.0, 0.0, 0.0])
    assert np.isfinite(found[:, 2:]).all()


def test_a_last_logit_that_is_no_reference_is_marked():
    variances = np.array([[1.0, 2.0, 990.0], [1.0, 2.0, 1010.0], [1010.0, 2.0, 1.0], [0.0] * 3])
    _, found = compiled(3, 4)(np.zeros((4, 3)), variances[:, np.newaxis] * np.eye(3))
    np.testing.assert_array_equal(found[3], [0.0, 1.0, 0.0, 0.0])


@pytest.mark.parametrize("n_outputs", [2, 10])
def test_a_shared_variance_costs_digits(n_outputs):
    """Errors of 2⁻²² V in the variances of differences, and at most a tenth of these in p."""
    kernel, own = compiled(n_outputs, 1), 0.09 * np.eye(n_outputs)
    mean = np.linspace(0.0, 1.0, n_outputs)[np.newaxis]
    exact = by_table(class_joint(JointMoments(mean, own[np.newaxis])))
    for shared in (1e2, 1.1e4, 1.3e5):
        p, _ = kernel(mean, (own + shared)[np.newaxis])
        np.testing.assert_allclose(p, exact.probabilities, atol=1e-6 + 0.1 * 2.0**-22 * shared)


def test_the_a72_agrees():
    cov, mean = np.eye(3)[np.newaxis] + 0.5, np.ones((1, 3))
    expected = compiled(3, 1)(mean, cov)
    got = compiled(3, 1, "cortex-a72", device="emulated")(mean, cov)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
