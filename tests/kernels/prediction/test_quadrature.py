"""Statistics of independent logits in float32, against the reference's exact quadrature."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.devices import targets
from kernels.prediction import quadrature
from kernels.program.kernel import Kernel, build
from kernels.program.program import Plain, Program, Rows
from refbnn import Moments
from refbnn.prediction.result import class_logits
from refbnn.prediction.softmax import by_quadrature

SPREADS = (0.0, 0.01, 0.03, 0.1, 0.29, 0.31, 0.45, 0.47, 1.14, 1.16, 2.0, 5.0)


def compiled(n_outputs: int, batch: int, target: str = "host", **options) -> Kernel:
    chosen = targets.target(target)
    program = Program(chosen, batch)
    x = program.random(Rows(n_outputs, chosen.lanes))
    p, found = quadrature.add(program, x.mean, x.var, n_outputs, "predict")
    program.give_arrays(Rows(max(2, n_outputs), chosen.lanes), p)
    program.give_arrays(Plain((4, batch)), found)
    return build(program, options.pop("schedule", "hand"), **options)


def logits(n_outputs: int, spreads, scale: float, seed: int) -> Moments:
    """One row a spread; every logit has up to three times less."""
    rng = np.random.default_rng(seed)
    shape = len(spreads), n_outputs
    mean = (scale * rng.standard_normal(shape) + 5.0).astype(np.float32)
    s = np.array(spreads)[:, np.newaxis] * rng.uniform(1 / 3, 1.0, shape)
    s[:, 0] = spreads
    return Moments(mean.astype(float), np.square(s).astype(np.float32).astype(float))


def errors(kernel: Kernel, x: Moments) -> list[np.ndarray]:
    """Largest errors of a row: of probabilities, aleatoric part, entropy, mutual information."""
    p, found = kernel(x.mean, x.var)
    exact = by_quadrature(class_logits(x))
    assert not found[3].any()
    return [
        np.abs(p - exact.probabilities).max(axis=1),
        np.abs(found[0] - exact.aleatoric),
        np.abs(found[1] - exact.entropy),
        np.abs(found[2] - exact.mutual_information),
    ]


@pytest.mark.parametrize("n_outputs", [1, 2, 3, 10, 17, 100])
def test_statistics_of_many_spreads(n_outputs):
    """Bounds of the module, for a standard normal logit at the ends of each rule too."""
    kernel = compiled(n_outputs, len(SPREADS))
    for seed, scale in enumerate((0.5, 3.0, 8.0)):
        p, *entropies = errors(kernel, logits(n_outputs, SPREADS, scale, seed))
        assert p.max() <= 5e-7
        assert max(error.max() for error in entropies) <= 1e-5
        assert max(error[:-1].max() for error in entropies) <= 3e-6


def test_a_row_that_is_nearly_certain_keeps_the_digits_of_its_entropies():
    """At s = 0.01 the next order is 1e-4 of MI; beyond s² = 1e-3 it is rounding of H over MI."""
    kernel = compiled(10, 3)
    mean = np.tile(np.r_[12.0, np.zeros(9)], (3, 1))
    var = np.square([[0.01], [0.3], [1.0]]) * np.ones(10)
    p, found = kernel(mean, var)
    exact = by_quadrature(Moments(mean, var.astype(np.float32).astype(float)))
    assert exact.entropy.max() < 2e-3
    np.testing.assert_allclose(found[0], exact.aleatoric, rtol=1e-5)
    np.testing.assert_allclose(found[1], exact.entropy, rtol=1e-5)
    np.testing.assert_allclose(found[2], exact.mutual_information, rtol=1e-3)
    np.testing.assert_allclose(p, exact.probabilities, rtol=2e-5)


def test_wide_logits_up_to_the_limit_and_marks_beyond():
    kernel = compiled(3, 3)
    x = logits(3, (8.0, 15.9, 16.0), 3.0, 0)
    assert max(error.max() for error in errors(kernel, x)) <= 1e-5
    var = x.var * [[1.0], [1.1], [1e30]]
    np.testing.assert_array_equal(kernel(x.mean, var)[1][3], [0, 1, 1])
    assert quadrature.widest(100) == 5.0


def test_numbers_that_are_not_finite_end_like_others():
    """Loops have bounds made of the numbers; the network's own checks answer such a row."""
    kernel = compiled(3, 1)
    for mean, var in [(np.nan, 1.0), (1.0, np.nan), (np.inf, 1.0), (-1e38, np.inf), (0.0, -1.0)]:
        kernel(np.array([[0.0, mean, 1.0]]), np.array([[1.0, var, 1.0]]))
    p, found = kernel(np.array([[0.0, -3e38, 3e38]]), np.zeros((1, 3)))
    np.testing.assert_array_equal(p, [[0, 0, 1]])
    np.testing.assert_allclose(found[:, 0], 0.0, atol=1e-6)


def test_a_tie_and_a_symmetric_logit():
    """All by symmetry: p = 1/C; and E σ(z) = ½, SME of z ~ N(0, 1) by 4801 nodes."""
    p, found = compiled(4, 1)(np.zeros((1, 4)), np.full((1, 4), 2.0))
    np.testing.assert_allclose(p, 0.25, atol=1e-6)
    np.testing.assert_allclose(found[1], np.log(4.0), rtol=1e-6)
    z = np.linspace(-12.0, 12.0, 4801)
    density = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
    entropy = np.log1p(np.exp(-z)) + z / (1.0 + np.exp(z))
    sme = 0.005 * np.sum(density * entropy)
    p, found = compiled(1, 1)(np.zeros((1, 1)), np.ones((1, 1)))
    np.testing.assert_allclose(p, 0.5, atol=1e-6)
    np.testing.assert_allclose(found[0], sme, atol=1e-6)


def test_tvms_default_schedule_and_the_a72_agree():
    x = logits(3, (0.01, 0.4, 1.5), 2.0, 3)
    expected = compiled(3, 3)(x.mean, x.var)
    for other in (
        compiled(3, 3, schedule="default"),
        compiled(3, 3, "cortex-a72", device="emulated"),
    ):
        for got, want in zip(other(x.mean, x.var), expected, strict=True):
            np.testing.assert_allclose(got, want, atol=1e-6)
