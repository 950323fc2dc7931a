"""KL by quadrature against its definition E_q[log q(θ) − log p(θ)], by Monte Carlo."""

from __future__ import annotations

import numpy as np

from refbnn import kl
from refbnn.noise import Law
from refbnn.posterior import Posterior
from refbnn.prior import GaussianPrior, Prior, StudentTPrior
from verification.check import Check, MomentEstimate, against_monte_carlo, blocks

_PRIORS: dict[str, Prior] = {
    "Gaussian prior": GaussianPrior(0.3),
    "Student-t prior": StudentTPrior(),
}
# The first weight's posterior is its Gaussian prior but for the law's shape.
_WEIGHTS = Posterior(np.array([0.0, 0.2, -0.5, 1.5]), np.array([0.3, 0.05, 0.2, 0.1]))


def check(label: str, law: Law, n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Value and both derivatives, for four weights under each prior, as training uses them too."""
    rule = law.quadrature(kl.DEFAULT_NODES)
    checks = []
    for name, prior in _PRIORS.items():
        claim = kl.by_quadrature(_WEIGHTS, prior, law.entropy, rule)
        title = f"quadrature KL ({label}, {name})"
        checks.append(_check_claim(title, claim, law, prior, n_samples, rng))
    (name, prior), *_ = _PRIORS.items()
    claim = kl.divergence({"weights": _WEIGHTS}, law, prior)["weights"]
    title = f"KL in training ({label}, {name})"
    checks.append(_check_claim(title, claim, law, prior, n_samples, rng))
    return checks


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
