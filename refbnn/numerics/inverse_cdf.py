"""Inverse distribution function of a law, with the behaviour at its ends factored out.

Formula
-------
*An edge.* A density C (x − a)^α has Q(x) ≈ C (x − a)^{α+1}/(α + 1), so G = Q⁻¹ is a smooth
function not of u but of s = u^{1/(α+1)}. Write d = x − a for the distance to the edge. In the tail
u ≤ 2⁻¹⁰,

    d = s·P(s),  P smooth and positive,

and likewise in v = 1 − u from the upper edge: the factor s keeps the *relative* accuracy of d at
the edge, for vanishing (α > 0), finite (α = 0) and singular (α < 0) densities alike.

*No edge.* Where the density falls off exponentially or faster, x grows like a power of L = −log u,
and d is a smooth function of L; it has no edge to count from there. The same form serves an edge
that the density reaches only after such a fall.

*The bulk.* Between, far from either end, G is a smooth function of u itself.

All are piecewise polynomials, interpolated at Chebyshev points with the ends of the piece among
them, so that neighbouring pieces meet. A piece that misses the accuracy, or falls anywhere, is
halved, so that pieces gather where the density nearly vanishes. Breaks in u are dyadic, exact in
float32 too. A guide table finds the piece of a given u in one step or two.

*The table.* Over most of the bulk G is so smooth that a polynomial of degree 5 on each of 2048
equal intervals of u has the same accuracy. It is found without search and is tried first.

Source: the edge correction is the idea of arXiv 2501.05564, section 3.1.3 and figure 3; the forms
with P and L are derived above.

Range
-----
|Q(G(u)) − u| ≤ 2e-14 between the interpolation points for a law of few terms, 1e-13 for every law
and in a gap of its density; in the tails at most 1e-12·u + 1e-16; plus rounding. At a singular edge
the number x itself limits: a + d rounds to 1e-16·|a|. Monotone but for rounding: x never falls by
more than 1e-15 of the largest |x|. Without an edge, G(0) = −∞, G(1) = ∞; 0 < u < 1e-290 counts as
1e-290.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numba import njit
from numpy.polynomial import chebyshev

from refbnn.errors import InputError

_DEGREE = 11  # of one piece; monomials on [−1, 1] of this degree still evaluate to rounding
_HALVINGS = 60  # a piece this small is below rounding
_MOST_PIECES = 2000
_U_ERROR = 1e-14
_GAP = 1e-13  # of the probability: where so little is left, any value between will do
_TAIL_ERROR = 1e-12  # relative
_LEAST_ERROR = 1e-16
_TAIL = 2.0**-10  # so few samples need a power that its cost does not count
_FARTHEST = 1e-290
_STEEPEST = 1e3  # times that P may fall over a tail; a density that falls further has no edge yet
_BINS = 1024
_INTERVALS, _LOW_DEGREE = 2048, 5  # of the table
_CUBIC, _SINGLE_ERROR = 3, 3e-8  # of the table in float32; its error in units of the bulk's range
# Stands for 0, which a generator of multiples of 2⁻⁵³, in float32 of 2⁻²⁴, may return.
_LEAST_UNIFORM, _LEAST_UNIFORM_SINGLE = 2.0**-54, 2.0**-25


@dataclass(frozen=True)
class Side:
    """A law seen from one of its ends; d grows inwards.

    Parameters
    ----------
    mass : callable
        Probability between the end and d, for d up to the other end; (N,) -> (N,). Accurate
        relatively.
    exponent : float or None
        α > −1, the exponent of the density at the edge d = 0; None where the law goes on.
    unit : float
        Limit of d/u^{1/(α+1)} at the edge; infinite if the density vanishes faster than that.
    origin : float
        x where d = 0.
    start, stop : float
        d at this end and at the other.
    half : float
        Probability of the half of the support that lies nearer to this end.
    noise : float
        Rounding of the probabilities.
    """

    mass: Callable[[np.ndarray], np.ndarray]
    exponent: float | None
    unit: float
    origin: float
    start: float
    stop: float
    half: float
    noise: float

    def seen(self, d: np.ndarray) -> np.ndarray:
        """Probability between the neighbours of d, four roundings apart."""
        rounding = 4.0 * np.spacing(np.abs(d))
        return self.mass(d + rounding) - self.mass(d - rounding)


@dataclass(frozen=True)
class Pieces:
    """A piecewise polynomial: piece i covers [breaks[i], breaks[i+1]].

    Parameters
    ----------
    breaks : (n + 1,)
    slopes : (n,)
        2/length of each piece, to the local variable in [−1, 1].
    coefficients : (n, degree + 1)
        In powers of the local variable, constant first.
    guide : (bins,) of int
        Piece that holds the left end of each of equal bins of [breaks[0], breaks[n]].
    """

    breaks: np.ndarray
    slopes: np.ndarray
    coefficients: np.ndarray
    guide: np.ndarray

    def __call__(self, arguments: np.ndarray) -> np.ndarray:
        """Values at arguments of the pieces' type, (N,) -> (N,); outside, that of the nearer end.

        In NumPy; `_piecewise` is the same as an explicit loop.
        """
        arguments = np.clip(arguments, self.breaks[0], self.breaks[-1])
        piece = np.searchsorted(self.breaks[1:-1], arguments, side="right")
        t = (arguments - self.breaks[piece]) * self.slopes[piece] - 1
        value = self.coefficients[piece, _DEGREE]
        for k in range(_DEGREE - 1, -1, -1):
            value = value * t + self.coefficients[piece, k]
        return value

    def as_tuple(self):
        """The arrays, for Numba."""
        return self.breaks, self.slopes, self.coefficients, self.guide

    def single(self) -> Pieces:
        """The same in float32."""
        breaks = self.breaks.astype(np.float32)
        slopes = 2.0 / np.maximum(np.diff(breaks), np.finfo(np.float32).tiny)
        return Pieces(
            breaks,
            slopes.astype(np.float32),
            self.coefficients.astype(np.float32),
            _guide(breaks),
        )


@dataclass(frozen=True)
class InverseCDF:
    """G of a whole law; call it with u in [0, 1] of any shape.

    Parameters
    ----------
    ends : (float, float)
        Ends of the support, or the cuts.
    limits : (float, float)
        G(0) and G(1).
    origins : (float, float)
        Places from which the tails' d counts.
    powers : (float, float)
        1/(α + 1) and 1/(β + 1), from u and 1 − u to s; 0 where the tail is one over L.
    table : (2048, 6), in float32 (2048, 4)
        G on equal intervals of u, in powers of the place in [0, 1] on each; NaN where such a low
        degree does not do.
    bulk : Pieces
        G over u, between the tails.
    tails : (Pieces, Pieces)
        P over s, or d over L, below and above the bulk.
    """

    ends: tuple[float, float]
    limits: tuple[float, float]
    origins: tuple[float, float]
    powers: tuple[float, float]
    table: np.ndarray
    bulk: Pieces
    tails: tuple[Pieces, Pieces]

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """G(u); InputError where u leaves [0, 1]."""
        u = check_probabilities(np.asarray(u, dtype=self.bulk.breaks.dtype))
        x = np.where(u == 0.0, self.limits[0], self.of_probabilities(u))
        return np.where(u == 1.0, self.limits[1], x).astype(u.dtype)

    def of_probabilities(self, u: np.ndarray) -> np.ndarray:
        """G(u) for u of the pieces' type that is known to lie in [0, 1]; always finite.

        In a tail over L, 0 stands for half of the least number a generator returns: 2⁻⁵⁴, in
        float32 2⁻²⁵.
        """
        x = np.array(u, order="C")
        self.apply(x.reshape(-1))
        return x

    def apply(self, x: np.ndarray) -> None:
        """Replace probabilities by G of them, in place; (N,), otherwise as `of_probabilities`."""
        u = x.copy()
        _evaluate_table(u, self.table, x)
        rest = np.flatnonzero(np.isnan(x))
        number = x.dtype.type
        _evaluate_pieces(
            rest,
            u,
            x,
            tuple(number(end) for end in (*self.ends, *self.origins, *self.powers)),
            number(_LEAST_UNIFORM_SINGLE if x.dtype == np.float32 else _LEAST_UNIFORM),
            self.bulk.as_tuple(),
            *(tail.as_tuple() for tail in self.tails),
        )

    @cached_property
    def single(self) -> InverseCDF:
        """The same in float32, as a kernel computes it: within 3e-7 of the range of x.

        Its table is one of cubics, accurate to 3e-8 of the range of the bulk, less than rounding.
        """
        lower, upper = self.tails
        return replace(
            self,
            table=self._cubics().astype(np.float32),
            bulk=self.bulk.single(),
            tails=(lower.single(), upper.single()),
        )

    def _cubics(self) -> np.ndarray:
        """As `table`, of degree 3 and float32's accuracy."""
        u, coefficients, x = _local_fit(self.of_probabilities, _CUBIC)
        allowed = _SINGLE_ERROR * float(np.ptp(self.bulk(self.bulk.breaks[[0, -1]])))
        good = (np.abs(x - self.of_probabilities(u.ravel()).reshape(u.shape)) <= allowed).all(
            axis=1
        )
        good &= (np.diff(x, axis=1) >= 0.0).all(axis=1)
        good &= (u[:, 0] >= self.bulk.breaks[0]) & (u[:, -1] < self.bulk.breaks[-1])
        coefficients[~good] = np.nan
        return coefficients


