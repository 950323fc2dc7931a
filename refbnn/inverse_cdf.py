"""Inverse distribution function of a bounded law, with the edge exponents factored out.

Formula
-------
Near the lower edge a density C (x − a)^α has Q(x) ≈ C (x − a)^{α+1}/(α + 1), so G = Q⁻¹ is a
smooth function not of u but of s = u^{1/(α+1)}. Write d = x − a for the distance to the edge:

    d = s·P(s),  P smooth and positive on [0, s_max],

and likewise from the upper edge with v = 1 − u. P is a piecewise polynomial, interpolated at
Chebyshev points; a piece that misses the accuracy is halved, so that pieces gather where the
density nearly vanishes. A guide table over s finds the piece of a given u in one step or two. The
factor s keeps the *relative* accuracy of d at the edge, for vanishing (α > 0), finite (α = 0) and
singular (α < 0) densities alike.

Source: the edge correction is the idea of arXiv 2501.05564, section 3.1.3 and figure 3; the form
with P is derived above.

Range
-----
|Q(G(u)) − u| ≤ 1e-13 between the interpolation points, plus rounding; in exact arithmetic on d.
At a singular edge the argument itself limits: x = a + d rounds d to 1e-16·|a|.
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
_HALVINGS = 60  # a piece this small is below rounding of s
_U_ERROR = 1e-13


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
    """P(s) for one half: piece i covers [breaks[i], breaks[i+1]].

    Parameters
    ----------
    power : float
        1/(α + 1), from u to s.
    breaks : (n + 1,)
    slopes : (n,)
        2/length of each piece, from s to the local variable in [−1, 1].
    coefficients : (n, degree + 1)
        In powers of the local variable, constant first.
    guide : (bins,) of int
        Piece that holds the left end of each of equal bins of [0, breaks[n]].
    """

    power: float
    breaks: np.ndarray
    slopes: np.ndarray
    coefficients: np.ndarray
    guide: np.ndarray


@dataclass(frozen=True)
class InverseCDF:
    """G of a whole law; call it with u in [0, 1] of any shape.

    Parameters
    ----------
    edges : (float, float)
        Ends of the support.
    split : float
        Probability of the lower half.
    lower, upper : Pieces
    """

    edges: tuple[float, float]
    split: float
    lower: Pieces
    upper: Pieces

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """G(u); InputError where u leaves [0, 1]."""
        u = np.asarray(u, dtype=float)
        if u.size and not (u.min() >= 0.0 and u.max() <= 1.0):
            raise InputError("icdf: u holds entries outside [0, 1] or NaN; expected probabilities")
        x = np.empty(u.size)
        sides = [
            (p.power, p.breaks, p.slopes, p.coefficients, p.guide) for p in (self.lower, self.upper)
        ]
        _evaluate(u.ravel(), self.edges, self.split, *sides, x)
        return x.reshape(u.shape)


def build(edges: tuple[float, float], lower: Side, upper: Side) -> InverseCDF:
    """Interpolate G to the stated u-error; `edges` are the ends of the support.

    Raises
    ------
    InputError
        If halving pieces does not reach the u-error.
    """
    split = float(lower.mass(np.array([lower.reach]))[0])
    return InverseCDF(edges, split, _interpolate(lower), _interpolate(upper))


def _interpolate(side: Side) -> Pieces:
    power = 1.0 / (1.0 + side.exponent)
    s_max = float(side.mass(np.array([side.reach]))[0]) ** power
    nodes = chebyshev.chebpts1(_DEGREE + 1)
    to_chebyshev = np.linalg.inv(chebyshev.chebvander(nodes, _DEGREE))
    between = np.cos(np.pi * np.arange(_DEGREE + 2) / (_DEGREE + 1))  # where the error peaks
    powers_between = np.vander(between, _DEGREE + 1, increasing=True)

    left, right = np.array([0.0]), np.array([s_max])
    done: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(_HALVINGS):
        centre, half = 0.5 * (left + right), 0.5 * (right - left)
        s = centre[:, np.newaxis] + half[:, np.newaxis] * nodes
        values = _distance(side, s.ravel(), power).reshape(s.shape) / s
        # In two steps: the product of both matrices would amplify rounding a thousandfold.
        coefficients = (values @ to_chebyshev.T) @ _TO_MONOMIALS
        s = np.maximum(centre[:, np.newaxis] + half[:, np.newaxis] * between, 0.0)
        d = np.clip(s * (coefficients @ powers_between.T), 0.0, side.reach)
        error = side.mass(d.ravel()).reshape(s.shape) - s ** (1.0 / power)
        good = np.abs(error).max(axis=1) <= _U_ERROR
        # A tail below the accuracy, where the density vanishes faster than any power: d ∝ s.
        tail = ~good & (right ** (1.0 / power) <= _U_ERROR)
        coefficients[tail] = 0.0
        coefficients[tail, 0] = _distance(side, right[tail], power) / right[tail]
        good |= tail
        done.append((left[good], coefficients[good]))
        left, right, centre = left[~good], right[~good], centre[~good]
        if not left.size:
            break
        left, right = np.append(left, centre), np.append(centre, right)
    else:
        raise InputError(
            f"inverse CDF: u-error {np.abs(error).max():.0e} after {_HALVINGS} halvings; "
            f"expected a density smooth enough for {_U_ERROR:.0e}"
        )
    starts = np.concatenate([start for start, _ in done])
    order = np.argsort(starts)
    breaks = np.append(starts[order], s_max)
    bins = np.linspace(0.0, s_max, 4 * order.size, endpoint=False)
    guide = np.searchsorted(breaks, bins, side="right") - 1
    coefficients = np.concatenate([c for _, c in done])[order]
    return Pieces(power, breaks, 2.0 / np.diff(breaks), coefficients, guide)


# Row k: the Chebyshev polynomial T_k in monomials.
_TO_MONOMIALS = np.stack(
    [
        np.pad(chebyshev.cheb2poly(np.eye(_DEGREE + 1)[k, : k + 1]), (0, _DEGREE - k))
        for k in range(_DEGREE + 1)
    ]
)


def _distance(side: Side, s: np.ndarray, power: float) -> np.ndarray:
    """Solve mass(d) = s^(α+1) for d, by bracketing in s, where the function is nearly linear."""

    def residual(d, s):
        return side.mass(d) ** power - s

    upper = np.full_like(s, side.reach)
    root = find_root(residual, (np.zeros_like(s), upper), args=(s,))
    # At the far end rounding may put s a hair above the function's greatest value: no bracket.
    return np.where(root.success, root.x, upper)


@njit(inline="always")
def _edge_distance(tail, side):
    power, breaks, slopes, coefficients, guide = side
    last = slopes.size - 1
    s = tail if power == 1.0 else tail**power
    piece = guide[min(int(s * (guide.size / breaks[last + 1])), guide.size - 1)]
    while piece < last and s >= breaks[piece + 1]:
        piece += 1
    t = (s - breaks[piece]) * slopes[piece] - 1.0
    p = coefficients[piece, _DEGREE]
    for k in range(_DEGREE - 1, -1, -1):
        p = p * t + coefficients[piece, k]
    return s * p


@njit(cache=True, fastmath={"contract"})  # Horner as fused multiply-adds
def _evaluate(u, edges, split, lower, upper, x):
    for j in range(u.size):
        if u[j] <= split:
            x[j] = min(edges[0] + _edge_distance(u[j], lower), edges[1])
        else:
            x[j] = max(edges[1] - _edge_distance(1.0 - u[j], upper), edges[0])
