"""KL against its definition E_q[log q(θ) − log p(θ)], by Monte Carlo."""

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
from verification.check import Check, MomentEstimate, against_monte_carlo, blocks

_PRIORS: dict[str, Prior] = {
    "Gaussian prior": GaussianPrior(0.3),
    "Laplace prior": LaplacePrior(0.2),
    "Student-t prior": StudentTPrior(3.0, 0.3),
    "scale-mixture prior": ScaleMixturePrior(0.5, 1.0, 0.1),
}
# Vanishing at one end, singular at the other.
_DEVICE = DeviceLaw(1.0, -0.5, (0.3,))
# The first weight's posterior is its Gaussian prior but for the law's shape. All straddle 0, where
# a Laplace prior has its kink: a sign that is seldom seen makes no normal mean.
_WEIGHTS = Posterior(np.array([0.0, 0.05, -0.2, 0.8]), np.array([0.3, 0.05, 0.2, 1.0]))


def check(label: str, law: Law, n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Value and both derivatives, for four weights under each prior, as training computes them."""
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
    """A prior whose support is a quarter longer than what all weights cover, about its middle."""
    a, b = law.support
    low = float((_WEIGHTS.mean + _WEIGHTS.scale * a).min())
    high = float((_WEIGHTS.mean + _WEIGHTS.scale * b).max())
    prior_low, prior_high = _DEVICE.support
    scale = 1.25 * (high - low) / (prior_high - prior_low)
    return DevicePrior(_DEVICE, 0.5 * (low + high - scale * (prior_low + prior_high)), scale)


def _check_claim(title, claim: kl.Divergence, law, prior, n_samples, rng) -> Check:
    claimed = np.stack([claim.value, claim.d_mean, claim.d_scale])
    estimate = MomentEstimate(claimed)
    mu, sigma = _WEIGHTS.mean, _WEIGHTS.scale
    for size in blocks(n_samples):
        z = law.sample(rng, (size, mu.size))
        theta = mu + sigma * z
        # The derivatives at fixed z: log q(θ) = log q₀(z) − log σ depends on σ alone.
        score = prior.score(theta)
        value = law.log_pdf(z) - np.log(sigma) - prior.log_pdf(theta)
        estimate.add(np.stack([value, -score, -1.0 / sigma - z * score], axis=1))
    (mean, _), (error, _) = estimate.result()
    return against_monte_carlo(
        title,
        "KL, ∂KL/∂µ, ∂KL/∂σ against means of their definitions over samples",
        claimed,
        mean,
        error,
        n_samples,
    )
