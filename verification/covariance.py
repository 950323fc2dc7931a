"""Full-covariance propagation of dense layer and ReLU, compared with samples.

Hypothesis: means and covariances of W x + b, x correlated and W, b of the law, and of max(0, x), x
Gaussian, are those of `refbnn.prediction.covariance`. Estimator of Cov(y_i, y_j): the mean of
(y_i − m_i)(y_j − m_j) with the claimed means m. Sample size and error model: see
`verification.check`.
"""

from __future__ import annotations

import numpy as np

from refbnn.layers import ReLU
from refbnn.layers import dense as dense_layer
from refbnn.layers.moments import JointMoments
from refbnn.layers.posterior import Posterior
from refbnn.noise import Law
from refbnn.prediction import covariance
from refbnn.prediction.covariance.propagation import dense
from verification.check import Check, Draw, of_expectations

_UNITS = 4


def check(label: str, law: Law, n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check a dense layer with weights of the law and correlated inputs."""
    weight = Posterior(rng.standard_normal((3, _UNITS)), rng.uniform(0.1, 1.0, (3, _UNITS)))
    bias = Posterior(rng.standard_normal(3), rng.uniform(0.1, 1.0, 3))
    x, draw = _gaussian(rng)

    def outputs(size: int) -> np.ndarray:
        w = weight.mean + weight.scale * law.sample(rng, (size, *weight.shape))
        b = bias.mean + bias.scale * law.sample(rng, (size, *bias.shape))
        return dense_layer.forward(draw(size)[:, np.newaxis], w, b)[:, 0]

    claim = dense(x, weight, bias)
    return [_against(f"dense covariance ({label})", "W x + b", claim, outputs, n_samples)]


def check_rectified(n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check rectified Gaussians."""
    x, draw = _gaussian(rng)
    claim = JointMoments(*covariance.rectified_covariance(x.mean, x.cov))

    def outputs(size: int) -> np.ndarray:
        return ReLU().value(draw(size))

    return [_against("relu covariance (Gaussian input)", "max(0, x)", claim, outputs, n_samples)]


def _gaussian(rng: np.random.Generator):
    """Return the moments and the sampler of a Gaussian vector, strongly correlated both ways."""
    factor = rng.standard_normal((_UNITS, 2)) @ rng.standard_normal((2, _UNITS)) / 2.0
    factor += 0.3 * np.eye(_UNITS)
    cov = factor @ factor.T
    mean = np.sqrt(np.diag(cov)) * rng.uniform(-1.5, 1.5, _UNITS)

    def draw(size: int) -> np.ndarray:
        return mean + rng.standard_normal((size, _UNITS)) @ factor.T

    return JointMoments(mean[np.newaxis], cov[np.newaxis]), draw


def _against(name: str, what: str, claim: JointMoments, outputs: Draw, n_samples: int) -> Check:
    upper = np.triu_indices(claim.mean.shape[1])

    def draw(size: int) -> np.ndarray:
        y = outputs(size)
        d = y - claim.mean
        return np.concatenate([y, d[:, upper[0]] * d[:, upper[1]]], axis=1)

    claimed = np.concatenate([claim.mean[0], claim.cov[0][upper]])
    how = f"means and covariances of {what} against samples"
    return of_expectations(name, how, claimed, draw, n_samples)
