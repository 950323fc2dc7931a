"""A law's quantile function G as a table of cubics, found by the bits of a float.

Formula
-------
A 32-bit random word is a probability,

    z = G((word + ½) 2⁻³²).

G is steep where the density is small: in both tails, and in a gap between two peaks. There its
argument is the octave of the distance in probability: G follows −log of the distance where the
support is unbounded, and a power of it at an edge. So words are cut at these probabilities,

    0 = c₀ < c₁ < … < c_k = 2³²,     c₁ … c_{k−1} 2³² times Q at the gaps, to the nearest word,

and the distance is counted from the nearer cut, d = min(word − c_j, c_{j+1} − 1 − word), on one of
2k sides. The bits of a float hold such an octave: d + ½ is rounded to float32 (relative error
1.5 · 2⁻²⁴ at most; exact below 2²³); its exponent is the octave, the top m bits of its mantissa
number one of 2^m equal parts of it, and the rest of the mantissa is the place τ in the part,
exactly. One shift yields the index of the part. On each part

    z = ((a₃τ + a₂)τ + a₁)τ + a₀,

the cubic through G at the four Chebyshev points that include the ends, so that parts meet. A part
that holds one number alone, or none, is that number's z. Both tails keep their resolution down to
2⁻³³ (for a normal law |z| = 6.3), without a logarithm or a branch, and one form serves all laws.

A gap is a minimum of the density to less than `SHALLOW` of the lower peak beside it. It may be
empty: no word falls in, and z jumps between two words.

m is the least number for which the error, checked between the points in float64 and with that of
rounding d, is within `ERROR` max(1, |z|). Cubics on parts of width h err by h⁴: m = 3 for the
normal law, 4 bits more for 65536 times the accuracy.

Source: the index by exponent and top mantissa bits is the idea of de Schryver et al. 2012 ("A
hardware efficient random number generator for nonuniform distributions with arbitrary precision"),
there for circuits and with one side; cuts at gaps are ours.

Range
-----
In float32 |z − G| ≤ `SINGLE_ERROR` max(1, |z|), with or without fused multiply-adds, at every
word. InputError for a law whose density falls to next to nothing elsewhere than at its ends and in
gaps, since no m may do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.polynomial import chebyshev

from refbnn.errors import InputError
from refbnn.noise.law import Law
from refbnn.noise.numerical import NumericalLaw
from refbnn.numerics.arrays import real_array
from refbnn.numerics.inverse_cdf import TAIL, InverseCDF

ERROR = 5e-7  # of the cubics and of rounding d, in standard deviations or relative
SINGLE_ERROR = 1e-6  # with the error of evaluating them in float32
SHALLOW = 0.25  # of the lower peak: a minimum above this is no gap
_FEWEST, _MOST = 2, 10  # bits m
_WORDS = 1 << 32
_ROUNDING = 1.5 * 2.0**-24  # relative, of d + ½ from 2²³
_LEAST_EXPONENT = 126  # in the bits of ½
_MANTISSA = 23
_BETWEEN = np.linspace(0.0, 1.0, 17)[1:-1]
_QUANTILES, _PER_QUANTILE = 1024, 64  # grid on which gaps are looked for
_LEAST_LOG = -745.0  # of a density: 0 in float64


@dataclass(frozen=True, eq=False)
class WordTable:
    """The table of a law; call it with random words."""

    m: int  # bits of the mantissa in the index
    cuts: np.ndarray  # (k + 1,) int64: c_j, from 0 to 2³²
    # (2k · entries, 4) float32: a₀ … a₃, side after side: above c₀, below c₁, above c₁, … Every
    # side has as many entries as the longest one.
    coefficients: np.ndarray

    @property
    def entries(self) -> int:
        """Entries of one side."""
        return len(self.coefficients) // (2 * (len(self.cuts) - 1))

    @property
    def first(self) -> int:
        """Index that the bits of ½ give."""
        return _LEAST_EXPONENT << self.m

    @property
    def shift(self) -> int:
        """Number of bits to shift a float's bits by, to obtain its index."""
        return _MANTISSA - self.m

    def __call__(self, words: np.ndarray) -> np.ndarray:
        """Numbers of the law, float32, for words of any shape, whole numbers below 2³²."""
        words = _checked(words).astype(np.int64)
        j = np.searchsorted(self.cuts, words, side="right") - 1
        below, above = words - self.cuts[j], self.cuts[j + 1] - 1 - words
        side = 2 * j + (above < below)
        bits = _half_after(np.minimum(below, above)).view(np.int32)
        index = (bits >> self.shift) - self.first + side * self.entries
        rest = (bits & ((1 << self.shift) - 1)) | np.float32(1.0).view(np.int32)
        tau = rest.view(np.float32) - np.float32(1.0)
        a0, a1, a2, a3 = np.moveaxis(self.coefficients[index], -1, 0)
        return ((a3 * tau + a2) * tau + a1) * tau + a0


