"""Softmax statistics of correlated logits by the fixed table of points."""

import numpy as np
import pytest
from scipy.special import entr, softmax

from refbnn.errors import InputError
from refbnn.layers.moments import JointMoments, Moments
from refbnn.prediction.softmax import by_quadrature, by_table
from refbnn.prediction.softmax.table import covariance_of_differences, factor, points


def logits(n_classes, n=5, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    root = spread * rng.standard_normal((n, n_classes, n_classes)) / np.sqrt(n_classes)
    return JointMoments(2.0 * rng.standard_normal((n, n_classes)), root @ root.swapaxes(1, 2))


@pytest.mark.parametrize("n_classes", [3, 10, 40, 100])
@pytest.mark.parametrize("spread", [0.1, 2.0])
def test_against_random_draws(n_classes, spread):
    """Draws use eigenvectors of the covariance of all logits: nothing in common with the rule."""
    joint, rng = logits(n_classes, spread=spread), np.random.default_rng(1)
    found, n = by_table(joint), 40_000 if n_classes < 100 else 8000
    for row in range(5):
        value, vector = np.linalg.eigh(joint.cov[row])
        root = vector * np.sqrt(np.maximum(value, 0.0))
        p = softmax(joint.mean[row] + rng.standard_normal((n, n_classes)) @ root.T, axis=-1)
        H = entr(p).sum(axis=-1)
        # Five standard errors of the draws, and as much error of the rule as its docstring states.
        bound = 5.0 * p.std(axis=0) / np.sqrt(n) + 5e-3 * spread
        assert (np.abs(found.probabilities[row] - p.mean(axis=0)) < bound).all()
        assert abs(found.aleatoric[row] - H.mean()) < 5.0 * H.std() / np.sqrt(n) + 1e-2 * spread
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1.0, rtol=1e-12)


def test_small_spreads_are_right_to_second_order():
    """MI = ½ (Σ p_c Var ℓ_c − Var Σ p_c ℓ_c), by the table's exact covariance; third order 1e-3."""
    joint = logits(6, spread=1e-3)
    p = softmax(joint.mean, axis=1)
    of_sum = np.einsum("bi,bij,bj->b", p, joint.cov, p)
    want = 0.5 * ((p * joint.var).sum(axis=1) - of_sum)
    np.testing.assert_allclose(by_table(joint).mutual_information, want, rtol=1e-2)


def test_independent_logits_agree_with_their_exact_integral():
    rng = np.random.default_rng(2)
    var = rng.uniform(0.1, 4.0, (20, 10))
    joint = JointMoments(rng.standard_normal((20, 10)), var[:, np.newaxis] * np.eye(10))
    exact = by_quadrature(joint.marginal)
    errors = []
    for n in (256, 1024, 4096):
        found = by_table(joint, n)
        errors.append(np.abs(found.probabilities - exact.probabilities).max())
    assert errors[1] < 5e-3  # greatest error that the docstring states
    assert errors[2] < 0.5 * errors[0]
    found = by_table(joint)
    assert np.abs(found.mutual_information - exact.mutual_information).max() < 1.2e-2


def test_only_differences_matter():
    """A shift common to all logits, whatever its covariance with them, changes nothing."""
    joint, rng = logits(5), np.random.default_rng(3)
    along = rng.standard_normal((5, 5, 1))
    moved = joint.cov + along + along.swapaxes(1, 2) + 30.0
    S = covariance_of_differences(joint.cov)
    D = np.c_[np.eye(4), -np.ones(4)]
    np.testing.assert_allclose(S, D @ joint.cov @ D.T, atol=1e-13)
    np.testing.assert_allclose(covariance_of_differences(moved), S, atol=1e-12)
    found, want = by_table(JointMoments(joint.mean + 7.0, moved)), by_table(joint)
    np.testing.assert_allclose(found.probabilities, want.probabilities, atol=1e-12)
    np.testing.assert_allclose(found.aleatoric, want.aleatoric, atol=1e-12)


@pytest.mark.parametrize("large", [1e2, 1e5, 1e7, 1e9])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_logit_of_large_variance_may_be_any(large, place):
    """Independent logits, so that quadrature is exact; the last one was taken for the reference."""
    var, mean = np.ones((2, 5)), np.tile(np.linspace(0.0, 1.0, 5), (2, 1))
    var[0, place], var[1, 4 - place] = large, 3.0  # rows have references of their own
    exact = by_quadrature(Moments(mean, var))
    found = by_table(JointMoments(mean, var[:, np.newaxis] * np.eye(5)))
    np.testing.assert_allclose(found.probabilities, exact.probabilities, atol=5e-3)
    np.testing.assert_allclose(found.mutual_information, exact.mutual_information, atol=1.2e-2)
    assert found.logits.var[0, place] == large