def check_probabilities(u: np.ndarray) -> np.ndarray:
    """u itself; InputError where it leaves [0, 1]."""
    if u.size and not (u.min() >= 0.0 and u.max() <= 1.0):
        raise InputError("icdf: u holds entries outside [0, 1] or NaN; expected probabilities")
    return u


def build(ends: tuple[float, float], lower: Side, upper: Side) -> InverseCDF:
    """Interpolate G to the stated u-error.

    Raises
    ------
    InputError
        If halving pieces does not reach the u-error.
    """
    # Each place is counted from the nearer end, whatever its u: near a singular edge no other
    # number is exact. The change is at a dyadic u.
    change = np.round(lower.half * 2.0**12) * 2.0**-12
    change = float(np.clip(change, _TAIL, 1.0 - _TAIL))
    below, above = _bulk(lower, change), _bulk(upper, 1.0 - change)
    # Distances become places.
    from_low = below.coefficients.copy()
    from_low[:, 0] += lower.origin
    from_high = -above.coefficients
    from_high[:, 0] += upper.origin
    # Where there is no density at the change, either side sees the gap from its own rounding.
    if from_low.size and from_high.size:
        middle = 0.5 * (_at_end(from_low[-1]) + _at_end(from_high[-1]))
        from_low = _clip_lines(from_low, -np.inf, middle)
        from_high = _clip_lines(from_high, middle, np.inf)
    breaks = np.append(below.breaks, 1.0 - above.breaks[-2::-1])
    # Seen from the upper end, u = 1 − v turns the order of pieces and the local variable round.
    from_high = from_high[::-1] * (-1.0) ** np.arange(_DEGREE + 1)
    bulk = _pieces(breaks, np.concatenate([from_low, from_high]))
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


