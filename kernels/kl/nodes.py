"""Number of nodes that a law's Gauss rule needs for KL from a prior.

A rule of n nodes integrates f(µ + σz) to an error that falls like r^−2n, where r grows with the
distance between the law's reach and the singularities of f in units of σ. That distance is least
for the widest weights, and for those whose mean lies near the singularities (with a device-shaped
prior: whose end lies near its end). For such posteriors the plain rule of
`refbnn.training.kl.kl.by_quadrature` is held against the panels of
`refbnn.training.kl.kl.divergence`, both in float64, with more and more nodes until it is good to
`TRUNCATION` of the terms that are added up.

Nodes by the widest σ, in units of the feature (s of Student's t with three degrees of freedom; s₂
of a mixture of s₁ = 10 s₂ and s₂ in equal shares), for the Gaussian law, and after the stroke for a
law on a bounded support, `DeviceLaw(1, −½, (0.3,))`:

    σ                   0.1      0.3      1          2          3          5
    Student's t         4 | 4    6 | 6    24 | 12    – | 24     – | 32     – | 48
    scale mixture       4 | 4    8 | 6    48 | 16    – | 32     – | 48     – | –

A dash means that 64 are too few. Nodes that carry less than 1e-9 of E[z²] are left out: of the 48,
29 are kept. For a device-shaped prior it is not σ that matters, but the distance between the ends:
at least a twentieth of the posterior's length (`GAP`), which takes 16 nodes.
"""

from __future__ import annotations

import numpy as np

from refbnn.errors import InputError
from refbnn.layers.posterior import Posterior
from refbnn.noise import Law
from refbnn.numerics.quadrature import Rule
from refbnn.prior import DevicePrior, ScaleMixturePrior, StudentTPrior
from refbnn.training.kl import kl
from refbnn.training.kl.forms import loop_form
from refbnn.training.kl.loops import MIXTURE

NodesPrior = StudentTPrior | ScaleMixturePrior | DevicePrior

TRUNCATION = 5e-6  # half of 1e-5; roundings take the other half
GAP = 0.05  # least distance of a posterior's end from the prior's singular one, per length
_COUNTS = (4, 6, 8, 12, 16, 24, 32, 48, 64)
_NEGLIGIBLE = 1e-9  # share of E[z²]


def choose(law: Law, prior: NodesPrior, widest: float) -> Rule:
    """Choose the smallest rule that is good enough for all scales up to the widest.

    Parameters
    ----------
    law : Law
    prior : NodesPrior
    widest : float
        Largest σ.

    Raises
    ------
    InputError
        If 64 nodes are too few.
    """
    error = np.inf
    for n in _COUNTS:
        rule = pruned(law.quadrature(n))
        error = truncation(rule, law, prior, widest)
        if error <= TRUNCATION:
            return rule
    raise InputError(
        f"KL from {prior!r}: scales up to {widest:g} are too wide for {_COUNTS[-1]} nodes, which "
        f"leave an error of {error:.1g}; expected {TRUNCATION:g} or less"
    )


def pruned(rule: Rule) -> Rule:
    """Leave out the outermost nodes, which together carry a negligible share of E[z²]."""
    share = rule.weights * np.maximum(1.0, np.square(rule.nodes))
    order = np.argsort(share)
    kept = np.sort(order[np.cumsum(share[order]) > _NEGLIGIBLE])
    return Rule(rule.nodes[kept], rule.weights[kept])


def truncation(rule: Rule, law: Law, prior: NodesPrior, widest: float) -> float:
    """Largest error of value and derivatives, relative to the largest of the terms of each."""
    weights = worst_posteriors(law, prior, widest)
    by_rule = kl.by_quadrature(weights, prior, law.entropy, rule)
    exact = kl.divergence({"weights": weights}, law, prior)["weights"]
    pairs = (
        (by_rule.value, exact.value),
        (by_rule.d_mean, exact.d_mean),
        (by_rule.d_scale, exact.d_scale),
    )
    sizes = terms(rule, law, prior, weights)
    errors = [np.abs(a - b) for a, b in pairs]
    return max(map(_largest_ratio, errors, sizes))


def _largest_ratio(error, size) -> float:
    """Largest ratio of error to size; 0/0, as of the score of a uniform prior, counts as 0."""
    none = np.where(error > 0.0, np.inf, 0.0)
    return float(np.max(np.divide(error, size, out=none, where=size > 0.0)))


def terms(rule: Rule, law: Law, prior: NodesPrior, weights: Posterior) -> list[np.ndarray]:
    """Largest term of the value, of ∂KL/∂µ and of ∂KL/∂σ, each of the weights' shape."""
    theta = weights.mean[..., np.newaxis] + weights.scale[..., np.newaxis] * rule.nodes
    score = np.abs(prior.score(theta))
    log_p = np.abs(prior.log_pdf(theta)) @ rule.weights
    value = np.maximum(np.maximum(abs(law.entropy), np.abs(np.log(weights.scale))), log_p)
    d_scale = (score * np.abs(rule.nodes)) @ rule.weights
    return [value, score @ rule.weights, np.maximum(1.0 / weights.scale, d_scale)]


def worst_posteriors(law: Law, prior: NodesPrior, widest: float) -> Posterior:
    """Posteriors for which the rule is at its worst: six octaves of σ, means from end to end."""
    scales = widest * 2.0 ** -np.arange(7.0)
    at = np.linspace(-1.0, 1.0, 121)
    if isinstance(prior, DevicePrior):
        low, high = law.support
        gap = least_gap(law)
        room = gap * scales
        first = prior.support[0] + room - scales * low
        last = prior.support[1] - room - scales * high
        fits = first <= last
        if not fits.all():
            raise InputError(
                f"KL from {prior!r}: a scale of {widest:g} reaches too near its ends; expected "
                f"at most {(prior.support[1] - prior.support[0]) / (high - low + 2.0 * gap):.6g}"
            )
        mean = 0.5 * (first + last)[:, np.newaxis] + 0.5 * (last - first)[:, np.newaxis] * at
    else:
        form = loop_form(prior)
        # Real part of the singularity of f that is nearest to the real axis.
        real = form.parameters[2] if form.kind == MIXTURE else 0.0
        mean = (real + 8.0 * scales)[:, np.newaxis] * at
    return Posterior(mean, np.broadcast_to(scales[:, np.newaxis], mean.shape))


def require_distance(mean: np.ndarray, scale: np.ndarray, law: Law, prior: DevicePrior) -> None:
    """Raise InputError where a posterior's end comes nearer to the prior's than `least_gap`."""
    low, high = law.support
    room = least_gap(law) * scale
    first, last = mean + scale * low - room, mean + scale * high + room
    prior_low, prior_high = prior.support
    outside = ~((first >= prior_low) & (last <= prior_high))
    if outside.any():
        at = int(np.argmax(outside))
        raise InputError(
            f"KL: weight {at} has mean {mean[at]:.6g} and scale {scale[at]:.6g}; expected its ends "
            f"within [{prior_low:.6g}, {prior_high:.6g}] by {least_gap(law):.3g} of the scale"
        )


def least_gap(law: Law) -> float:
    """Least distance from the ends of a device-shaped prior, in units of σ."""
    low, high = law.support
    return GAP * (high - low)
