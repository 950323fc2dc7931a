"""Three ways to compute an inverse CDF, and the exact probability to judge them by.

Each way gives d(side, u), the distance from the lower (side 0) or the upper (side 1) edge within
which the probability u lies. The value x = a + d itself would round away, at a singular edge, what
u says.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev
from scipy.stats.sampling import NumericalInversePolynomial

from refbnn.noise import DeviceLaw
from refbnn.numerics.inverse_cdf import Pieces
from refbnn.numerics.quadrature import gauss_jacobi, jacobi_log_total

_NODES = 40  # of a Gauss–Jacobi rule

Distance = Callable[[int, np.ndarray], np.ndarray]  # side, probability from that edge -> d


@dataclass(frozen=True, eq=False)
class Way:
    """One way: d(side, u), its slope dd/du where known, and draw(rng, n) for sampled values."""

    distance: Distance
    draw: Callable[[np.random.Generator, int], np.ndarray]
    slope: Distance | None = None


class Exact:
    """Density and probability by the distance d from an edge, in the formula's own terms.

    With t = s·d on [0, 2], α and g as seen from that edge: q = s t^α (2 − t)^β e^g/Z, and
    Q = t^(α+1)/(α + 1) Σ_i w_i (2 − tᵢ)^β e^g(tᵢ)/Z over Gauss–Jacobi points tᵢ of [0, t].
    """

    def __init__(self, law: DeviceLaw):
        self.scale = law.location[1]
        self.width = 2.0 / self.scale
        self._series = np.array([0.0, *law.coefficients])
        self._exponents = law.exponents
        rule = gauss_jacobi(_NODES, law.beta, law.alpha)
        mean = rule.expect(np.exp(chebyshev.chebval(rule.nodes, self._series)))
        self.total = mean * np.exp(jacobi_log_total(law.beta, law.alpha))

    def log_density(self, side: int, d: np.ndarray) -> np.ndarray:
        """Log q at d from the edge."""
        t = self.scale * d
        alpha, rest = self._exponents[side], self._rest(side, t)
        return alpha * np.log(t) + rest + np.log(self.scale / self.total)

    def probability(self, side: int, d: np.ndarray) -> np.ndarray:
        """Probability within d ≥ 0 of the edge, for d up to nine tenths of the support."""
        alpha = self._exponents[side]
        t = np.minimum(self.scale * d[:, np.newaxis], 1.8)
        rule = gauss_jacobi(_NODES, 0.0, alpha)
        inner = np.exp(self._rest(side, 0.5 * t * (1.0 + rule.nodes))) @ rule.weights
        return t[:, 0] ** (alpha + 1.0) / (alpha + 1.0) * inner / self.total

    def _rest(self, side, t):
        """β log(2 − t) + g."""
        y = t - 1.0 if side == 0 else 1.0 - t
        beta = self._exponents[1 - side]
        return (beta * np.log(2.0 - t) if beta else 0.0) + chebyshev.chebval(y, self._series)


def by_pieces(law: DeviceLaw) -> Way:
    """The pieces of `refbnn.numerics.inverse_cdf`, with both edges factored out."""
    inverse = law.inverse
    ends = law.support

    def both(side, u):
        power = inverse.powers[side]
        s = u**power
        p, slope = _pieces(inverse.tails[side], s)
        u_low = u if side == 0 else 1.0 - u
        x, rate = law.icdf(u_low), _pieces(inverse.bulk, u_low)[1]
        tail = u < (inverse.bulk.breaks[0] if side == 0 else 1.0 - inverse.bulk.breaks[-1])
        d = np.where(tail, s * p, x - ends[0] if side == 0 else ends[1] - x)
        return d, np.where(tail, (p + s * slope) * power * s / u, rate)

    return Way(
        lambda side, u: both(side, u)[0],
        lambda rng, n: law.sample(rng, (n,)),
        lambda side, u: both(side, u)[1],
    )


def _pieces(pieces: Pieces, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value and slope of a piecewise polynomial, with x clipped to its range."""
    last = pieces.slopes.size - 1
    i = np.clip(np.searchsorted(pieces.breaks, x, side="right") - 1, 0, last)
    t = np.clip((x - pieces.breaks[i]) * pieces.slopes[i] - 1.0, -1.0, 1.0)
    powers = np.arange(pieces.coefficients.shape[1])
    rows = pieces.coefficients[i]
    value = np.sum(rows * t[:, np.newaxis] ** powers, axis=1)
    slope = np.sum(rows[:, 1:] * powers[1:] * t[:, np.newaxis] ** powers[:-1], axis=1)
    return value, slope * pieces.slopes[i]


def uncorrected(law: DeviceLaw, size: int) -> Way:
    """The Chebyshev interpolant of G over u in [0, 1], with `size` coefficients."""
    fit = chebyshev.Chebyshev.interpolate(law.icdf, size - 1, (0.0, 1.0))
    slope = fit.deriv()
    low, high = law.support
    return Way(
        lambda side, u: fit(u) - low if side == 0 else high - fit(1.0 - u),
        lambda rng, n: fit(rng.random(n)),
        lambda side, u: slope(u if side == 0 else 1.0 - u),
    )


def by_scipy(law: DeviceLaw, low: float, resolution: float) -> Way:
    """SciPy's sampler, set up for the law with its lower edge moved to `low`."""
    sampler = scipy_sampler(law, low, resolution)
    shift = law.support[0] - low
    high = law.support[1] - shift
    return Way(
        lambda side, u: sampler.ppf(u) - low if side == 0 else high - sampler.ppf(1.0 - u),
        lambda rng, n: shift + sampler.rvs(n, random_state=rng),
    )


def scipy_sampler(law: DeviceLaw, low: float, resolution: float) -> NumericalInversePolynomial:
    """SciPy's own object for values of low + d."""
    scale = law.location[1]
    width = 2.0 / scale
    nearest = scale * max(0.5 * float(np.spacing(abs(low))), 1e-300)  # singular edges stay finite
    g = chebyshev.cheb2poly([0.0, *law.coefficients])[::-1].tolist()

    class Moved:
        def logpdf(self, x):
            t = min(max(scale * (x - low), nearest), 2.0 - 2.0**-52)
            value = 0.0
            for c in g:
                value = value * (t - 1.0) + c
            return value + law.alpha * math.log(t) + law.beta * math.log(2.0 - t)

        def support(self):
            return low, low + width

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy warns of rounding, which the figure shows
        return NumericalInversePolynomial(
            Moved(), center=low + 0.5 * width, u_resolution=resolution
        )
