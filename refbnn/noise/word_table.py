"""Random words to numbers of a law: G = Q⁻¹ as a table of cubics, found by the bits of a float.

Formula
-------
A 32-bit word is a probability,

    z = G((word + ½) 2⁻³²).

G is steep where the density is small: in both tails, and in a gap between two peaks. There it
changes by the octave of the distance in probability: −log of it rules G where the law goes on, a
power where it has an edge. So words are cut where these places are,

    0 = c₀ < c₁ < … < c_k = 2³²,     c₁ … c_{k−1} 2³² times Q at the gaps, to the nearest word,

and the distance is counted from the nearer cut, d = min(word − c_j, c_{j+1} − 1 − word), on one of
2k sides. A float is made for that: d + ½ is rounded to float32 (relative error 1.5 · 2⁻²⁴ at most;
exact below 2²³), and its bits tell the octave, by the exponent, and one of 2^m equal parts of it,
by the top m bits of the mantissa: one shift is the index of the part, and the rest of the mantissa
is the place τ in it, exactly. On each part

    z = ((a₃τ + a₂)τ + a₁)τ + a₀,

the cubic through G at the four Chebyshev points that include the ends, so that parts meet. A part
that holds one number alone, or none, is that number's z. Both tails keep their resolution down to
2⁻³³ (for a normal law |z| = 6.3), without a logarithm or a branch, and one form serves all laws.

A gap is a minimum of the density to less than `SHALLOW` of the lower peak beside it. It may be
empty: no word falls in, and z jumps between two words.

m is the least number for which the error, checked between the points in float64 and with that of
rounding d, is within `ERROR` max(1, |z|). Cubics on parts of width h err by h⁴: m = 3 for the
normal law, 4 bits more for 65536 times the accuracy.

The idea of an index by exponent and top mantissa bits: de Schryver et al. 2012 ("A hardware
efficient random number generator for nonuniform distributions with arbitrary precision"), there for
circuits. They have one side; cuts at gaps are ours.

Range
-----
In float32 |z − G| ≤ `SINGLE_ERROR` max(1, |z|), with or without fused multiply-adds, at every
word. A law whose density falls to next to nothing otherwise than at its ends and in gaps may have
no such m: InputError then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numba import njit
from numpy.polynomial import chebyshev

from refbnn.errors import InputError
from refbnn.noise.law import Law
from refbnn.noise.numerical import NumericalLaw

ERROR = 5e-7  # of the cubics and of rounding d, in standard deviations or relative
SINGLE_ERROR = 1e-6  # theirs and that of evaluating them in float32
SHALLOW = 0.25  # of the lower peak: above, a minimum is no gap
_FEWEST, _MOST = 2, 10  # bits m
_WORDS = 1 << 32
_ROUNDING = 1.5 * 2.0**-24  # relative, of d + ½ from 2²³
_LEAST_EXPONENT = 126  # in the bits of ½
_MANTISSA = 23
_TAIL = 2.0**-10  # where G over u from above gives way to its upper tail over v
_BETWEEN = np.linspace(0.0, 1.0, 17)[1:-1]
_QUANTILES, _PER_QUANTILE = 1024, 64  # where gaps are looked for
_LEAST_LOG = -745.0  # of a density: 0 in float64


@dataclass(frozen=True)
class BitTable:
    """The table of a law; call it with words.

    Parameters
    ----------
    m : int
        Bits of the mantissa in the index.
    cuts : (k + 1,) int64
        c_j, from 0 to 2³².
    coefficients : (2k · entries, 4) float32
        a₀ … a₃ of τ, side after side: above c₀, below c₁, above c₁, … `entries` are those of the
        longest side.
    """

    m: int
    cuts: np.ndarray
    coefficients: np.ndarray

    @property
    def entries(self) -> int:
        """Entries of one side."""
        return len(self.coefficients) // (2 * (len(self.cuts) - 1))

    @property
    def first(self) -> int:
        """Index of ½, as its bits give it."""
        return _LEAST_EXPONENT << self.m

    @property
    def shift(self) -> int:
        """From the bits of a float to its index."""
        return _MANTISSA - self.m

    def __call__(self, words: np.ndarray) -> np.ndarray:
        """Numbers of the law, float32, for words of any shape, uint32."""
        words = np.asarray(words, dtype=np.uint32).astype(np.int64)
        j = np.searchsorted(self.cuts, words, side="right") - 1
        below, above = words - self.cuts[j], self.cuts[j + 1] - 1 - words
        side = 2 * j + (above < below)
        bits = _rounded(np.minimum(below, above)).view(np.int32)
        index = (bits >> self.shift) - self.first + side * self.entries
        rest = (bits & ((1 << self.shift) - 1)) | np.float32(1.0).view(np.int32)
        tau = rest.view(np.float32) - np.float32(1.0)
        a0, a1, a2, a3 = np.moveaxis(self.coefficients[index], -1, 0)
        return ((a3 * tau + a2) * tau + a1) * tau + a0

    def loops(self, words: np.ndarray) -> np.ndarray:
        """As calling it, a word at a time and by arithmetic instead of bits; (n,)."""
        return _loops(words, self.m, self.cuts, self.coefficients)


def exact(law: Law, words: np.ndarray) -> np.ndarray:
    """What the table approximates: G((word + ½) 2⁻³²) in float64."""
    words = np.asarray(words, dtype=np.uint32)
    u = (words + 0.5) / _WORDS
    v = (_WORDS - 0.5 - words) / _WORDS
    return np.where(words < _WORDS // 2, _quantile(law, u), _from_above(law, v))


def gaps(law: Law) -> np.ndarray:
    """Gaps of a law's density, as values of Q, ascending."""
    from scipy.signal import find_peaks

    u = np.arange(1, _QUANTILES) / _QUANTILES
    z = np.unique(np.concatenate([cast(NumericalLaw, law).reach, law.icdf(u)]))
    grid = np.arange(_PER_QUANTILE) / _PER_QUANTILE
    z = (z[:-1, np.newaxis] + np.diff(z)[:, np.newaxis] * grid).ravel()
    log_q = np.maximum(law.log_pdf(z), _LEAST_LOG)
    return law.cdf(z[find_peaks(-log_q, prominence=-np.log(SHALLOW))[0]])


