"""Statistics of given samples of logits, against the reference's of the same samples."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.devices import targets
from kernels.prediction import samples
from kernels.program.kernel import Kernel, build
from kernels.program.program import Plain, Program, Rows
from kernels.sampling.weights import Samples
from refbnn import Moments
from refbnn.prediction.result import Prediction, from_logit_samples


def compiled(n_samples: int, batch: int, n_outputs: int, target="host", **options) -> Kernel:
    chosen = targets.target(target)
    program = Program(chosen, batch)
    x = program.known(Samples(n_samples, Rows(n_outputs, chosen.lanes)))
    *moments, p, found = samples.add(program, "predict", x.mean, n_samples, n_outputs)
    program.give_arrays(Rows(n_outputs, chosen.lanes), *moments)
    program.give_arrays(Rows(max(2, n_outputs), chosen.lanes), p)
    program.give_arrays(Plain((4, batch)), found)
    return build(program, "hand", **options)


def reference(x: np.ndarray) -> Prediction:
    return from_logit_samples(x, Moments(x.mean(axis=0), x.var(axis=0, ddof=1)))


@pytest.mark.parametrize(
    ("n_samples", "batch", "n_outputs"), [(2, 1, 1), (30, 3, 2), (17, 1, 10), (33, 5, 100)]
)
def test_statistics_of_samples(n_samples, batch, n_outputs):
    kernel = compiled(n_samples, batch, n_outputs)
    rng = np.random.default_rng(n_outputs)
    shape = n_samples, batch, n_outputs
    for spread in (0.01, 1.0, 20.0):
        x = 4.0 * rng.standard_normal(shape[1:]) + spread * rng.standard_normal(shape)
        x = x.astype(np.float32).astype(float)
        mean, var, p, found = kernel(x)
        exact = reference(x)
        # Rounding of sums, of 1e-7 each; logits near 20 round to 2e-6, which exp makes relative.
        np.testing.assert_allclose(p, exact.probabilities, atol=5e-7)
        for got, want in zip(
            found, (exact.aleatoric, exact.entropy, exact.mutual_information), strict=False
        ):
            np.testing.assert_allclose(got, want, atol=3e-6)
        np.testing.assert_allclose(mean, x.mean(axis=0), atol=2e-5)
        np.testing.assert_allclose(var, x.var(axis=0, ddof=1), rtol=2e-5)


def test_small_mutual_information_keeps_its_digits():
    """The difference of two entropies would be rounding alone: 1e-7 beside 1e-8."""
    rng = np.random.default_rng(0)
    x = np.array([2.0, 0.0, 1.0]) + 2e-4 * rng.standard_normal((20, 1, 3))
    x = x.astype(np.float32).astype(float)
    found = compiled(20, 1, 3)(x)[3]
    expected = reference(x).mutual_information
    assert 1e-9 < expected[0] < 2e-8
    np.testing.assert_allclose(found[2], expected, rtol=2e-3)


def test_equal_samples_ties_and_far_logits():
    x = np.zeros((4, 3, 3))
    x[:, 1] = [5.0, 5.0, -3e38]
    x[:, 2] = [3e38, 0.0, -3e38]
    _, var, p, found = compiled(4, 3, 3)(x)
    np.testing.assert_allclose(p, [[1 / 3] * 3, [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]], atol=1e-7)
    np.testing.assert_allclose(found[0], [np.log(3.0), np.log(2.0), 0.0], atol=3e-7)
    np.testing.assert_allclose(found[2], 0, atol=1e-29)
    np.testing.assert_array_equal(var[0], 0)


def test_the_a72_agrees():
    x = np.random.default_rng(3).standard_normal((5, 3, 3)).astype(np.float32)
    expected = compiled(5, 3, 3)(x)
    for got, want in zip(
        compiled(5, 3, 3, "cortex-a72", device="emulated")(x), expected, strict=True
    ):
        np.testing.assert_allclose(got, want, atol=1e-6)
