"""Quantile function of a law, evaluated from piecewise polynomials.

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

All three are piecewise polynomials (`refbnn.numerics.inverse_cdf_building` makes them). A guide
table finds the piece of a given u in one step or two.

*The table.* Over most of the bulk G is so smooth that a polynomial of degree 5 on each of 2048
equal intervals of u has the same accuracy. It is found without a search and is tried first.

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

DEGREE = 11  # of one piece; monomials on [−1, 1] of this degree still evaluate to rounding
TAIL = 2.0**-10  # probability of a tail: so few samples need a power that its cost does not count
TABLE_DEGREE = 5
_INTERVALS = 2048  # of the table
_CUBIC, _SINGLE_ERROR = 3, 3e-8  # of the table in float32; its error in units of the bulk's range
_BINS = 1024
# Stands for 0, which a generator of multiples of 2⁻⁵³, in float32 of 2⁻²⁴, may return.
_LEAST_UNIFORM, _LEAST_UNIFORM_SINGLE = 2.0**-54, 2.0**-25


@dataclass(frozen=True, eq=False)
class Pieces:
    """A piecewise polynomial: piece i of n covers [breaks[i], breaks[i+1]]."""

    breaks: np.ndarray  # (n + 1,)
    slopes: np.ndarray  # (n,): 2/length of each piece, to the local variable in [−1, 1]
    coefficients: np.ndarray  # (n, DEGREE + 1): of powers of the local variable, constant first
    guide: np.ndarray  # (bins,): piece at the left end of each of equal bins of the whole interval

    @classmethod
    def of(cls, breaks: np.ndarray, coefficients: np.ndarray) -> Pieces:
        """Add slopes and guide to breaks and coefficients."""
        # Narrow pieces may have no length left in float32.
        lengths = np.maximum(np.diff(breaks), np.finfo(breaks.dtype).tiny)
        bins = np.linspace(breaks[0], breaks[-1], _BINS, endpoint=False)
        guide = np.clip(np.searchsorted(breaks, bins, side="right") - 1, 0, breaks.size - 2)
        slopes = (2.0 / lengths).astype(breaks.dtype)
        return cls(breaks, slopes, np.ascontiguousarray(coefficients), guide)

    def __call__(self, arguments: np.ndarray) -> np.ndarray:
        """Values at arguments of the pieces' type, any shape; outside, that of the nearer end.

        In NumPy; `_piecewise` computes the same in an explicit loop.
        """
        arguments = np.clip(arguments, self.breaks[0], self.breaks[-1])
        piece = np.searchsorted(self.breaks[1:-1], arguments, side="right")
        t = (arguments - self.breaks[piece]) * self.slopes[piece] - 1
        value = self.coefficients[piece, DEGREE]
        for k in range(DEGREE - 1, -1, -1):
            value = value * t + self.coefficients[piece, k]
        return value

    def as_tuple(self):
        """The arrays, for Numba."""
        return self.breaks, self.slopes, self.coefficients, self.guide

    def single(self) -> Pieces:
        """Convert to float32."""
        return Pieces.of(self.breaks.astype(np.float32), self.coefficients.astype(np.float32))


@dataclass(frozen=True, eq=False)
class InverseCDF:
    """G of a whole law; call it with u in [0, 1] of any shape."""

    ends: tuple[float, float]  # ends of the support, or the cuts
    limits: tuple[float, float]  # G(0) and G(1)
    origins: tuple[float, float]  # values x from which the tails' d counts
    # 1/(α + 1) and 1/(β + 1), from u and 1 − u to s; 0 where the tail is a function of L.
    powers: tuple[float, float]
    table: np.ndarray  # (2048, 6), in float32 (2048, 4): see `interval_table`
    bulk: Pieces  # G over u, between the tails
    tails: tuple[Pieces, Pieces]  # P over s, or d over L, below and above the bulk

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
        """Replace probabilities (N,) by `of_probabilities` of them, in place."""
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
        allowed = _SINGLE_ERROR * float(np.ptp(self.bulk(self.bulk.breaks[[0, -1]])))
        table = interval_table(
            self.of_probabilities,
            _CUBIC,
            self.bulk,
            lambda u, x: np.abs(x - self.of_probabilities(u)) <= allowed,
            0.0,
        )
        lower, upper = self.tails
        return replace(
            self,
            table=table.astype(np.float32),
            bulk=self.bulk.single(),
            tails=(lower.single(), upper.single()),
        )


def check_probabilities(u: np.ndarray) -> np.ndarray:
    """Return u; InputError where it leaves [0, 1]."""
    if u.size and not (u.min() >= 0.0 and u.max() <= 1.0):
        raise InputError("icdf: u holds entries outside [0, 1] or NaN; expected probabilities")
    return u


def interval_table(
    G: Callable[[np.ndarray], np.ndarray],
    degree: int,
    bulk: Pieces,
    accurate: Callable[[np.ndarray, np.ndarray], np.ndarray],
    slack: float,
) -> np.ndarray:
    """Interpolate G(u) on 2048 equal intervals of u, at Chebyshev points.

    Row i holds the coefficients of the place in [0, 1] on interval i, constant first; NaN unless
    the interval lies in the bulk, accurate(u, x) holds for u between the nodes and their x, and x
    falls by no more than `slack` units in the last place.
    """
    nodes = 0.5 * (1.0 + chebyshev.chebpts2(degree + 1))
    to_monomials = np.linalg.inv(np.vander(nodes, increasing=True))
    between = 0.5 * (1.0 + np.sort(np.cos(np.pi * np.arange(13) / 12)))
    first = np.arange(_INTERVALS)[:, np.newaxis]
    values = G((first + nodes) / _INTERVALS)
    # From the first value on: the matrix amplifies rounding, so of small differences alone.
    coefficients = (values - values[:, :1]) @ to_monomials.T
    coefficients[:, 0] = values[:, 0]
    u = (first + between) / _INTERVALS
    x = coefficients @ np.vander(between, degree + 1, increasing=True).T
    fall = slack * np.spacing(np.abs(x).max(axis=1, keepdims=True))
    good = accurate(u, x).all(axis=1) & (np.diff(x, axis=1) >= -fall).all(axis=1)
    good &= (u[:, 0] >= bulk.breaks[0]) & (u[:, -1] < bulk.breaks[-1])
    coefficients[~good] = np.nan
    return coefficients


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
        value = table[i, TABLE_DEGREE]
        for k in range(TABLE_DEGREE - 1, -1, -1):
            value = value * t + table[i, k]
        x[j] = value


@njit(cache=True, fastmath={"contract"})
def _evaluate_pieces(chosen, u, x, numbers, least, bulk, lower, upper):
    """x = G(u) of the chosen entries, by the bulk and the tails."""
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
    """Evaluate pieces at one argument: the guide, then a step or two, finds the piece."""
    breaks, slopes, coefficients, guide = pieces
    one = breaks.dtype.type(1)  # not a float64 in float32 arithmetic
    place = min(max(argument, breaks[0]), breaks[-1])
    bins_per_unit = breaks.dtype.type(_BINS) / (breaks[-1] - breaks[0])
    piece = guide[min(int((place - breaks[0]) * bins_per_unit), _BINS - 1)]
    while piece < slopes.size - 1 and place >= breaks[piece + 1]:
        piece += 1
    t = (place - breaks[piece]) * slopes[piece] - one
    value = coefficients[piece, DEGREE]
    for k in range(DEGREE - 1, -1, -1):
        value = value * t + coefficients[piece, k]
    return value
