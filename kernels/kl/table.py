"""Table of 1 − 2Q and −2M of a law, for the kink of a Laplace prior: cubics by the bits of a float.

Formula
-------
At t = −µ/σ, where the kink of a Laplace prior lies among a law's z, `refbnn.training.kl.kl` has

    E|θ| = µB + σS,   ∂/∂µ = B,   ∂/∂σ = S,      B(t) = 1 − 2Q(t),   S(t) = −2M(t).

B and S are smooth except at the ends of a support and at spikes and jumps of the density. There
they change with each octave of the distance. Cuts c₁ < … < c_k lie in such places, and t is taken
relative to the nearest cut, e = t − c, on one of 2k sides: above or below c_j. d = |e| is formed in
float64, and d + h rounded to float32, h a power of 2: within h of a cut parts are equally long,
beyond they grow with d. The exponent and the top m bits of the mantissa are the index of the part,
the other bits the place τ in it, exactly, as in `refbnn.noise.word_table`; on each part

    B = ((a₃τ + a₂)τ + a₁)τ + a₀,

S likewise, the cubics through four Chebyshev points that include the ends, so that parts meet.
Parts end at d_max, beyond all that is nearest to a cut; there B is ±1 and S is 0, exactly, as they
are beyond the ends of a support.

The first cuts are the ends of the support, or the median where there are none. h is halved while
the worst part is within h of a cut, m raised up to 6 while it is elsewhere. If that does not
suffice, the worst part gets a cut: at an end of the narrowest of the law's panels, since these
(`refbnn.numerics.piecewise_density`) are narrow around spikes and jumps. Most tables take 5 to 50
KB. Where the density is d^−0.95 at an end, they span 54 octaves of d and take up to 400 KB; few of
these are read.

Range
-----
B is good to `ERROR`, S to `ERROR` E|z|, checked between the points in float64, with the rounding of
d + h; evaluation in float32 adds 2e-7 and 2e-7 E|z|. t carries the rounding of float64, as in the
reference: towards an end where the density goes like d^α, α < −0.65, neither knows Q better than to
(1e-16)^(α+1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.polynomial import chebyshev

from kernels.arithmetic.polynomials import MANTISSA
from refbnn.errors import InputError
from refbnn.noise import Law
from refbnn.noise.numerical import NumericalLaw

ERROR = 1e-6  # a tenth of what KL is stated to
_FEWEST, _MOST = 2, 6  # bits m
_MOST_CUTS = 16
_AROUND = 8.0  # lengths of a part, within which the panels of a wider spike are looked for
_LEAST_EXPONENT = -60  # of h
_ROUNDING = 2.0**-24  # relative, of d + h
_BETWEEN = np.linspace(0.0, 1.0, 10)[1:-1] ** 2  # towards 0: there a singular end is worst
_NODES = 0.5 * (1.0 + chebyshev.chebpts2(4))
_TO_MONOMIALS = np.linalg.inv(np.vander(_NODES, increasing=True))
_POWERS = np.vander(_BETWEEN, 4, increasing=True)


@dataclass(frozen=True, eq=False)
class Table:
    """The table of a law.

    Parameters
    ----------
    m : int
        Bits of the mantissa in the index.
    h : float
    cuts : (k,), ascending
    coefficients : (2k · entries, 8) float32
        a₀ … a₃ of B, then of S; one side after another: above c₁, below c₁, above c₂, …
    """

    m: int
    h: float
    cuts: np.ndarray
    coefficients: np.ndarray

    @property
    def middles(self) -> np.ndarray:
        """Places where the nearest cut changes, (k − 1,)."""
        return 0.5 * (self.cuts[1:] + self.cuts[:-1])

    @property
    def entries(self) -> int:
        """Entries of one side; the last covers d_max and beyond."""
        return len(self.coefficients) // (2 * len(self.cuts))

    @property
    def first(self) -> int:
        """Index that the bits of h give."""
        return int(np.float32(self.h).view(np.int32)) >> (MANTISSA - self.m)

    @property
    def last(self) -> float:
        """h + d_max."""
        bits = np.array((self.first + self.entries - 1) << (MANTISSA - self.m), np.int32)
        return float(bits.view(np.float32))


def table(law: Law) -> Table:
    """Tabulate a law.

    Raises
    ------
    InputError
        If cuts and parts do not meet the error.
    """
    bounded = bool(np.isfinite(law.support).all())
    cuts = np.array(law.support) if bounded else law.icdf(np.array([0.5]))
    while True:
        for m in range(_FEWEST, _MOST + 1):
            found, error, part = _fitted(law, cuts, m)
            if error <= ERROR:
                return found
        cut = _new_cut(law, cuts, *part)
        if cut is None or cuts.size == _MOST_CUTS:
            raise InputError(
                f"KL from a Laplace prior: cubics miss the law {type(law).__name__} by {error:.0e} "
                f"near {part[0]:.6g}; expected at most {_MOST_CUTS} ends, spikes and jumps"
            )
        cuts = np.sort(np.append(cuts, cut))


def _fitted(law: Law, cuts: np.ndarray, m: int) -> tuple[Table, float, tuple[float, float]]:
    """Fit a table, halving h while the worst part is next to a cut; its error and worst part."""
    low, high = law.reach
    bounded = bool(np.isfinite(law.support).all())
    middles = 0.5 * (cuts[1:] + cuts[:-1])
    reaches = np.stack([np.append(middles, high) - cuts, cuts - np.append(low, middles)], axis=1)
    exponent = int(np.ceil(np.log2(reaches.max())))
    while True:
        h = 2.0**exponent
        edges = _edges(h, m, reaches.max())
        sides, errors = [], []
        for j, cut in enumerate(cuts):
            for below in (False, True):
                # From an end inwards, which may be singular: distances are exact, places rounded.
                end = bounded and j == (len(cuts) - 1 if below else 0)
                coefficients, error = _side(law, cut, below, end, edges, reaches[j, int(below)], h)
                sides.append(coefficients * np.tile(2.0 ** (m * np.arange(4)), 2))
                errors.append(error)
        side, part = np.unravel_index(np.argmax(errors), np.shape(errors))
        worst = float(errors[side][part])
        if worst <= ERROR or part >= 1 << m or exponent == _LEAST_EXPONENT:
            found = Table(m, h, cuts, np.concatenate(sides).astype(np.float32))
            sign = -1.0 if side % 2 else 1.0
            first, last = np.sort(cuts[side // 2] + sign * edges[part : part + 2])
            return found, worst, (first, last)
        exponent -= 1


def _edges(h: float, m: int, farthest: float) -> np.ndarray:
    """Distances d at which parts begin, up to d_max."""
    octaves = int(np.ceil(np.log2(farthest / h + 1.0)))
    starts = np.outer(2.0 ** np.arange(octaves), 1.0 + np.arange(1 << m) / (1 << m)).ravel()
    return h * (np.append(starts, 2.0**octaves) - 1.0)


def _side(law: Law, cut: float, below: bool, end: bool, edges: np.ndarray, reach: float, h: float):
    """Coefficients of one side's parts for τ over [0, 1], (n + 1, 8), and their errors, (n,).

    An error is that of B, or that of S in units of E|z|, whichever is larger.
    """
    sign = -1.0 if below else 1.0
    start, width = edges[:-1, np.newaxis], np.diff(edges)[:, np.newaxis]
    d = start + width * _BETWEEN
    # Distances below the spacing of float64, or nearer to another cut, do not count.
    counts = (d >= np.spacing(abs(cut))) & (d <= reach)
    blocks, errors = [], np.zeros(len(start))
    both = zip(
        _balance_and_spread(law, cut, sign, end, start + width * _NODES),
        _balance_and_spread(law, cut, sign, end, d),
        (1.0, -2.0 * float(law.partial_mean(np.array(0.0)))),
        (-sign, 0.0),
        strict=True,
    )
    for values, exact, unit, limit in both:
        a = (values - values[:, :1]) @ _TO_MONOMIALS.T
        a[:, 0] = values[:, 0]
        slopes = np.abs(a[:, 1:] @ (np.arange(1, 4) * _POWERS[:, :3]).T)
        error = np.abs(a @ _POWERS.T - exact) + _ROUNDING * (d + h) / width * slopes
        errors = np.maximum(errors, np.max(error, axis=1, where=counts, initial=0.0) / unit)
        blocks.append(np.vstack([a, [limit, 0.0, 0.0, 0.0]]))
    return np.concatenate(blocks, axis=1), errors


def _balance_and_spread(law: Law, cut: float, sign: float, end: bool, d: np.ndarray):
    """B and S at a distance from a cut, of d's shape."""
    if end:
        probability, mean = cast(NumericalLaw, law).within(0 if sign > 0.0 else 1, d)
        return sign * (1.0 - 2.0 * probability), -2.0 * sign * mean
    t = cut + sign * d
    return 1.0 - 2.0 * law.cdf(t), -2.0 * law.partial_mean(t)


def _new_cut(law: Law, cuts: np.ndarray, low: float, high: float) -> float | None:
    """End of the narrowest of the law's panels that end in a part or, if none does, around it."""
    ends = np.setdiff1d(cast(NumericalLaw, law).panel_ends, cuts)
    widths = np.diff(ends)
    beside = np.minimum(np.append(widths, np.inf), np.append(np.inf, widths))
    for room in (0.0, _AROUND * (high - low)):
        near = (ends > low - room) & (ends < high + room)
        if near.any():
            return float(ends[near][np.argmin(beside[near])])
    return None