def test_correlated_logits_may_come_in_any_order():
    """Up to twice the error of the table, which every order has anew."""
    root = np.random.default_rng(6).standard_normal((5, 5)) * np.array([[1, 2, 1e4, 3, 1]]).T
    mean, cov = np.linspace(0.0, 1.0, 5)[np.newaxis], (root @ root.T)[np.newaxis]
    want = by_table(JointMoments(mean, cov), 8192)
    for shift in range(1, 5):
        order = np.roll(np.arange(5), shift)
        found = by_table(JointMoments(mean[:, order], cov[:, order][:, :, order]), 8192)
        np.testing.assert_allclose(found.probabilities, want.probabilities[:, order], atol=5e-3)
        np.testing.assert_allclose(found.aleatoric, want.aleatoric, atol=1e-2)


def test_two_classes_are_exact_and_one_is_certain():
    joint = logits(2)
    found = by_table(joint, 2)
    of_difference = joint.cov[:, 0, 0] + joint.cov[:, 1, 1] - 2.0 * joint.cov[:, 0, 1]
    var = np.stack([0.0 * of_difference, of_difference], axis=1)  # by the other logit
    exact = by_quadrature(Moments(joint.mean, var))
    np.testing.assert_allclose(found.probabilities, exact.probabilities, rtol=1e-12)
    np.testing.assert_allclose(found.aleatoric, exact.aleatoric, atol=1e-13)
    np.testing.assert_array_equal(found.logits.var, joint.var)
    one = by_table(JointMoments(np.ones((2, 1)), np.ones((2, 1, 1))))
    np.testing.assert_array_equal(one.probabilities, 1.0)
    np.testing.assert_array_equal(one.aleatoric, 0.0)


def test_factor_of_singular_covariances():
    """Up to a millionth of a variance, whatever the rank; covariances are kept."""
    rng = np.random.default_rng(4)
    for rank in (0, 1, 3, 6):
        root = rng.standard_normal((4, 6, rank))
        root[:, 2] = 0.0  # a logit that is known
        S = root @ root.swapaxes(1, 2)
        F = factor(S)
        again = F @ F.swapaxes(1, 2)
        scale = np.einsum("bii->bi", S)
        excess = np.einsum("bii->bi", again) - scale
        assert (np.abs(excess) <= 1.01e-6 * scale).all()
        lower = np.tril_indices(6, -1)
        np.testing.assert_allclose(again[:, *lower], S[:, *lower], atol=1e-12)


def test_the_rule_is_continuous_where_the_covariance_loses_rank():
    """Two precisions of one covariance, 1e-7 apart, give results as near as that."""
    joint, rng = logits(5), np.random.default_rng(5)
    root = rng.standard_normal((5, 5, 2))
    cov = root @ root.swapaxes(1, 2)
    single = cov.astype(np.float32).astype(float)
    found, want = (by_table(JointMoments(joint.mean, c)) for c in (single, cov))
    np.testing.assert_allclose(found.probabilities, want.probabilities, atol=1e-5)
    np.testing.assert_allclose(found.aleatoric, want.aleatoric, atol=1e-5)


def test_known_and_huge_logits():
    means = np.array([[1.0, 0.0, -1.0], [1e6, 0.0, -1e6], [1e300, -1e300, 0.0]])
    found = by_table(JointMoments(means, np.zeros((3, 3, 3))))
    np.testing.assert_allclose(found.probabilities, softmax(means, axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.mutual_information, 0.0, atol=1e-12)
    wide = by_table(JointMoments(np.zeros((1, 4)), 1e12 * np.eye(4)[np.newaxis]))
    # One logit is far above the others: as sure as can be, equally often each.
    np.testing.assert_allclose(wide.probabilities, 0.25, atol=0.02)
    assert wide.aleatoric[0] < 1e-3


def test_blocks_of_inputs_do_not_change_the_numbers():
    joint = logits(10, n=300)
    whole, part = by_table(joint), by_table(joint[290:291])
    np.testing.assert_allclose(whole.probabilities[290:291], part.probabilities, rtol=1e-12)
    assert by_table(joint[:0]).probabilities.shape == (0, 10)


def test_points():
    z = points(1000, 9)  # no power of two
    assert z.shape == (1000, 9)
    assert z is points(1000, 9)
    assert not z.flags.writeable
    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-13)
    np.testing.assert_allclose(z.T @ z / 1000, np.eye(9), atol=1e-12)
    few = points(64, 99)  # too few to be whitened
    assert np.isfinite(few).all()
    assert few.std() == pytest.approx(1.0, abs=0.02)
    for wrong, said in (
        ((1, 3), "1 points"),
        ((8, 0), "1 classes"),
        ((8, 30_000), "30001 classes"),
    ):
        with pytest.raises(InputError, match=said):
            points(*wrong)
