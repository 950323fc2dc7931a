"""Build a quantile function (`refbnn.numerics.inverse_cdf`) from the probabilities of a law.

Polynomials interpolate the solutions d of mass(d) = u at Chebyshev points, with the ends of a piece
among them, so that neighbouring pieces meet. A piece that misses the accuracy, or falls anywhere,
is halved, so that pieces gather where the density nearly vanishes. Breaks in u are dyadic, exact in
float32 too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev

from refbnn.errors import InputError
from refbnn.numerics.halving import halved
from refbnn.numerics.inverse_cdf import (
    DEGREE,
    TABLE_DEGREE,
    TAIL,
    InverseCDF,
    Pieces,
    interval_table,
)

_MOST_PIECES = 2000
_U_ERROR = 1e-14
_GAP = 1e-13  # of the probability: where so little is left, any value between will do
_TAIL_ERROR = 1e-12  # relative
_LEAST_ERROR = 1e-16
_FARTHEST = 1e-290
_STEEPEST = 1e3  # times that P may fall over a tail; a density that falls further has no edge yet

_NODES = chebyshev.chebpts2(DEGREE + 1)
_TO_CHEBYSHEV = np.linalg.inv(chebyshev.chebvander(_NODES, DEGREE))
# Row k: the Chebyshev polynomial T_k in monomials.
_TO_MONOMIALS = np.stack(
    [
        np.pad(chebyshev.cheb2poly(np.eye(DEGREE + 1)[k, : k + 1]), (0, DEGREE - k))
        for k in range(DEGREE + 1)
    ]
)
# Places of the check: between the nodes, where the error peaks, and the nodes.
_BETWEEN = np.sort(np.cos(np.pi * np.arange(2 * DEGREE + 1) / (2 * DEGREE)))


@dataclass(frozen=True)
class Side:
    """A law seen from one of its ends; the distance d grows inwards."""

    # Probability between the end and d, for d up to the other end; any shape, accurate relatively.
    mass: Callable[[np.ndarray], np.ndarray]
    exponent: float | None  # α > −1 of the density at the edge d = 0; None on an unbounded support
    unit: float  # limit of d/u^{1/(α+1)} at the edge; infinite if the density vanishes faster
    origin: float  # x where d = 0
    start: float  # d at this end
    stop: float  # d at the other end
    half: float  # probability of the half of the support that lies nearer to this end
    noise: float  # rounding error of the probabilities

    def mass_within_ulps(self, d: np.ndarray) -> np.ndarray:
        """Probability within ±4 ulp of d: the u-error that rounding d causes."""
        rounding = 4.0 * np.spacing(np.abs(d))
        return self.mass(d + rounding) - self.mass(d - rounding)


def build(ends: tuple[float, float], lower: Side, upper: Side) -> InverseCDF:
    """Interpolate G to the stated u-error; InputError if halving pieces does not reach it."""
    bulk = _whole_bulk(lower, upper)
    (power, tail), (power_above, tail_above) = _tail(lower), _tail(upper)
    return InverseCDF(
        ends=ends,
        limits=(
            -np.inf if lower.exponent is None else ends[0],
            np.inf if upper.exponent is None else ends[1],
        ),
        origins=(lower.origin, upper.origin),
        powers=(power, power_above),
        table=_table(bulk, lower, upper),
        bulk=bulk,
        tails=(tail, tail_above),
    )


def _whole_bulk(lower: Side, upper: Side) -> Pieces:
    """G between the tails, from both sides."""
    # Each place is counted from the nearer end, whatever its u: near a singular edge no other
    # number is exact. The change is at a dyadic u.
    change = np.round(lower.half * 2.0**12) * 2.0**-12
    change = float(np.clip(change, TAIL, 1.0 - TAIL))
    below, above = _bulk(lower, change), _bulk(upper, 1.0 - change)
    # Distances become values x.
    from_low = below.coefficients.copy()
    from_low[:, 0] += lower.origin
    from_high = -above.coefficients
    from_high[:, 0] += upper.origin
    # Where there is no density at the change, either side sees the gap from its own rounding.
    if from_low.size and from_high.size:  # the local variable is 1 at the change
        middle = 0.5 * (float(from_low[-1].sum()) + float(from_high[-1].sum()))
        from_low = _clip_lines(from_low, -np.inf, middle)
        from_high = _clip_lines(from_high, middle, np.inf)
    breaks = np.append(below.breaks, 1.0 - above.breaks[-2::-1])
    # Seen from the upper end, u = 1 − v turns the order of pieces and the local variable round.
    from_high = from_high[::-1] * (-1.0) ** np.arange(DEGREE + 1)
    return Pieces.of(breaks, np.concatenate([from_low, from_high]))


def _table(bulk: Pieces, lower: Side, upper: Side) -> np.ndarray:
    """G on equal intervals of u by a low degree, from the pieces of the bulk."""

    def accurate(u, x):
        near_low = x - lower.origin < upper.origin - x if lower.exponent is not None else x < 0.0
        from_low, from_high = lower.mass(x - lower.origin), upper.mass(upper.origin - x)
        error = np.where(near_low, from_low - u, 1.0 - u - from_high)
        return np.abs(error) <= _U_ERROR + lower.noise

    return interval_table(bulk, TABLE_DEGREE, bulk, accurate, 2.0)


def _clip_lines(coefficients: np.ndarray, low: float, high: float) -> np.ndarray:
    """Clip the pieces that are straight lines, which lie in a gap; the others are accurate."""
    line = (coefficients[:, 2:] == 0.0).all(axis=1)
    left = np.clip(coefficients[line, 0] - coefficients[line, 1], low, high)
    right = np.clip(coefficients[line, 0] + coefficients[line, 1], low, high)
    coefficients[line, 0], coefficients[line, 1] = 0.5 * (left + right), 0.5 * (right - left)
    return coefficients


def _bulk(side: Side, last: float) -> Pieces:
    """d over u ∈ [u_tail, last] counted from the end; no piece if there is nothing between."""

    def assess(u, d):
        return (side.mass(d) - u) / (_U_ERROR + side.noise + side.mass_within_ulps(d)), d

    if last <= TAIL:
        return Pieces.of(np.array([last]), np.empty((0, DEGREE + 1)))
    return _interpolate(_solver(side), assess, lambda u: u, TAIL, last)


def _tail(side: Side) -> tuple[float, Pieces]:
    """Power and pieces of a tail: P over s ∈ [0, s_tail]; or d over L, with the power 0."""
    distance = _solver(side)
    if side.exponent is not None:
        power = 1.0 / (1.0 + side.exponent)
        s_tail = TAIL**power
        if side.unit * s_tail <= _STEEPEST * distance(np.array([TAIL]))[0]:
            return power, _edge_tail(side, distance, power, s_tail)
    return 0.0, _open_tail(side, distance)


def _edge_tail(side: Side, distance, power: float, s_tail: float) -> Pieces:
    def to_u(s):
        return s ** (1.0 / power)

    def factor(s):
        p = np.full_like(s, side.unit)
        u = to_u(s)
        solvable = u > _FARTHEST  # nearer to the edge the limit holds
        p[solvable] = distance(u[solvable]) / s[solvable]
        return p

    def assess(s, p):
        u, d = to_u(s), s * p
        allowed = _TAIL_ERROR * u + _LEAST_ERROR + side.mass_within_ulps(d)
        return (side.mass(d) - u) / allowed, d

    return _interpolate(factor, assess, to_u, 0.0, s_tail)


def _open_tail(side: Side, distance) -> Pieces:
    bounded = side.exponent is not None  # then the density near the edge is known absolutely alone

    def assess(L, d):
        u = np.exp(-L)
        allowed = _TAIL_ERROR * u + side.mass_within_ulps(d) + (_LEAST_ERROR if bounded else 0.0)
        return (side.mass(d) - u) / allowed, -d

    ends = -np.log(TAIL), -np.log(_FARTHEST)
    return _interpolate(
        lambda L: distance(np.exp(-L)),
        assess,
        (lambda L: -np.exp(-L)) if bounded else (lambda L: L),
        *ends,
    )


def _solver(side: Side):
    """Function that solves mass(d) = u for d."""
    from scipy.optimize.elementwise import find_root

    if side.exponent is None:
        grid = np.linspace(side.start, side.stop, 4097)
    else:  # every power of two down to the edge
        grid = np.append(0.0, side.stop * 2.0 ** np.arange(-1070.0, 1.0))
    mass = np.maximum.accumulate(side.mass(grid))

    def distance(u):
        above = np.clip(np.searchsorted(mass, u, side="left"), 1, grid.size - 1)
        found = find_root(lambda d, u: side.mass(d) - u, (grid[above - 1], grid[above]), args=(u,))
        # Beyond a cut, or by rounding at the other end, there is no bracket.
        nearest = np.where(mass[above] < u, grid[above], grid[above - 1])
        return np.where(found.success, found.x, nearest)

    return distance


def _interpolate(function, assess, size, left: float, right: float) -> Pieces:
    """Piecewise interpolant of function(points) on [left, right], halved until it is good.

    assess(points, values) returns the error in units of the allowed one, and d, which must not
    fall. A piece is narrow if size(points) changes by less than `_GAP` over it.
    """
    worst = np.zeros(1)

    def fit(starts, ends):
        nonlocal worst
        values, coefficients = _fitted(function, starts, ends)
        worst, falls = _assessed(assess, coefficients, starts, ends)
        good = (worst <= 1.0) & ~falls
        # In a gap, or in a tail of next to no mass, a straight line.
        narrow = ~good & (size(ends) - size(starts) <= _GAP)
        coefficients[narrow] = 0.0
        coefficients[narrow, 0] = 0.5 * (values[narrow, 0] + values[narrow, -1])
        coefficients[narrow, 1] = 0.5 * (values[narrow, -1] - values[narrow, 0])
        return coefficients, good | narrow

    starts, coefficients, rest = halved(np.array([left]), np.array([right]), fit, _MOST_PIECES)
    if rest.size:
        raise InputError(
            f"inverse CDF: {rest.size} pieces are off by up to {worst.max():.0e} of the allowed "
            "error; expected a smoother density"
        )
    return Pieces.of(np.append(starts, right), coefficients)


def _fitted(function, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values of a function at the nodes of pieces, and the coefficients through them."""
    points = _on_pieces(starts, ends, _NODES)
    points[:, 0], points[:, -1] = starts, ends  # the same number on both sides of a break
    values = function(points.ravel()).reshape(points.shape)
    # In two steps: the product of both matrices would amplify rounding a thousandfold.
    return values, (values @ _TO_CHEBYSHEV.T) @ _TO_MONOMIALS


def _assessed(assess, coefficients, starts, ends) -> tuple[np.ndarray, np.ndarray]:
    """Worst error of each piece in units of the allowed one, and whether d falls on it."""
    points = _on_pieces(starts, ends, _BETWEEN)
    values = coefficients @ np.vander(_BETWEEN, DEGREE + 1, increasing=True).T
    error, d = assess(points.ravel(), values.ravel())
    error, d = error.reshape(points.shape), d.reshape(points.shape)
    falls = (np.diff(d, axis=1) < -4.0 * np.spacing(np.abs(d).max())).any(axis=1)
    return np.abs(error).max(axis=1), falls


def _on_pieces(starts: np.ndarray, ends: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Points of each piece at places in [−1, 1]."""
    starts, ends = starts[:, np.newaxis], ends[:, np.newaxis]
    return np.clip(0.5 * (starts + ends) + 0.5 * (ends - starts) * places, starts, ends)