def _table(bulk: Pieces, lower: Side, upper: Side) -> np.ndarray:
    """G on equal intervals of u by a low degree, from the pieces of the bulk."""
    u, table, x = _local_fit(bulk, _LOW_DEGREE)
    near_low = x - lower.origin < upper.origin - x if lower.exponent is not None else x < 0.0
    error = np.where(
        near_low, lower.mass(x - lower.origin) - u, 1.0 - u - upper.mass(upper.origin - x)
    )
    good = (np.abs(error) <= _U_ERROR + lower.noise).all(axis=1)
    rounding = 2.0 * np.spacing(np.abs(x).max(axis=1, keepdims=True))
    good &= (np.diff(x, axis=1) >= -rounding).all(axis=1)
    good &= (u[:, 0] >= bulk.breaks[0]) & (u[:, -1] < bulk.breaks[-1])
    table[~good] = np.nan
    return table


def _local_fit(
    G: Callable[[np.ndarray], np.ndarray], degree: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """G interpolated on equal intervals of u: points between the nodes, coefficients, values there.

    The coefficients are of the place in [0, 1] on each interval, constant first.
    """
    nodes = 0.5 * (1.0 + chebyshev.chebpts2(degree + 1))
    to_monomials = np.linalg.inv(np.vander(nodes, increasing=True))
    between = 0.5 * (1.0 + np.sort(np.cos(np.pi * np.arange(13) / 12)))
    first = np.arange(_INTERVALS)[:, np.newaxis]
    values = G(((first + nodes) / _INTERVALS).ravel()).reshape(_INTERVALS, -1)
    # From the first value on: the matrix amplifies rounding, so of small differences alone.
    coefficients = (values - values[:, :1]) @ to_monomials.T
    coefficients[:, 0] = values[:, 0]
    u = (first + between) / _INTERVALS
    return u, coefficients, coefficients @ np.vander(between, degree + 1, increasing=True).T


def _at_end(coefficients: np.ndarray) -> float:
    return float(coefficients.sum())  # the local variable is 1


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
        return (side.mass(d) - u) / (_U_ERROR + side.noise + side.seen(d)), d

    if last <= _TAIL:
        return _pieces(np.array([last]), np.empty((0, _DEGREE + 1)))
    return _interpolate(_solver(side), assess, lambda u: u, _TAIL, last)


def _tail(side: Side) -> tuple[float, Pieces]:
    """Power and pieces of a tail: P over s ∈ [0, s_tail]; or d over L, with the power 0."""
    distance = _solver(side)
    if side.exponent is not None:
        power = 1.0 / (1.0 + side.exponent)
        s_tail = _TAIL**power
        if side.unit * s_tail <= _STEEPEST * distance(np.array([_TAIL]))[0]:
            return power, _edge_tail(side, distance, power, s_tail)
    return 0.0, _open_tail(side, distance)


def _edge_tail(side: Side, distance, power: float, s_tail: float) -> Pieces:
    def to_u(s):
        return s ** (1.0 / power)

    def factor(s):
        p = np.full_like(s, side.unit)
        u = to_u(s)
        seen = u > _FARTHEST  # nearer to the edge the limit holds
        p[seen] = distance(u[seen]) / s[seen]
        return p

    def assess(s, p):
        u, d = to_u(s), s * p
        return (side.mass(d) - u) / (_TAIL_ERROR * u + _LEAST_ERROR + side.seen(d)), d

    return _interpolate(factor, assess, to_u, 0.0, s_tail)


def _open_tail(side: Side, distance) -> Pieces:
    bounded = side.exponent is not None  # then the density near the edge is known absolutely alone

    def assess(L, d):
        u = np.exp(-L)
        allowed = _TAIL_ERROR * u + side.seen(d) + (_LEAST_ERROR if bounded else 0.0)
        return (side.mass(d) - u) / allowed, -d

    ends = -np.log(_TAIL), -np.log(_FARTHEST)
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
    """Piecewise interpolant on [left, right], halved until it is accurate and monotone.

    Parameters
    ----------
    function : callable (points) -> values
        What is interpolated.
    assess : callable (points, values) -> (error, d)
        Error in units of the allowed one; d, which must not fall.
    size : callable (points) -> what makes a piece narrow, where it differs little over it
    left, right : float
    """
    nodes = chebyshev.chebpts2(_DEGREE + 1)
    to_chebyshev = np.linalg.inv(chebyshev.chebvander(nodes, _DEGREE))
    # Between the nodes, where the error peaks, and the nodes.
    between = np.sort(np.cos(np.pi * np.arange(2 * _DEGREE + 1) / (2 * _DEGREE)))
    powers_between = np.vander(between, _DEGREE + 1, increasing=True)
    starts, ends = np.array([left]), np.array([right])
    done: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(_HALVINGS):
        centre, half = 0.5 * (starts + ends)[:, np.newaxis], 0.5 * (ends - starts)[:, np.newaxis]
        points = np.clip(centre + half * nodes, starts[:, np.newaxis], ends[:, np.newaxis])
        points[:, 0], points[:, -1] = starts, ends  # the same number on both sides of a break
        values = function(points.ravel()).reshape(points.shape)
        # In two steps: the product of both matrices would amplify rounding a thousandfold.
        coefficients = (values @ to_chebyshev.T) @ _TO_MONOMIALS
        checked = np.clip(centre + half * between, starts[:, np.newaxis], ends[:, np.newaxis])
        found = coefficients @ powers_between.T
        error, d = assess(checked.ravel(), found.ravel())
        error, d = error.reshape(checked.shape), d.reshape(checked.shape)
        falls = (np.diff(d, axis=1) < -4.0 * np.spacing(np.abs(d).max())).any(axis=1)
        worst = np.abs(error).max(axis=1)
        good = (worst <= 1.0) & ~falls
        # In a gap, or in a tail of next to no mass.
        narrow = ~good & (size(ends) - size(starts) <= _GAP)
        coefficients[narrow] = 0.0
        coefficients[narrow, 0] = 0.5 * (values[narrow, 0] + values[narrow, -1])
        coefficients[narrow, 1] = 0.5 * (values[narrow, -1] - values[narrow, 0])
        good |= narrow
        done.append((starts[good], coefficients[good]))
        starts, ends, centre = starts[~good], ends[~good], centre[~good, 0]
        if not 0 < starts.size <= _MOST_PIECES:
            break
        starts, ends = np.append(starts, centre), np.append(centre, ends)
    if starts.size:
        raise InputError(
            f"inverse CDF: {starts.size} pieces of it are off by up to {worst.max():.0e} of the "
            "allowed error; expected a smoother density"
        )
    first = np.concatenate([start for start, _ in done])
    order = np.argsort(first)
    breaks = np.append(first[order], right)
    return _pieces(breaks, np.concatenate([c for _, c in done])[order])


def _pieces(breaks: np.ndarray, coefficients: np.ndarray) -> Pieces:
    return Pieces(breaks, 2.0 / np.diff(breaks), np.ascontiguousarray(coefficients), _guide(breaks))


def _guide(breaks: np.ndarray) -> np.ndarray:
    bins = np.linspace(breaks[0], breaks[-1], _BINS, endpoint=False)
    return np.clip(np.searchsorted(breaks, bins, side="right") - 1, 0, breaks.size - 2)


# Row k: the Chebyshev polynomial T_k in monomials.
_TO_MONOMIALS = np.stack(
    [
        np.pad(chebyshev.cheb2poly(np.eye(_DEGREE + 1)[k, : k + 1]), (0, _DEGREE - k))
        for k in range(_DEGREE + 1)
    ]
)


@njit(cache=True, fastmath={"contract"})  # Horner as fused multiply-adds
def _evaluate_table(u, table, x):
    """x = G(u) by the table, NaN where it has no value."""
    intervals, last = u.dtype.type(table.shape[0]), np.uint32(table.shape[0] - 1)
    if table.shape[1] == _CUBIC + 1:  # written out: a loop of unknown length is half as fast
        for j in range(u.size):
            scaled = u[j] * intervals
            i = min(np.uint32(scaled), last)
            t = scaled - u.dtype.type(i)
            x[j] = ((table[i, 3] * t + table[i, 2]) * t + table[i, 1]) * t + table[i, 0]
        return
    for j in range(u.size):
        scaled = u[j] * intervals
        i = min(np.uint32(scaled), last)
        t = scaled - u.dtype.type(i)
        value = table[i, _LOW_DEGREE]
        for k in range(_LOW_DEGREE - 1, -1, -1):
            value = value * t + table[i, k]
        x[j] = value


@njit(cache=True, fastmath={"contract"})
def _evaluate_pieces(chosen, u, x, numbers, least, bulk, lower, upper):
    """x = G(u) at the chosen places, by the bulk and the tails."""
    start, end = bulk[0][0], bulk[0][-1]
    least_x, greatest_x, low_origin, high_origin, low_power, high_power = numbers
    one = x.dtype.type(1)
    for j in chosen:
        if u[j] < start:
            value = low_origin + _tail_distance(u[j], low_power, least, lower)
        elif u[j] >= end:
            value = high_origin - _tail_distance(one - u[j], high_power, least, upper)
        else:
            value = _piecewise(u[j], bulk)
        x[j] = min(max(value, least_x), greatest_x)


@njit(cache=True, fastmath={"contract"})
def _tail_distance(tail, power, least, pieces):
    if power == 0:
        return _piecewise(-np.log(least if tail == 0 else tail), pieces)
    s = tail**power
    return s * _piecewise(s, pieces)


@njit(cache=True, fastmath={"contract"})
def _piecewise(argument, pieces):
    """As `Pieces.__call__`, by the guide and then a step or two."""
    breaks, slopes, coefficients, guide = pieces
    one = breaks.dtype.type(1)  # not a float64 in float32 arithmetic
    place = min(max(argument, breaks[0]), breaks[-1])
    bins_per_unit = breaks.dtype.type(_BINS) / (breaks[-1] - breaks[0])
    piece = guide[min(int((place - breaks[0]) * bins_per_unit), _BINS - 1)]
    while piece < slopes.size - 1 and place >= breaks[piece + 1]:
        piece += 1
    t = (place - breaks[piece]) * slopes[piece] - one
    value = coefficients[piece, _DEGREE]
    for k in range(_DEGREE - 1, -1, -1):
        value = value * t + coefficients[piece, k]
    return value
