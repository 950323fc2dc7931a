"""Full-covariance propagation of dense layer and ReLU, compared with samples.

Hypothesis: means and covariances of W x + b, x correlated and W, b of the law, and of max(0, x), x
Gaussian, are those of `refbnn.prediction.covariance`. Estimator, sample size and error model: see
`verification.check`, `CovarianceEstimate`.
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
from verification.check import Check, of_joint_moments

_UNITS = 4


def check(label: str, law: Law, n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check a dense layer with weights of the law and correlated inputs."""
    weight = Posterior(rng.standard_normal((3, _UNITS)), rng.uniform(0.1, 1.0, (3, _UNITS)))
    bias = Posterior(rng.standard_normal(3), rng.uniform(0.1, 1.0, 3))
    x, draw = _gaussian(rng)

    name = f"dense covariance ({label})"

    def outputs(size: int) -> dict[str, np.ndarray]:
        w = weight.mean + weight.scale * law.sample(rng, (size, *weight.shape))
        b = bias.mean + bias.scale * law.sample(rng, (size, *bias.shape))
        return {name: dense_layer.forward(draw(size)[:, np.newaxis], w, b)[:, 0]}

    claims = {name: dense(x, weight, bias)}
    return of_joint_moments(claims, "W x + b", outputs, n_samples)


def check_rectified(n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check rectified Gaussians."""
    x, draw = _gaussian(rng)
    claim = JointMoments(*covariance.rectified_covariance(x.mean, x.cov))
    name = "relu covariance (Gaussian input)"

    def outputs(size: int) -> dict[str, np.ndarray]:
        return {name: ReLU().value(draw(size))}

    return of_joint_moments({name: claim}, "max(0, x)", outputs, n_samples)


def _gaussian(rng: np.random.Generator):
    """Return the moments and the sampler of a Gaussian vector, strongly correlated both ways."""
    factor = rng.standard_normal((_UNITS, 2)) @ rng.standard_normal((2, _UNITS)) / 2.0
    factor += 0.3 * np.eye(_UNITS)
    cov = factor @ factor.T
    mean = np.sqrt(np.diag(cov)) * rng.uniform(-1.5, 1.5, _UNITS)

    def draw(size: int) -> np.ndarray:
        return mean + rng.standard_normal((size, _UNITS)) @ factor.T

    return JointMoments(mean[np.newaxis], cov[np.newaxis]), draw