def bit_table(law: Law) -> BitTable:
    """Tabulate a law.

    Raises
    ------
    InputError
        If 2^10 parts an octave do not meet the error.
    """
    inner = np.round(gaps(law) * _WORDS).astype(np.int64)
    cuts = np.unique(np.clip(np.append(inner, [0, _WORDS]), 0, _WORDS))
    for m in range(_FEWEST, _MOST + 1):
        coefficients, error = _cubics(law, cuts, m)
        if error <= ERROR:
            return BitTable(m, cuts, coefficients.astype(np.float32))
    raise InputError(
        f"{type(law).__name__}: cubics on {1 << _MOST} parts of each octave miss its inverse CDF "
        f"by {error:.0e}; expected a density that falls off at its ends and between peaks alone"
    )


def _rounded(d: np.ndarray) -> np.ndarray:
    """Of whole numbers d + ½, in float32."""
    return d.astype(np.float32) + np.float32(0.5)


def _cubics(law: Law, cuts: np.ndarray, m: int) -> tuple[np.ndarray, float]:
    """Coefficients, (2k · entries, 4), and their greatest error, in units of max(1, |z|)."""
    farthest = _rounded((np.diff(cuts) - 1) // 2)
    shift, first = _MANTISSA - m, _LEAST_EXPONENT << m
    last = int(farthest.max().view(np.int32)) >> shift
    edges = (np.arange(first, last + 2, dtype=np.int32) << shift).view(np.float32).astype(float)
    start, width = edges[:-1, np.newaxis], np.diff(edges)[:, np.newaxis]
    nodes = 0.5 * (1.0 + chebyshev.chebpts2(4))
    to_monomials = np.linalg.inv(np.vander(nodes, increasing=True))
    powers = np.vander(_BETWEEN, 4, increasing=True)
    slopes = np.arange(1, 4) * powers[:, :3]
    all_coefficients, worst = [], 0.0
    for j, far in enumerate(farthest):
        for below in (False, True):

            def G(tau, cut=int(cuts[j + below]), below=below, far=far):
                # Of one number alone; of unused parts, any.
                d = np.where(width <= 1.0, np.floor(start) + 0.5, start + width * tau)
                return _beside(law, cut, np.where(start <= far, d, 0.5), below)

            values = G(nodes)
            # From the first value on: the matrix amplifies rounding, so of small differences alone.
            coefficients = (values - values[:, :1]) @ to_monomials.T
            coefficients[:, 0] = values[:, 0]
            z = G(_BETWEEN)
            error = np.abs(coefficients @ powers.T - z)
            steps = start / width + _BETWEEN  # d in widths
            error += _ROUNDING * steps * np.abs(coefficients[:, 1:] @ slopes.T)
            used = (start + width * _BETWEEN <= far) & (width > 1.0)
            error = error / np.maximum(1.0, np.abs(z))
            worst = max(worst, float(np.max(error, where=used, initial=0.0)))
            # τ runs over [0, 2⁻ᵐ]: the mantissa's rest as it stands, not scaled.
            all_coefficients.append(coefficients * 2.0 ** (m * np.arange(4)))
    return np.concatenate(all_coefficients), worst


def _beside(law: Law, cut: int, d: np.ndarray, below: bool) -> np.ndarray:
    """G at d words above a cut, or below it."""
    if not below:
        return _quantile(law, np.minimum((cut + d) / _WORDS, 1.0))
    if cut == _WORDS:
        return _from_above(law, d / _WORDS)
    return _quantile(law, np.maximum((cut - d) / _WORDS, 0.0))


def _quantile(law: Law, u: np.ndarray) -> np.ndarray:
    """G(u), accurate relative to u."""
    return cast(NumericalLaw, law).inverse.of_probabilities(u)


def _from_above(law: Law, v: np.ndarray) -> np.ndarray:
    """G(1 − v), accurate relative to v."""
    inverse = cast(NumericalLaw, law).inverse
    z = inverse.of_probabilities(1.0 - v)
    far = v <= _TAIL
    power, tail = inverse.powers[1], inverse.tails[1]
    if power == 0.0:
        d = tail(-np.log(v[far]))
    else:
        s = v[far] ** power
        d = s * tail(s)
    z[far] = np.clip(inverse.origins[1] - d, *inverse.ends)
    return z


@njit(cache=True)
def _loops(words, m, cuts, coefficients):
    z = np.empty(words.size, np.float32)
    entries = coefficients.shape[0] // (2 * (cuts.size - 1))
    for n in range(words.size):
        word = np.int64(words[n])
        j = 0
        while word >= cuts[j + 1]:
            j += 1
        side, d = 2 * j, word - cuts[j]
        if cuts[j + 1] - 1 - word < d:
            side, d = 2 * j + 1, cuts[j + 1] - 1 - word
        place = np.float32(d) + np.float32(0.5)
        octave = np.int64(-1)
        while place >= np.float32(2.0) ** np.float32(octave + 1):
            octave += 1
        # 1 ≤ scaled < 2: part and place within the octave, both exact in float64.
        scaled = np.float64(place) * 2.0 ** np.float64(-octave)
        part = np.int64((scaled - 1.0) * 2.0**m)
        tau = np.float32(scaled - 1.0 - part * 2.0**-m)
        a = coefficients[side * entries + (octave + 1) * 2**m + part]
        z[n] = ((a[3] * tau + a[2]) * tau + a[1]) * tau + a[0]
    return z
