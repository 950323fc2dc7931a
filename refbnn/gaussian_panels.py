"""Nodes and weights for E[f(x)], x ~ N(m, s²), where f changes on a scale of its own.

Formulas
--------
With x = m + t, t = sz:

    E[f] − f(m) = E[d],  Var[f] = E[(d − E[d])²],  d(t) = f(m + t) − f(m).

Given d to relative accuracy, nothing cancels however small s is or however flat f: the sums below
have positive weights and are taken about their mean. Gauss–Hermite nodes know only the scale s;
for large s the function becomes a step that they miss. Here z runs from −r, r = 9.5, to where φ is
e^{−r²/2} = 3e-20 of its value at z = 0 or, if m < 0, at x = 0: a function that is small left of 0
has most of its moments right of it, however improbable. The interval is cut into panels, at the
knots of f (0 among them), places x between which f is a short polynomial but for rounding; each
panel has 16 Gauss–Legendre nodes. A panel is 2.5 long at most, and shorter in the tail right of
x = 0 < z, where φ falls by no more than e⁻¹⁶ on it.

Beyond z = 38, φ(z) underflows; nothing is sought there.
"""

from __future__ import annotations

import math

from numba import njit
from numpy.polynomial import legendre

_REACH = 9.5
_WIDTH = 2.5
_FALL = 16.0
_FARTHEST = 38.0
_NODES, _WEIGHTS = legendre.leggauss(16)


def room(knots):
    """Greatest number of nodes that `nodes` makes."""
    longest = 2.0 * _REACH + _FARTHEST
    shortest_tail = _REACH / (_FALL / math.hypot(_REACH, _FARTHEST))
    return _NODES.size * (math.ceil(longest / _WIDTH + shortest_tail) + 2 + len(knots))


@njit(cache=True, error_model="numpy")
def nodes(m, s, knots, t, w):
    """Write nodes t = x − m and weights, Σ w f(m + t) ≈ E[f(x)]; return their number.

    Parameters
    ----------
    m, s : float, s > 0
    knots : ndarray
        Ascending.
    t, w : ndarray, with `room` for the nodes
    """
    zero = min(max(-m / s, 0.0), _FARTHEST)
    end = math.hypot(zero, _REACH)
    left, count, knot = -_REACH, 0, 0
    while left < end:
        while knot < knots.size and (knots[knot] - m) / s <= left:
            knot += 1
        width = min(_WIDTH, _FALL / left) if left >= zero > 0.0 else _WIDTH
        right = min(left + width, end)
        if knot < knots.size:
            right = min(right, (knots[knot] - m) / s)
        half = 0.5 * (right - left)
        for k in range(_NODES.size):
            z = left + half * (1.0 + _NODES[k])
            t[count] = s * z
            w[count] = half * _WEIGHTS[k] * math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
            count += 1
        left = right
    return count


@njit(cache=True)
def shift_and_variance(d, w):
    """E[d] and E[(d − E[d])²] from values and weights at the nodes."""
    shift, var = 0.0, 0.0
    for k in range(d.size):
        shift += w[k] * d[k]
    for k in range(d.size):
        away = d[k] - shift
        var += (w[k] * away) * away  # in this order nothing overflows before the sum does
    return shift, var
