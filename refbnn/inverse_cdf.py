"""Inverse distribution function of a bounded law, with the edge exponents factored out.

Formula
-------
Near the lower edge a density C (x − a)^α has Q(x) ≈ C (x − a)^{α+1}/(α + 1), so G = Q⁻¹ is a
smooth function not of u but of s = u^{1/(α+1)}. Write d = x − a for the distance to the edge. In
the tail u ≤ 2⁻¹⁰,

    d = s·P(s),  P smooth and positive,

and likewise in v = 1 − u from the upper edge: the factor s keeps the *relative* accuracy of d at
the edge, for vanishing (α > 0), finite (α = 0) and singular (α < 0) densities alike. In the bulk
between, far from the singularity, G is a smooth function of u itself, and no power is needed.

P and G are piecewise polynomials, interpolated at Chebyshev points; a piece that misses the
accuracy is halved, so that pieces gather where the density nearly vanishes. A guide table finds the
piece of a given u in one step or two.

Source: the edge correction is the idea of arXiv 2501.05564, section 3.1.3 and figure 3; the form
with P is derived above.

Range
-----
|Q(G(u)) − u| ≤ 1e-13 between the interpolation points, plus rounding. At a singular edge the
number x itself limits: a + d rounds to 1e-16·|a|. Monotone to that accuracy: where x falls at all,
between neighbouring u at a break, the interval has less than 2e-13 of probability.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.polynomial import chebyshev
from scipy.optimize.elementwise import find_root

from refbnn.errors import InputError

_DEGREE = 11  # of one piece; monomials on [−1, 1] of this degree still evaluate to rounding
_HALVINGS = 60  # a piece this small is below rounding
_MOST_PIECES = 1000
_U_ERROR = 1e-13
_TAIL = 2.0**-10  # so few samples need a power that its cost does not count
_BINS = 1024


@dataclass(frozen=True)
class Side:
    """One half of the support, seen from its edge.

    Parameters
    ----------
    mass : callable
        Probability within distance d of the edge; d of shape (N,) -> (N,). Accurate relatively.
    exponent : float
        α > −1, the exponent of the density at the edge.
    reach : float
        Distance from the edge to where the two halves meet.
    """

    mass: Callable[[np.ndarray], np.ndarray]
    exponent: float
    reach: float


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

    def as_tuple(self):
        """The arrays, for Numba."""
        return self.breaks, self.slopes, self.coefficients, self.guide


@dataclass(frozen=True)
class InverseCDF:
    """G of a whole law; call it with u in [0, 1] of any shape.

    Parameters
    ----------
    edges : (float, float)
        Ends of the support.
    powers : (float, float)
        1/(α + 1) and 1/(β + 1), from u and 1 − u to s.
    bulk : Pieces
        G over u.
    tails : (Pieces, Pieces)
        P over s, below and above the bulk.
    """

    edges: tuple[float, float]
    powers: tuple[float, float]
    bulk: Pieces
    tails: tuple[Pieces, Pieces]

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """G(u); InputError where u leaves [0, 1]."""
        u = np.asarray(u, dtype=float)
        if u.size and not (u.min() >= 0.0 and u.max() <= 1.0):
            raise InputError("icdf: u holds entries outside [0, 1] or NaN; expected probabilities")
        return self.of_probabilities(u)

    def of_probabilities(self, u: np.ndarray) -> np.ndarray:
        """G(u) for float64 u that is known to lie in [0, 1]."""
        flat = u.ravel()
        x = np.empty(flat.size)
        bulk = self.bulk
        # The bulk apart from the tails: a power in the same loop makes it ten times as slow.
        _evaluate_bulk(flat, *bulk.as_tuple(), x)
        below = np.flatnonzero(flat < bulk.breaks[0])
        above = np.flatnonzero(flat >= bulk.breaks[-1])
        x[below] = self.edges[0] + self._tail_distance(0, flat[below])
        x[above] = self.edges[1] - self._tail_distance(1, 1.0 - flat[above])
        return np.clip(x, *self.edges, out=x).reshape(u.shape)

    def _tail_distance(self, side: int, tail: np.ndarray) -> np.ndarray:
        distance = np.empty(tail.size)
        _evaluate_tail(tail, self.powers[side], *self.tails[side].as_tuple(), distance)
        return distance


def build(edges: tuple[float, float], lower: Side, upper: Side) -> InverseCDF:
    """Interpolate G to the stated u-error; `edges` are the ends of the support.

    Raises
    ------
    InputError
        If halving pieces does not reach the u-error.
    """
    halves = [_Half(side) for side in (lower, upper)]
    (breaks, below), (breaks_v, above) = (half.bulk() for half in halves)
    # Distances become places. In the upper half, seen from its edge, u = 1 − v turns the order of
    # pieces and the sign of the local variable round.
    below[:, 0] += edges[0]
    above *= -((-1.0) ** np.arange(_DEGREE + 1))
    above[:, 0] += edges[1]
    breaks = np.concatenate([breaks, 1.0 - breaks_v[-2::-1]])
    coefficients = np.concatenate([below, above[::-1]])
    return InverseCDF(
        edges=edges,
        powers=(halves[0].power, halves[1].power),
        bulk=_pieces(breaks, coefficients),
        tails=(halves[0].tail(), halves[1].tail()),
    )


class _Half:
    """One side of the law, with the exponent that makes its inverse smooth at the edge."""

    def __init__(self, side: Side):
        self._side = side
        self.power = 1.0 / (1.0 + side.exponent)
        self._total = float(side.mass(np.array([side.reach]))[0])
        self._tail = min(_TAIL, 0.5 * self._total)

    def bulk(self) -> tuple[np.ndarray, np.ndarray]:
        """Breaks in u from the tail to the middle, and coefficients of the distance d."""
        return _interpolate(
            lambda u: self._distance(u**self.power),
            lambda _, d: self._mass(d),
            1.0,
            self._tail,
            self._total,
        )

    def tail(self) -> Pieces:
        """P over s ∈ [0, s_tail]."""
        breaks, coefficients = _interpolate(
            lambda s: self._distance(s) / s,
            lambda s, p: self._mass(s * p),
            self.power,
            0.0,
            self._tail**self.power,
        )
        return _pieces(breaks, coefficients)

    def _mass(self, d: np.ndarray) -> np.ndarray:
        return self._side.mass(np.clip(d, 0.0, self._side.reach))

    def _distance(self, s: np.ndarray) -> np.ndarray:
        """Solve mass(d) = s^(α+1) for d, by bracketing in s, where it is nearly linear."""
        reach = np.full_like(s, self._side.reach)
        root = find_root(
            lambda d, s: self._side.mass(d) ** self.power - s, (np.zeros_like(s), reach), args=(s,)
        )
        # At the middle rounding may put s a hair above the greatest value: no bracket.
        return np.where(root.success, root.x, reach)


def _interpolate(function, mass, power: float, left: float, right: float):
    """Piecewise interpolant on [left, right], halved until its u-error is small.

    Parameters
    ----------
    function : callable (points) -> values
        What is interpolated.
    mass : callable (points, values) -> probability that the values stand for
    power : float
        points = u^power for the probability u that they should stand for.
    left, right : float

    Returns
    -------
    breaks : (n + 1,)
    coefficients : (n, degree + 1)
        Monomials in the local variable of each piece.
    """
    nodes = chebyshev.chebpts1(_DEGREE + 1)
    to_chebyshev = np.linalg.inv(chebyshev.chebvander(nodes, _DEGREE))
    between = np.cos(np.pi * np.arange(_DEGREE + 2) / (_DEGREE + 1))  # where the error peaks
    powers_between = np.vander(between, _DEGREE + 1, increasing=True)
    starts, ends = np.array([left]), np.array([right])

    def to_u(points):
        return points ** (1.0 / power)

    done: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(_HALVINGS):
        centre, half = 0.5 * (starts + ends)[:, np.newaxis], 0.5 * (ends - starts)[:, np.newaxis]
        points = centre + half * nodes
        values = function(points.ravel()).reshape(points.shape)
        # In two steps: the product of both matrices would amplify rounding a thousandfold.
        coefficients = (values @ to_chebyshev.T) @ _TO_MONOMIALS
        checked = np.maximum(centre + half * between, left).ravel()
        error = mass(checked, (coefficients @ powers_between.T).ravel()) - to_u(checked)
        worst = np.abs(error).reshape(points.shape[0], -1).max(axis=1)
        good = worst <= _U_ERROR
        # In a gap or a tail with less mass than the accuracy, any value between will do.
        narrow = ~good & (to_u(ends) - to_u(starts) <= _U_ERROR)
        coefficients[narrow] = 0.0
        coefficients[narrow, 0] = function(ends[narrow])
        good |= narrow
        done.append((starts[good], coefficients[good]))
        starts, ends, centre = starts[~good], ends[~good], centre[~good, 0]
        if not 0 < starts.size <= _MOST_PIECES:
            break
        # Halve the length or the probability, whichever lies nearer to the edge: at a singular one
        # half of the length holds nearly all of the probability.
        middle = np.minimum(centre, (0.5 * (to_u(starts) + to_u(ends))) ** power)
        starts, ends = np.append(starts, middle), np.append(middle, ends)
    if starts.size:
        raise InputError(
            f"inverse CDF: u-error {worst.max():.0e} with {starts.size} pieces to halve; "
            f"expected a density smooth enough for {_U_ERROR:.0e}"
        )
    first = np.concatenate([start for start, _ in done])
    order = np.argsort(first)
    return np.append(first[order], right), np.concatenate([c for _, c in done])[order]


def _pieces(breaks: np.ndarray, coefficients: np.ndarray) -> Pieces:
    bins = np.linspace(breaks[0], breaks[-1], _BINS, endpoint=False)
    guide = np.searchsorted(breaks, bins, side="right") - 1
    return Pieces(breaks, 2.0 / np.diff(breaks), np.ascontiguousarray(coefficients), guide)


# Row k: the Chebyshev polynomial T_k in monomials.
_TO_MONOMIALS = np.stack(
    [
        np.pad(chebyshev.cheb2poly(np.eye(_DEGREE + 1)[k, : k + 1]), (0, _DEGREE - k))
        for k in range(_DEGREE + 1)
    ]
)


@njit(inline="always")
def _polynomial(argument, start, bins_per_unit, breaks, slopes, coefficients, guide):
    piece = guide[min(int((argument - start) * bins_per_unit), _BINS - 1)]
    while argument >= breaks[piece + 1]:
        piece += 1
    t = (argument - breaks[piece]) * slopes[piece] - 1.0
    value = coefficients[piece, _DEGREE]
    for k in range(_DEGREE - 1, -1, -1):
        value = value * t + coefficients[piece, k]
    return value


@njit(cache=True, fastmath={"contract"})  # Horner as fused multiply-adds
def _evaluate_bulk(u, breaks, slopes, coefficients, guide, x):
    start, end = breaks[0], breaks[-1]
    bins_per_unit = _BINS / (end - start)
    for j in range(u.size):
        if start <= u[j] < end:
            x[j] = _polynomial(u[j], start, bins_per_unit, breaks, slopes, coefficients, guide)


@njit(cache=True)
def _evaluate_tail(tail, power, breaks, slopes, coefficients, guide, distance):
    end = breaks[-1]
    bins_per_unit = _BINS / end
    # The greatest s belongs to the last piece, which is half open: stay below its end.
    below_end = np.nextafter(end, 0.0)
    for i in range(tail.size):
        s = tail[i] ** power
        argument = min(s, below_end)
        distance[i] = s * _polynomial(
            argument, 0.0, bins_per_unit, breaks, slopes, coefficients, guide
        )
