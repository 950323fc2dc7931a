"""A density resolved into panels from its end inwards, so that integrals of it are exact.

Formulas
--------
Seen from an edge, with t the distance to it, a density is t^α h(t) with h smooth, α > −1. Where it
has no edge but a far cut, t = 0 lies inside and the half begins at t < 0, with α = 0: inner numbers
are exact then, not those at the cut. The interval [start, stop] is halved until on each panel a
polynomial of degree 23 stands for the density to rounding: on the panel at the edge for h, on the
others for t^α h(t) itself (at the distance of its own length from the singularity, a panel's
polynomial converges as (3 + √8)^(−degree)).

The probability between the near end of a panel and t is the antiderivative of its polynomial. At
the edge it is

    ∫₀^t v^α h(v) dv = t^(α+1) H(t),      H(t) = ∫₀¹ w^α h(tw) dw,

with H smooth, from Gauss–Jacobi, so that a probability has *relative* accuracy down to the edge.

Sources: Chebyshev interpolation on adaptive pieces as in Trefethen, *Approximation Theory and
Approximation Practice*, 2013, chapters 8 and 19; the form H is derived above.

Range
-----
Rounding: 1e-15 of the local probability, times 1 + |log q|/4 where the density is far below its
peak, times 1 + c/4 where it is computed from terms of size c. A kink or a jump costs some fifty
panels and keeps absolute accuracy, 1e-17 of the total.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.polynomial import chebyshev, legendre

from refbnn.errors import InputError
from refbnn.numerics.halving import halved
from refbnn.numerics.quadrature import gauss_jacobi, golub_welsch, jacobi_log_total, stieltjes

MAX_RULE = 64  # greatest number of nodes of a Gauss rule of the whole law

DEGREE = 23
LEAST_LOG = -690.0  # of a density against its peak; e to this is near the least normal number

_NODES = chebyshev.chebpts1(DEGREE + 1)
_TO_SERIES = np.linalg.inv(chebyshev.chebvander(_NODES, DEGREE))
# Gauss nodes a panel: exact for the panel's polynomial times one of degree 2·MAX_RULE − 1.
_RULE_NODES = (DEGREE + 2 * MAX_RULE - 1) // 2 + 1
_ROUNDING = 1e-15
_NEGLIGIBLE = 1e-17  # of the total probability
_EVEN = 1.0 / 32.0
_MOST_FALL = 8.0  # of the log density on one panel
_START = 8  # panels before halving, so that a narrow feature is seen
_NARROW = 1e-6  # of the half
_MOST_PANELS = 4000


@dataclass(frozen=True, eq=False)
class Half:
    """One side of a density on K panels, seen from its end; t grows inwards."""

    exponent: float  # α
    breaks: np.ndarray  # (K + 1,): start = t₀ < … < t_K = stop, where start = 0 if α ≠ 0
    density: np.ndarray  # (K, 24): Chebyshev series of t^α h(t) on each panel; of h on the first
    # (K, 25): Chebyshev series of the integral from the near end of the panel to t; on the first
    # panel divided by (t − start)^(α+1).
    integral: np.ndarray
    before: np.ndarray  # (K + 1,): integral up to each break

    @property
    def start(self) -> float:
        """t at the end."""
        return float(self.breaks[0])

    @property
    def stop(self) -> float:
        """t where the half meets the other."""
        return float(self.breaks[-1])

    @property
    def total(self) -> float:
        """Integral over the half."""
        return float(self.before[-1])

    def integrated(self, t: np.ndarray) -> np.ndarray:
        """Integral of the density from the start to t; any shape, t is clipped to the half."""
        t = np.clip(np.asarray(t, dtype=float), self.start, self.stop)
        out = np.empty(t.size)
        _evaluate(t.ravel(), self.exponent + 1.0, self.breaks, self.integral, self.before, out)
        return out.reshape(t.shape)

    def scaled(self, factor: float) -> Half:
        """The half with its density times a factor."""
        return replace(
            self,
            density=factor * self.density,
            integral=factor * self.integral,
            before=factor * self.before,
        )

    def times(self, function: Callable[[np.ndarray], np.ndarray]) -> Half:
        """The half with its density times a smooth function of t, such as t itself."""
        points = _points(self.breaks[:-1], self.breaks[1:])
        values = chebyshev.chebval(_NODES, self.density.T) * function(points)
        return from_series(self.exponent, self.breaks, values @ _TO_SERIES.T)

    def rule(self) -> tuple[np.ndarray, np.ndarray]:
        """Points t (N,) and masses (N,): exact for the density times degree 2·64 − 1."""
        return self.nodes_between(self.breaks, _RULE_NODES)

    def nodes_between(self, breaks: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """n points t and masses on each interval of a refinement of the panels, flattened.

        Exact for the density times a polynomial of degree 2n − 24.
        """
        left, right = breaks[:-1], breaks[1:]
        panel = np.searchsorted(self.breaks, 0.5 * (left + right), side="right") - 1
        panel = np.clip(panel, 0, self.breaks.size - 2)
        x, w = legendre.leggauss(n)
        half = 0.5 * (right - left)[:, np.newaxis]
        t = left[:, np.newaxis] + half * (1.0 + x)
        mass = half * w * np.ones_like(t)
        if self.exponent != 0.0:  # the first one is at the edge: t^α belongs to the weight
            jacobi = gauss_jacobi(n, 0.0, self.exponent)
            t[0] = half[0] * (1.0 + jacobi.nodes)
            power = self.exponent + 1.0
            mass[0] = jacobi.weights * np.exp(
                power * np.log(half[0]) + jacobi_log_total(0.0, self.exponent)
            )
        inner = (panel == 0) & (left > self.start)
        mass[inner] *= t[inner] ** self.exponent
        near, far = self.breaks[panel, np.newaxis], self.breaks[panel + 1, np.newaxis]
        local = (2.0 * t - near - far) / (far - near)
        # Series of each interval's panel, all points of the interval at once.
        values = chebyshev.chebval(local.T, self.density[panel].T, tensor=False).T
        return t.ravel(), (mass * np.maximum(values, 0.0)).ravel()


def resolve(
    log_density: Callable[[np.ndarray], np.ndarray],
    exponent: float,
    start: float,
    stop: float,
    name: str,
    terms: float = 0.0,
    features: Collection[float] = (),
) -> Half:
    """Resolve the density exp(log_density(t)) on start < t ≤ stop, by halving panels.

    The log density maps arrays of any shape, and is at most 0 except at a singular edge; start = 0
    if the exponent α is not 0. `terms` is the size of the terms that it is summed from: the density
    then has a relative error of 1e-15·(1 + terms/4). First panels end at `features`: no peak
    between them is narrower than their distance. `name` is the law's, for errors.

    Raises
    ------
    InputError
        If halving panels does not resolve it: it does not integrate, or has a singularity that the
        exponent does not name.
    """
    inside = [t for t in features if start < t < stop]
    first = np.union1d(np.linspace(start, stop, _START + 1), inside)
    total = 0.0

    def fit(left, right):
        nonlocal total
        at_edge = left == start
        log_q = _log_values(log_density, _points(left, right), at_edge, exponent, name)
        with np.errstate(over="ignore"):
            values = np.exp(log_q)
        unresolved = np.abs((values @ _TO_SERIES.T)[:, -3:]).max(axis=1)
        greatest = values.max(axis=1)
        length = (right - left) ** np.where(at_edge, exponent + 1.0, 1.0)
        mass = length * greatest
        total = max(total, float(mass.max()))
        good = unresolved <= _allowed(log_q, terms) * greatest
        good &= _is_even(values, at_edge, exponent)
        good |= log_q.max(axis=1) <= LEAST_LOG
        # A kink or a jump is left on a panel so narrow that it does not count.
        narrow = (right - left <= _NARROW * (stop - start)) & np.isfinite(greatest)
        good |= narrow & (length * unresolved <= _NEGLIGIBLE * total)
        indivisible = right - left <= 4.0 * np.spacing(np.abs(right))
        good |= indivisible & (mass <= np.sqrt(_NEGLIGIBLE) * total)
        return values, good

    starts, values, rest = halved(first[:-1], first[1:], fit, _MOST_PANELS)
    if rest.size:
        raise InputError(
            f"{name}: the density is not resolved {rest[0] - start:.3g} from its end; expected one "
            "that integrates, smooth but for the stated edge exponents and a few kinks"
        )
    return from_series(exponent, np.append(starts, stop), values @ _TO_SERIES.T)


def _log_values(log_density, t, at_edge, exponent: float, name: str) -> np.ndarray:
    """Log density at the points t of panels, on the one at the edge less α log t."""
    log_q = log_density(t)
    if exponent != 0.0:
        log_q[at_edge] -= exponent * np.log(t[at_edge])
    if np.isnan(log_q).any() or (log_q == np.inf).any():
        raise InputError(f"{name}: the density is NaN or infinite; expected a finite density")
    return log_q


def _allowed(log_q: np.ndarray, terms: float) -> np.ndarray:
    """Error allowed on each panel, relative to its greatest value: rounding of the log density."""
    fallen = np.abs(np.maximum(log_q.max(axis=1), LEAST_LOG))
    return _ROUNDING * (1.0 + 0.25 * terms) * (1.0 + 0.25 * fallen)


def _is_even(values: np.ndarray, at_edge: np.ndarray, exponent: float) -> np.ndarray:
    """Whether the density varies little on each panel.

    An error relative to the greatest value on a panel must be one relative to its integral, and to
    what lies beyond it towards the edge.
    """
    greatest = values.max(axis=1)
    weight = np.where(at_edge, exponent, 0.0)[:, np.newaxis]
    share = (values * (0.5 * (1.0 + _NODES)) ** weight).mean(axis=1) * (1.0 + weight[:, 0])
    level = values.min(axis=1) >= np.exp(-_MOST_FALL) * greatest
    return (share >= _EVEN * greatest) & (at_edge | level)


def rules_between(points: np.ndarray, masses: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights (P, n) of the Gauss rules of P discrete measures at once.

    Points and masses are of shape (P, N); a mass of 0 fills up rows that have fewer points. A
    measure with fewer than n points of mass keeps them, with nodes of weight 0 between.
    """
    total = masses.sum(axis=1, keepdims=True)
    centre, half = 0.5 * (points.max(1) + points.min(1)), 0.5 * np.ptp(points, axis=1)
    half = np.where(half > 0.0, half, 1.0)
    x = (points - centre[:, np.newaxis]) / half[:, np.newaxis]
    # Nothing in an interval: any nodes, with the weight 0.
    share = np.where(total > 0.0, masses / np.where(total > 0.0, total, 1.0), 1.0 / x.shape[1])
    rule = golub_welsch(*stieltjes(x, share, n))
    return centre[:, np.newaxis] + half[:, np.newaxis] * rule.nodes, total * rule.weights