def exact(law: Law, words: np.ndarray) -> np.ndarray:
    """G((word + ½) 2⁻³²) in float64, which the table approximates."""
    inverse = cast(NumericalLaw, law).inverse
    words = _checked(words)
    u = (words + 0.5) / _WORDS
    v = (_WORDS - 0.5 - words) / _WORDS
    return np.where(words < _WORDS // 2, inverse.of_probabilities(u), _from_above(inverse, v))


def _checked(words: np.ndarray) -> np.ndarray:
    """Words as uint32; InputError unless they are whole numbers from 0 to 2³² − 1."""
    given = real_array(words, "words")
    if given.dtype == np.uint32:
        return given
    inside = (given >= 0) & (given < _WORDS)
    if not inside.all() or (given != np.floor(given)).any():
        raise InputError("words are no 32-bit words; expected whole numbers from 0 to 2^32 - 1")
    return given.astype(np.uint32)


def gaps(law: Law) -> np.ndarray:
    """Gaps of a law's density, as values of Q, ascending."""
    from scipy.signal import find_peaks

    u = np.arange(1, _QUANTILES) / _QUANTILES
    z = np.unique(np.concatenate([law.reach, law.icdf(u)]))
    grid = np.arange(_PER_QUANTILE) / _PER_QUANTILE
    z = (z[:-1, np.newaxis] + np.diff(z)[:, np.newaxis] * grid).ravel()
    log_q = np.maximum(law.log_pdf(z), _LEAST_LOG)
    return law.cdf(z[find_peaks(-log_q, prominence=-np.log(SHALLOW))[0]])


def word_table(law: Law) -> WordTable:
    """Tabulate a law; InputError if 2¹⁰ parts an octave do not meet the error."""
    inner = np.round(gaps(law) * _WORDS).astype(np.int64)
    cuts = np.unique(np.clip(np.append(inner, [0, _WORDS]), 0, _WORDS))
    inverse = cast(NumericalLaw, law).inverse
    for m in range(_FEWEST, _MOST + 1):
        coefficients, error = _cubics(inverse, cuts, m)
        if error <= ERROR:
            return WordTable(m, cuts, coefficients.astype(np.float32))
    raise InputError(
        f"{type(law).__name__}: cubics on {1 << _MOST} parts of each octave miss its inverse CDF "
        f"by {error:.0e}; expected a density that falls off at its ends and between peaks alone"
    )


def _half_after(d: np.ndarray) -> np.ndarray:
    """d + ½ for whole numbers d, rounded to float32."""
    return d.astype(np.float32) + np.float32(0.5)


def _cubics(inverse: InverseCDF, cuts: np.ndarray, m: int) -> tuple[np.ndarray, float]:
    """Coefficients (2k · entries, 4), and their greatest error in units of max(1, |z|)."""
    farthest = _half_after((np.diff(cuts) - 1) // 2)
    shift, first = _MANTISSA - m, _LEAST_EXPONENT << m
    last = int(farthest.max().view(np.int32)) >> shift
    edges = (np.arange(first, last + 2, dtype=np.int32) << shift).view(np.float32).astype(float)
    sides = [
        _side_cubics(inverse, int(cuts[j + below]), below, edges, far)
        for j, far in enumerate(farthest)
        for below in (False, True)
    ]
    # τ runs over [0, 2⁻ᵐ]: the mantissa's rest as it stands, not scaled.
    scaled = [coefficients * 2.0 ** (m * np.arange(4)) for coefficients, _ in sides]
    return np.concatenate(scaled), max(error for _, error in sides)


def _side_cubics(inverse: InverseCDF, cut: int, below: bool, edges, far):
    """Cubics over [0, 1] on the parts between edges, up to the distance far, and their error."""
    start, width = edges[:-1, np.newaxis], np.diff(edges)[:, np.newaxis]

    def G(tau):
        # A part of one number holds that number alone; unused parts hold any.
        d = np.where(width <= 1.0, np.floor(start) + 0.5, start + width * tau)
        return _beside(inverse, cut, np.where(start <= far, d, 0.5), below)

    nodes = 0.5 * (1.0 + chebyshev.chebpts2(4))
    to_monomials = np.linalg.inv(np.vander(nodes, increasing=True))
    values = G(nodes)
    # From the first value on: the matrix amplifies rounding, so of small differences alone.
    coefficients = (values - values[:, :1]) @ to_monomials.T
    coefficients[:, 0] = values[:, 0]
    z = G(_BETWEEN)
    powers = np.vander(_BETWEEN, 4, increasing=True)
    error = np.abs(coefficients @ powers.T - z)
    steps = start / width + _BETWEEN  # d in widths
    slopes = np.arange(1, 4) * powers[:, :3]
    error += _ROUNDING * steps * np.abs(coefficients[:, 1:] @ slopes.T)
    used = (start + width * _BETWEEN <= far) & (width > 1.0)
    error = error / np.maximum(1.0, np.abs(z))
    return coefficients, float(np.max(error, where=used, initial=0.0))


def _beside(inverse: InverseCDF, cut: int, d: np.ndarray, below: bool) -> np.ndarray:
    """G at d words above a cut, or below it."""
    if not below:
        return inverse.of_probabilities(np.minimum((cut + d) / _WORDS, 1.0))
    if cut == _WORDS:
        return _from_above(inverse, d / _WORDS)
    return inverse.of_probabilities(np.maximum((cut - d) / _WORDS, 0.0))


def _from_above(inverse: InverseCDF, v: np.ndarray) -> np.ndarray:
    """G(1 − v), accurate relative to v."""
    z = inverse.of_probabilities(1.0 - v)
    far = v <= TAIL
    power, tail = inverse.powers[1], inverse.tails[1]
    if power == 0.0:
        d = tail(-np.log(v[far]))
    else:
        s = v[far] ** power
        d = s * tail(s)
    z[far] = np.clip(inverse.origins[1] - d, *inverse.ends)
    return z
