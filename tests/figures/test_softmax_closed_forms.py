"""Closed forms of softmax statistics, each against loops, draws or the exact integrals."""

import numpy as np
import pytest
from scipy.special import entr, expit, softmax

from figures.support.softmax_closed_forms import (
    delta_method,
    laplace_bridge,
    pairwise_softmax,
    scaled_softmax,
)
from refbnn.errors import InputError
from refbnn.layers.moments import Moments
from refbnn.prediction.softmax import by_quadrature


def logits(mean, var):
    return Moments(np.atleast_2d(np.array(mean, float)), np.atleast_2d(np.array(var, float)))


def test_closed_forms_of_logits_far_apart():
    far = logits([[1e308, -1e308, 0.0], [1e4, 0.0, 1e4]], np.ones((2, 3)))
    for p in (scaled_softmax(far), pairwise_softmax(far), delta_method(far)[0]):
        np.testing.assert_allclose(p[0], [1.0, 0.0, 0.0], atol=1e-12)
        np.testing.assert_allclose(p[1], [0.5, 0.0, 0.5], atol=1e-12)


def test_pairwise_is_mackays_form_for_two_classes():
    m, v = 1.3, (0.7, 2.0)
    wanted = expit(m / np.sqrt(1.0 + np.pi * sum(v) / 8.0))
    np.testing.assert_allclose(pairwise_softmax(logits([m, 0.0], v))[0, 0], wanted, rtol=1e-14)
    # Greatest error of the probit form for the logistic function: 0.02 (MacKay 1992, figure 2).
    assert wanted == pytest.approx(by_quadrature(logits([m, 0.0], v)).probabilities[0, 0], abs=0.02)


def test_scalings_by_loops():
    rng = np.random.default_rng(0)
    mean, var = rng.normal(0.0, 3.0, (3, 5)), rng.gamma(1.0, 2.0, (3, 5))
    for b in range(3):
        centred = mean[b] - mean[b].mean()
        scaled = [centred[c] / np.sqrt(1.0 + np.pi * var[b, c] / 8.0) for c in range(5)]
        np.testing.assert_allclose(
            scaled_softmax(Moments(mean, var))[b], softmax(scaled), rtol=1e-13
        )
        pairs = np.zeros(5)
        for c in range(5):
            total = 0.0
            for j in range(5):
                kappa = 1.0 / np.sqrt(1.0 + np.pi * (var[b, c] + var[b, j]) / 8.0)
                total += np.exp(-kappa * (mean[b, c] - mean[b, j]))
            pairs[c] = 1.0 / total
        found = pairwise_softmax(Moments(mean, var))[b]
        np.testing.assert_allclose(found, pairs / pairs.sum(), rtol=1e-13)
    known = Moments(mean, np.zeros_like(mean))
    for way in (scaled_softmax, pairwise_softmax):
        np.testing.assert_allclose(way(known), softmax(mean, axis=1), rtol=1e-13)


def test_the_bridge_leads_back():
    """Independent logits with v = 1/α, m = log α + const are where its inverse is exact."""
    alpha = np.array([2.0, 3.0, 1.5, 4.0])
    q = laplace_bridge(logits(np.log(alpha) + 7.0, 1.0 / alpha))
    np.testing.assert_allclose(q.probabilities[0], alpha / alpha.sum(), rtol=1e-12)
    H = entr(np.random.default_rng(0).dirichlet(alpha, 100_000)).sum(axis=1)
    assert q.aleatoric[0] == pytest.approx(H.mean(), abs=4.0 * H.std() / np.sqrt(len(H)))


def test_the_delta_method_errs_by_the_square_of_the_variance():
    rng = np.random.default_rng(3)
    mean, var = rng.normal(0.0, 1.0, (1, 4)), rng.uniform(0.5, 1.5, (1, 4))
    errors = []
    for scale in (0.02, 0.01):
        some = Moments(mean, scale * var)
        exact = by_quadrature(some)
        p, sme, mi = delta_method(some)
        errors.append(
            [
                np.abs(p - exact.probabilities).max(),
                abs(sme - exact.aleatoric)[0],
                abs(mi - exact.mutual_information)[0],
            ]
        )
    ratio = np.array(errors[0]) / np.array(errors[1])
    # 4 in the limit; the next order is as great as the variance.
    np.testing.assert_allclose(ratio, 4.0, rtol=0.1)


def test_bad_logits_are_refused():
    for wrong in (np.zeros(3), np.zeros((2, 0)), np.zeros((2, 3, 4))):
        for way in (scaled_softmax, pairwise_softmax, laplace_bridge, delta_method):
            with pytest.raises(InputError, match=r"expected \(B, C\)"):
                way(Moments(wrong, wrong))
    with pytest.raises(InputError, match="positive variances"):
        laplace_bridge(logits([0.0, 1.0], [1.0, 0.0]))
    with pytest.raises(InputError, match="α overflows"):
        laplace_bridge(logits([0.0, 2000.0], [1.0, 1.0]))
