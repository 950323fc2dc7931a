"""KL and its gradients, compared with their definitions by Monte Carlo.

Hypothesis: `refbnn.training.kl.kl.divergence` returns KL = E_q[log q(θ) − log p(θ)] and its
derivatives in µ and σ. With θ = µ + σz and q₀ the law, log q(θ) = log q₀(z) − log σ, so at fixed z
the derivatives are −E[s] and −1/σ − E[z s], s the score of the prior. Estimator: the means of these
terms over samples of z. Sample size and error model: see `verification.check`.
"""

from __future__ import annotations

import numpy as np

from refbnn.layers.posterior import Posterior
from refbnn.noise import DeviceLaw, Law
from refbnn.prior import (
    DevicePrior,
    GaussianPrior,
    LaplacePrior,
    Prior,
    ScaleMixturePrior,
    StudentTPrior,
)
from refbnn.training.kl import kl
from verification.check import Check, of_expectations

_PRIORS: dict[str, Prior] = {
    "Gaussian prior": GaussianPrior(0.3),
    "Laplace prior": LaplacePrior(0.2),
    "Student-t prior": StudentTPrior(3.0, 0.3),
    "scale-mixture prior": ScaleMixturePrior(0.5, 1.0, 0.1),
}
# Vanishing at one end, singular at the other.
_DEVICE = DeviceLaw(1.0, -0.5, (0.3,))
# The first weight's posterior equals its Gaussian prior but for the law's shape. All have mass on
# both sides of 0, the kink of a Laplace prior: the mean of a sign that seldom occurs is not normal.
_WEIGHTS = Posterior(np.array([0.0, 0.05, -0.2, 0.8]), np.array([0.3, 0.05, 0.2, 1.0]))


def check(label: str, law: Law, n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check the value and both derivatives for four weights under each prior."""
    priors = dict(_PRIORS)
    if np.isfinite(law.support).all():  # else KL from a bounded prior is infinite
        priors["device-shaped prior"] = _covering_prior(law)
    checks = []
    for name, prior in priors.items():
        claim = kl.divergence({"weights": _WEIGHTS}, law, prior)["weights"]
        title = f"KL ({label}, {name})"
        checks.append(_check_claim(title, claim, law, prior, n_samples, rng))
    return checks


def _covering_prior(law: Law) -> DevicePrior:
    """Return a prior whose support is centred on that of all weights and a quarter longer."""
    a, b = law.support
    low = float((_WEIGHTS.mean + _WEIGHTS.scale * a).min())
    high = float((_WEIGHTS.mean + _WEIGHTS.scale * b).max())
    prior_low, prior_high = _DEVICE.support
    scale = 1.25 * (high - low) / (prior_high - prior_low)
    return DevicePrior(_DEVICE, 0.5 * (low + high - scale * (prior_low + prior_high)), scale)


def _check_claim(title, claim: kl.Divergence, law, prior, n_samples, rng) -> Check:
    mu, sigma = _WEIGHTS.mean, _WEIGHTS.scale

    def draw(size: int) -> np.ndarray:
        z = law.sample(rng, (size, mu.size))
        theta = mu + sigma * z
        score = prior.score(theta)
        value = law.log_pdf(z) - np.log(sigma) - prior.log_pdf(theta)
        return np.stack([value, -score, -1.0 / sigma - z * score], axis=1)

    return of_expectations(
        title,
        "KL, ∂KL/∂µ, ∂KL/∂σ against means of their definitions over samples",
        np.stack([claim.value, claim.d_mean, claim.d_scale]),
        draw,
        n_samples,
    )
