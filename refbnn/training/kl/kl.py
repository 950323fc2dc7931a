"""KL divergence of a posterior weight from its prior, and its gradient.

Formulas
--------
θ = µ + σ z, with z from a standardised law q₀ of entropy H = −E[log q₀(z)]. The density of θ is
q₀((θ − µ)/σ)/σ, so

    KL(q‖p) = −H − log σ − E[log p(µ + σz)],
    ∂KL/∂µ = −E[s_p(µ + σz)],      ∂KL/∂σ = −1/σ − E[z·s_p(µ + σz)],      s_p = (log p)′.

*Gaussian prior* N(0, s²): log p is a polynomial of degree 2, so the law enters through its entropy
alone (E[z] = 0, E[z²] = 1):

    KL = −H − log σ + ½ log(2πs²) + (µ² + σ²)/(2s²).

*Laplace prior*: θ > 0 where z > t = −µ/σ. With Q(t) = P(z ≤ t) and M(t) = E[z; z ≤ t],

    E|θ| = E[θ] − 2E[θ; θ ≤ 0] = µ(1 − 2Q) − 2σM,      ∂/∂µ = 1 − 2Q,      ∂/∂σ = −2M

(the terms from moving t vanish, since θ = 0 there).

*Other priors*: log p is a polynomial plus functions with known singularities, whose expectations
are sums over the panels of `refbnn.training.kl.adaptive_rules`, in the loops of
`refbnn.training.kl.loops`.

Source: arXiv 2501.05564, sections 3.1 and 3.1.2, for the device-shaped posterior.

Range
-----
The error is at most 1e-10 for every law and prior, relative to the largest of the terms that are
added: −H, log σ, E|log p|; E|s_p|; 1/σ, E|z s_p|. Near a singular end of a device-shaped prior, the
gap between posterior and prior carries the rounding error of both ends, 1e-16 of their size, and
KL with it. At a gap of some 1e-9 of the scale KL is refused, unless the posterior's own density
vanishes fast enough there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit

from refbnn.errors import InputError
from refbnn.layers.posterior import Posterior
from refbnn.network.layout import Layout
from refbnn.noise.law import Law
from refbnn.numerics.quadrature import Rule
from refbnn.prior import DevicePrior, GaussianPrior, LaplacePrior, Prior
from refbnn.training.kl import loops as kl_loops
from refbnn.training.kl.adaptive_rules import LawTree
from refbnn.training.kl.forms import PanelPrior, loop_form


@dataclass(frozen=True, eq=False)
class Divergence:
    """KL of every weight of an array in nats, and its derivatives in µ and σ, in its shape."""

    value: np.ndarray
    d_mean: np.ndarray
    d_scale: np.ndarray


def divergence(
    posteriors: Mapping[str, Posterior], law: Law, prior: Prior
) -> dict[str, Divergence]:
    """Compute KL of every weight array by name; a value that overflows is infinite.

    Raises
    ------
    InputError
        If a scale is zero or a weight reaches beyond a device-shaped prior, so that KL is infinite;
        if the prior has features too narrow for the posterior; or if a sum overflows to NaN.
    """
    result = {}
    for name, posterior in posteriors.items():
        with np.errstate(over="ignore", invalid="ignore"):
            d = _divergence(posterior, law, prior, name)
        if any(np.isnan(part).any() for part in (d.value, d.d_mean, d.d_scale)):
            raise InputError(f"KL of {name!r} overflows; expected means and scales of usual size")
        result[name] = d
    return result


def add_total(
    mean: np.ndarray,
    scale: np.ndarray,
    law: Law,
    prior: Prior,
    weight: float,
    grads: Mapping[str, np.ndarray],
    layout: Layout,
) -> float:
    """Return KL of all weights in nats; add `weight` times its derivatives to gradients in place.

    A Gaussian prior takes one pass over the flat arrays; for others float32 is computed in float64.
    Errors are those of `divergence`.

    Parameters
    ----------
    mean, scale : (P,), float32 or float64
    law, prior
    weight : float
        Factor of the derivatives; KL is returned in full.
    grads : mapping
        "mean" and "scale", (P,).
    layout : Layout
        Names and places of the weights, for errors.
    """
    if isinstance(prior, GaussianPrior):
        s, number = prior.scale, mean.dtype.type
        squares = _add_gaussian(
            mean, scale, number(s**-2), number(weight), grads["mean"], grads["scale"]
        )
        constant = 0.5 * np.log(2.0 * np.pi * s**2) - law.entropy
        with np.errstate(divide="ignore"):  # a scale that has become 0: infinite
            logs = float(np.log(scale).sum(dtype=float))
        return constant * mean.size + squares / (2.0 * s**2) - logs
    means, scales = layout.views(mean.astype(float)), layout.views(scale.astype(float))
    named = divergence({n: Posterior(means[n], scales[n]) for n in means}, law, prior)
    grads["mean"] += weight * layout.flatten({n: d.d_mean for n, d in named.items()})
    grads["scale"] += weight * layout.flatten({n: d.d_scale for n, d in named.items()})
    return sum(float(d.value.sum()) for d in named.values())


@njit(cache=True, fastmath={"contract", "reassoc"}, error_model="numpy")
def _add_gaussian(mean, scale, precision, weight, grad_mean, grad_scale):
    """Add both derivatives of `closed_form`; return Σ(µ² + σ²) in double precision."""
    squares = 0.0
    one = mean.dtype.type(1)
    for i in range(mean.size):
        squares += mean[i] * mean[i] + scale[i] * scale[i]
        grad_mean[i] += weight * mean[i] * precision
        grad_scale[i] += weight * (scale[i] * precision - one / scale[i])
    return squares


def _divergence(posterior: Posterior, law: Law, prior: Prior, name: str) -> Divergence:
    if isinstance(prior, GaussianPrior):
        return closed_form(posterior, prior, law.entropy)
    if isinstance(prior, LaplacePrior):
        return _laplace(posterior, law, prior)
    if isinstance(prior, PanelPrior):
        return _by_panels(posterior, law, prior, name)
    raise InputError(f"KL: the prior is {prior!r}; expected one of refbnn.prior")


def closed_form(posterior: Posterior, prior: GaussianPrior, entropy: float) -> Divergence:
    """KL for a Gaussian prior and a law of this entropy."""
    _require_positive_scale(posterior)
    mu, sigma, s = posterior.mean, posterior.scale, prior.scale
    constant = -entropy + 0.5 * np.log(2.0 * np.pi * s**2)
    value = constant - np.log(sigma) + (mu**2 + sigma**2) / (2.0 * s**2)
    return Divergence(value, mu / s**2, sigma / s**2 - 1.0 / sigma)


def by_quadrature(posterior: Posterior, prior: Prior, entropy: float, rule: Rule) -> Divergence:
    """KL from one Gauss rule of the law for all weights, whose entropy is H.

    The error falls slowly with the number of nodes where σ is not small against the prior's
    features: a kink, or a singularity off the real axis.
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