def _points(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Chebyshev points of panels, (K, 24)."""
    half = 0.5 * (right - left)[:, np.newaxis]
    return left[:, np.newaxis] + half * (1.0 + _NODES)


def from_series(exponent: float, breaks: np.ndarray, density: np.ndarray) -> Half:
    """Integrate the Chebyshev series (K, 24) of a density on every panel."""
    half = 0.5 * np.diff(breaks)
    integral = chebyshev.chebint(density.T, lbnd=-1.0).T * half[:, np.newaxis]
    # At the edge: H at Chebyshev points, each by the Gauss–Jacobi rule of w^α on [0, 1].
    jacobi = gauss_jacobi(DEGREE, 0.0, exponent)
    w = 0.5 * (1.0 + jacobi.nodes)
    h = chebyshev.chebval((1.0 + _NODES[:, np.newaxis]) * w - 1.0, density[0])
    integral[0, :-1] = _TO_SERIES @ (h @ jacobi.weights / (exponent + 1.0))
    integral[0, -1] = 0.0
    whole = integral.sum(axis=1)  # every Chebyshev polynomial is 1 at the far end
    whole[0] *= (breaks[1] - breaks[0]) ** (exponent + 1.0)
    return Half(exponent, breaks, density, integral, np.append(0.0, np.cumsum(whole)))


@njit(cache=True)
def _evaluate(t, power, breaks, series, before, out):
    last = breaks.size - 2
    for i in range(t.size):
        panel = min(np.searchsorted(breaks, t[i], side="right") - 1, last)
        near, far = breaks[panel], breaks[panel + 1]
        x = (2.0 * t[i] - near - far) / (far - near)
        c = series[panel]
        b1, b2 = 0.0, 0.0  # Clenshaw
        for k in range(c.size - 1, 0, -1):
            b1, b2 = 2.0 * x * b1 - b2 + c[k], b1
        value = x * b1 - b2 + c[0]
        out[i] = before[panel] + value if panel else value * (t[i] - breaks[0]) ** power
