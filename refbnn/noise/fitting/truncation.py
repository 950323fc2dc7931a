"""Laws on the whole line, cut to the physical bounds of what was measured.

Formula
-------
With P = F(b) − F(a) the probability that a law leaves within the bounds [a, b], the cut law has

    density f(G)/P,   distribution function (F(G) − F(a))/P,   quantiles F⁻¹(F(a) + u P)

on [a, b]: the law of G given that it lies within. It is resolved into panels from its own density
(`refbnn.noise.families.density.DensityLaw`), so density, quantiles, moments, entropy and rules are
those of one law; an infinite bound becomes the end of `Law.reach`, beyond which 1e-20 remain.

The parameters are the most likely ones of the law before the cut, and the log-likelihood is that of
the cut law, ℓ − n log P. For P near 1 the difference is of second order in 1 − P. Families that
leave more than 1 % outside are not cut but left out: their parameters would be wrong after the cut.
Below 2⁻⁵³, the least probability a uniform number of 53 bits can take, nothing is cut: no draw by
inversion shows it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from refbnn.errors import InputError
from refbnn.noise.families.density import DensityLaw
from refbnn.noise.fitting.estimate import Estimate
from refbnn.noise.fitting.placing import Placed
from refbnn.noise.fitting.sample import inside

MOST_OUTSIDE = 0.01
_UNSEEN = 2.0**-53
_WRONG = 1e-9  # of the distribution function: panels that missed a part

Bounds = tuple[float, float]


def outside(placed: Placed, bounds: Bounds) -> float:
    """Probability that a law leaves outside the bounds."""
    low, high = (np.array(end) for end in bounds)
    return float(placed.cdf(low) + (1.0 - placed.cdf(high)))


def truncated(placed: Placed, bounds: Bounds) -> Placed:
    """Cut a law to the bounds; a law that keeps them stays as it is.

    Raises
    ------
    InputError
        If the law is too sharp for its panels.
    """
    law, location, scale = placed
    low, high = inside(bounds, location, scale)
    ends = np.array([(low - location) / scale, (high - location) / scale])
    support = np.array(law.support)
    if outside(placed, bounds) <= _UNSEEN or (ends[0] <= support[0] and support[1] <= ends[1]):
        return placed
    a, b = float(max(ends[0], law.reach[0])), float(min(ends[1], law.reach[1]))
    peak = float(np.max(law.log_pdf(np.clip(law.icdf(np.linspace(0.01, 0.99, 99)), a, b))))
    cut = DensityLaw.of(lambda z: np.exp(law.log_pdf(z) - peak), a, b)
    m, s = cut.location
    z = np.linspace(a, b, 33)
    q = law.cdf(np.append(z, law.icdf(np.linspace(0.05, 0.95, 19)).clip(a, b)))
    z = np.append(z, law.icdf(np.linspace(0.05, 0.95, 19)).clip(a, b))
    expected = (q - q[0]) / (q[32] - q[0])
    if np.abs(cut.cdf((z - a - m) / s) - expected).max() > _WRONG:
        raise InputError("fit: panels miss a part of a law that is cut to its bounds")
    return Placed(cut, location + scale * (a + m), scale * s)


def cut_to_bounds(estimate: Estimate, bounds: Bounds, n: int) -> Estimate:
    """Cut the law of a fit to n values to the bounds; one that keeps them stays as it is."""
    missed = outside(estimate.placed, bounds)
    if missed <= _UNSEEN:
        return estimate

    def distribution(theta, values):
        whole = estimate.place(theta)
        low, high = (whole.cdf(np.array(end)) for end in bounds)
        return (whole.cdf(np.clip(values, *bounds)) - low) / (high - low)

    return replace(
        estimate,
        place=lambda theta: truncated(estimate.place(theta), bounds),
        distribution=distribution,
        log_likelihood=estimate.log_likelihood - n * float(np.log1p(-missed)),
        cut=missed,
    )