def _laplace(posterior: Posterior, law: Law, prior: LaplacePrior) -> Divergence:
    _require_positive_scale(posterior)
    mu, sigma, b = posterior.mean, posterior.scale, prior.scale
    t = -mu / sigma
    balance = 1.0 - 2.0 * law.cdf(t)
    spread = -2.0 * law.partial_mean(t)
    value = np.log(2.0 * b) - law.entropy - np.log(sigma) + (mu * balance + sigma * spread) / b
    return Divergence(value, balance / b, spread / b - 1.0 / sigma)


def _by_panels(posterior: Posterior, law: Law, prior: PanelPrior, name: str) -> Divergence:
    _require_positive_scale(posterior)
    if isinstance(prior, DevicePrior):
        _require_covered(posterior, law, prior, name)
    mu, sigma = posterior.mean.ravel(), posterior.scale.ravel()
    tree = _tree(law)  # type: ignore[arg-type]  # every law is a frozen dataclass
    expectations, unresolved = kl_loops.expectations(loop_form(prior), tree, mu, sigma)
    if unresolved.size:
        at = np.unravel_index(unresolved[0], posterior.shape)
        expected = (
            f"more than rounding between it and the singular ends of the prior, {prior.support}"
            if isinstance(prior, DevicePrior)
            else "a prior whose features are wider than a thousandth of the scale"
        )
        raise InputError(
            f"KL: {_describe(name, at)} has mean {posterior.mean[at]:.6g} and scale "
            f"{posterior.scale[at]:.6g}; expected {expected}"
        )
    log_p, s_p, z_s_p = expectations.reshape(3, *posterior.shape)
    value = -law.entropy - np.log(posterior.scale) - log_p
    return Divergence(value, -s_p, -1.0 / posterior.scale - z_s_p)


@lru_cache(maxsize=8)
def _tree(law: Law) -> LawTree:
    """Keep one tree for each law: priors share its panels, and training makes them once."""
    return LawTree(law)


def _require_covered(posterior: Posterior, law: Law, prior: DevicePrior, name: str) -> None:
    """Raise InputError where a weight can leave the support of the prior: KL is infinite."""
    low, high = (posterior.mean + posterior.scale * end for end in law.support)
    prior_low, prior_high = prior.support
    outside = ~((low >= prior_low) & (high <= prior_high))
    if outside.any():
        at = tuple(np.argwhere(outside)[0])
        raise InputError(
            f"KL: {_describe(name, at)} covers [{low[at]:.6g}, {high[at]:.6g}], so KL is infinite; "
            f"expected within the prior's [{prior_low:.6g}, {prior_high:.6g}]"
        )


def _describe(name: str, at: tuple) -> str:
    return f"weight {[int(i) for i in at]} of {name!r}"


def _require_positive_scale(posterior: Posterior) -> None:
    if not (posterior.scale > 0.0).all():
        raise InputError("KL: a weight has scale 0, so KL is infinite; expected scales above 0")
