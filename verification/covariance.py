"""Full-covariance propagation of dense layer and ReLU against samples."""

from __future__ import annotations

import numpy as np

from refbnn.layers import ReLU
from refbnn.layers import dense as dense_layer
from refbnn.layers.posterior import Posterior
from refbnn.noise import Law
from refbnn.prediction import covariance
from refbnn.prediction.covariance.propagation import JointMoments, dense
from verification.check import Check, MomentEstimate, against_monte_carlo, blocks

_UNITS = 4


def check(label: str, law: Law, n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Covariance of a dense layer's outputs, with weights of the law and correlated inputs."""
    weight = Posterior(rng.standard_normal((3, _UNITS)), rng.uniform(0.1, 1.0, (3, _UNITS)))
    bias = Posterior(rng.standard_normal(3), rng.uniform(0.1, 1.0, 3))
    x, draw = _gaussian(rng)

    def outputs(size: int) -> np.ndarray:
        w = weight.mean + weight.scale * law.sample(rng, (size, *weight.shape))
        b = bias.mean + bias.scale * law.sample(rng, (size, *bias.shape))
        return dense_layer.forward(draw(size)[:, np.newaxis], w, b)[:, 0]

    return [
        _against(
            f"dense covariance ({label})", "W x + b", dense(x, weight, bias), outputs, n_samples
        )
    ]


def check_rectified(n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Covariance of rectified Gaussians."""
    x, draw = _gaussian(rng)
    claim = JointMoments(*covariance.rectified_covariance(x.mean, x.cov))
    return [
        _against(
            "relu covariance (Gaussian input)",
            "max(0, x)",
            claim,
            lambda size: ReLU().value(draw(size)),
            n_samples,
        )
    ]


def _gaussian(rng: np.random.Generator):
    """Joint moments of one Gaussian vector with strong correlations of both signs; its sampler."""
    factor = rng.standard_normal((_UNITS, 2)) @ rng.standard_normal((2, _UNITS)) / 2.0
    factor += 0.3 * np.eye(_UNITS)
    cov = factor @ factor.T
    mean = np.sqrt(np.diag(cov)) * rng.uniform(-1.5, 1.5, _UNITS)

    def draw(size: int) -> np.ndarray:
        return mean + rng.standard_normal((size, _UNITS)) @ factor.T

    return JointMoments(mean[np.newaxis], cov[np.newaxis]), draw


def _against(name: str, what: str, claim: JointMoments, outputs, n_samples: int) -> Check:
    """Every Cov(y_i, y_j) as the mean of the product of deviations from the claimed means."""
    upper = np.triu_indices(claim.mean.shape[1])
    claimed = np.concatenate([claim.mean[0], claim.cov[0][upper]])
    estimate = MomentEstimate(claimed)
    for size in blocks(n_samples):
        y = outputs(size)
        d = y - claim.mean
        estimate.add(np.concatenate([y, d[:, upper[0]] * d[:, upper[1]]], axis=1))
    (mean, _), (error, _) = estimate.result()
    how = f"means and covariances of {what} against samples"
    return against_monte_carlo(name, how, claimed, mean, error, n_samples)
