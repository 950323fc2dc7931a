"""KL divergence of a posterior weight from its prior, and its gradient.

Formulas
--------
θ = µ + σ z, z from a standardised law q₀ with entropy H = −E[log q₀(z)]. The density of θ is
q₀((θ − µ)/σ)/σ, so

    KL(q‖p) = −H − log σ − E[log p(µ + σz)],
    ∂KL/∂µ = −E[s_p(µ + σz)],      ∂KL/∂σ = −1/σ − E[z·s_p(µ + σz)],      s_p = (log p)′,

with expectations by the n-node Gauss rule of the law. For the prior N(0, s²), log p is a polynomial
of degree 2 and the law enters through its entropy alone (E[z] = 0, E[z²] = 1):

    KL = −H − log σ + ½ log(2πs²) + (µ² + σ²)/(2s²).

Source: arXiv 2501.05564, sections 3.1 and 3.1.2, for the device-shaped case.

Range
-----
Exact to rounding for a Gaussian prior. For Student's t the integrand has poles √ν·s off the real
axis in θ: 1e-10 with 32 nodes while σ ≤ √ν·s/3, worse as σ grows against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from refbnn.errors import InputError
from refbnn.noise.law import Law
from refbnn.posterior import Posterior
from refbnn.prior import GaussianPrior, Prior
from refbnn.quadrature import Rule

DEFAULT_NODES = 32


@dataclass(frozen=True)
class Divergence:
    """KL of every weight of an array in nats, and its derivatives; all of the array's shape."""

    value: np.ndarray
    d_mean: np.ndarray
    d_scale: np.ndarray


def by_quadrature(posterior: Posterior, prior: Prior, entropy: float, rule: Rule) -> Divergence:
    """KL for any prior: a sum over the nodes, each vectorised over all weights.

    Parameters
    ----------
    posterior : Posterior
        Means and scales > 0 of an array of weights.
    prior : Prior
    entropy : float
        H of the law.
    rule : Rule
        Gauss rule of the law.

    Raises
    ------
    InputError
        If a scale is zero: the divergence is infinite.
    """
    _require_positive_scale(posterior)
    mu, sigma = posterior.mean, posterior.scale
    value = -entropy - np.log(sigma)
    d_mean, d_scale = np.zeros_like(mu), -1.0 / sigma
    for z, weight in zip(rule.nodes, rule.weights, strict=True):
        theta = mu + sigma * z
        score = weight * prior.score(theta)
        value -= weight * prior.log_pdf(theta)
        d_mean -= score
        d_scale -= z * score
    return Divergence(value, d_mean, d_scale)


def closed_form(posterior: Posterior, prior: GaussianPrior, entropy: float) -> Divergence:
    """KL for a Gaussian prior; parameters and errors as `by_quadrature`."""
    _require_positive_scale(posterior)
    mu, sigma, s = posterior.mean, posterior.scale, prior.scale
    constant = -entropy + 0.5 * np.log(2.0 * np.pi * s**2)
    value = constant - np.log(sigma) + (mu**2 + sigma**2) / (2.0 * s**2)
    return Divergence(value, mu / s**2, sigma / s**2 - 1.0 / sigma)


def divergence(
    posteriors: Mapping[str, Posterior], law: Law, prior: Prior
) -> dict[str, Divergence]:
    """KL of every weight array by name: the closed form where there is one, else quadrature."""
    if isinstance(prior, GaussianPrior):
        return {name: closed_form(p, prior, law.entropy) for name, p in posteriors.items()}
    rule = law.quadrature(DEFAULT_NODES)
    return {name: by_quadrature(p, prior, law.entropy, rule) for name, p in posteriors.items()}


def _require_positive_scale(posterior: Posterior) -> None:
    if not (posterior.scale > 0.0).all():
        raise InputError("KL: a weight has scale 0, so KL is infinite; expected scales above 0")
