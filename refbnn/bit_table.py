"""Random words to numbers of a law: G = Q⁻¹ as a table of cubics, found by the bits of a float.

Formula
-------
The top bit of a 32-bit word tells the side, the other 31 bits w how far out:

    v = (w + ½) 2⁻³² ∈ (0, ½);      z = G(v) if the top bit is 0,  G(1 − v) if it is 1.

Each side has the tail at small v, where G is steep and changes by the octave: −log v rules it where
the law goes on, a power of v where it has an edge. A float is made for that. w + ½ is rounded to
float32 (relative error 1.5 · 2⁻²⁴ at most; exact below 2²³), and its bits tell the octave, by the
exponent, and one of 2^m equal parts of it, by the top m bits of the mantissa: one shift is the
index of the part, and the rest of the mantissa is the place τ in it, exactly. On each part

    z = ((a₃τ + a₂)τ + a₁)τ + a₀,

the cubic through G at the four Chebyshev points that include the ends, so that parts meet. Both
tails keep their resolution down to v = 2⁻³³ (for a normal law |z| = 6.3), without a logarithm or a
branch, and one form serves all laws.

m is the least number for which the error, checked between the points in float64, is within
`ERROR` max(1, |z|). Cubics on parts of width h err by h⁴: m = 3 for the normal law, 4 bits more
for 65536 times the accuracy.

The idea of an index by exponent and top mantissa bits: de Schryver et al. 2012 ("A hardware
efficient random number generator for nonuniform distributions with arbitrary precision"), there for
circuits.

Range
-----
In float32 |z − G| ≤ `SINGLE_ERROR` max(1, |z|), with or without fused multiply-adds. The rounding
of w + ½ moves probabilities by a relative 1e-7 and is part of the law drawn from, not counted.
Where the density all but vanishes inside the support G jumps, and no such m may exist: two normal
peaks may lie up to 3 of their standard deviations from the middle between them
(`Bimodal(0.95)`); fitted laws of devices may not. InputError then.
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

ERROR = 5e-7  # of the cubics, in standard deviations or relative
SINGLE_ERROR = 1e-6  # theirs and that of evaluating them in float32
_FEWEST, _MOST = 2, 10  # bits m
_OCTAVES = 32  # of w + ½ from ½ to 2³¹
_LEAST_EXPONENT = 126  # in the bits of ½
_MANTISSA = 23
_TAIL = 2.0**-10  # where G over u from above gives way to its upper tail over v
_BETWEEN = np.linspace(0.0, 1.0, 17)[1:-1]


@dataclass(frozen=True)
class BitTable:
    """The table of a law; call it with words.

    Parameters
    ----------
    m : int
        Bits of the mantissa in the index.
    coefficients : (2 · entries, 4) float32
        a₀ … a₃ of τ, the lower side's entries first. `entries` is a part more than 32 · 2^m: the
        greatest w are rounded to 2³¹.
    """

    m: int
    coefficients: np.ndarray

    @property
    def entries(self) -> int:
        """Entries of one side."""
        return len(self.coefficients) // 2

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
        words = np.asarray(words, dtype=np.uint32)
        bits = rounded(words).view(np.int32)
        index = (bits >> self.shift) - self.first + np.where(words >> 31, self.entries, 0)
        rest = (bits & ((1 << self.shift) - 1)) | np.float32(1.0).view(np.int32)
        tau = rest.view(np.float32) - np.float32(1.0)
        a0, a1, a2, a3 = np.moveaxis(self.coefficients[index], -1, 0)
        return ((a3 * tau + a2) * tau + a1) * tau + a0

    def loops(self, words: np.ndarray) -> np.ndarray:
        """As calling it, a word at a time and by arithmetic instead of bits; (n,)."""
        return _loops(words, self.m, self.coefficients)


def rounded(words: np.ndarray) -> np.ndarray:
    """w + ½ in float32, of the lower 31 bits of each word."""
    w = (words & np.uint32(0x7FFFFFFF)).astype(np.float32)
    return w + np.float32(0.5)


def exact(law: Law, words: np.ndarray) -> np.ndarray:
    """What the table approximates: G of the same v in float64."""
    v = rounded(words).astype(float) * 2.0**-32
    return np.where(words >> 31, _quantile(law, v, above=True), _quantile(law, v, above=False))


def bit_table(law: Law) -> BitTable:
    """Tabulate a law.

    Raises
    ------
    InputError
        If 2^10 parts an octave do not meet the error.
    """
    for m in range(_FEWEST, _MOST + 1):
        sides = [_cubics(law, m, above) for above in (False, True)]
        error = max(error for _, error in sides)
        if error <= ERROR:
            coefficients = np.concatenate([coefficients for coefficients, _ in sides])
            return BitTable(m, coefficients.astype(np.float32))
    raise InputError(
        f"{type(law).__name__}: cubics on {1 << _MOST} parts of each octave miss its inverse CDF "
        f"by {error:.0e}; expected a density that does not vanish inside the support"
    )


def _cubics(law: Law, m: int, above: bool) -> tuple[np.ndarray, float]:
    """Coefficients of one side, (entries, 4), and their greatest error, in units of max(1, |z|)."""
    parts = 1.0 + np.arange(1 << m) * 2.0**-m
    octaves = 2.0 ** np.arange(-1, _OCTAVES - 1)
    start = (octaves[:, np.newaxis] * parts).reshape(-1, 1) * 2.0**-32
    width = np.repeat(octaves, 1 << m)[:, np.newaxis] * 2.0 ** (-m - 32)
    nodes = 0.5 * (1.0 + chebyshev.chebpts2(4))
    to_monomials = np.linalg.inv(np.vander(nodes, increasing=True))
    values = _quantile(law, start + width * nodes, above)
    # From the first value on: the matrix amplifies rounding, so of small differences alone.
    coefficients = (values - values[:, :1]) @ to_monomials.T
    coefficients[:, 0] = values[:, 0]
    z = _quantile(law, start + width * _BETWEEN, above)
    error = coefficients @ np.vander(_BETWEEN, 4, increasing=True).T - z
    worst = float(np.max(np.abs(error) / np.maximum(1.0, np.abs(z))))
    # τ runs over [0, 2⁻ᵐ]: the mantissa's rest as it stands, not scaled. At 2³¹ it is 0.
    coefficients *= 2.0 ** (m * np.arange(4))
    last = [_quantile(law, np.array([0.5]), above)[0], 0.0, 0.0, 0.0]
    return np.vstack([coefficients, last]), worst


def _quantile(law: Law, v: np.ndarray, above: bool) -> np.ndarray:
    """G(v), or G(1 − v) from above, accurate relative to v on either side."""
    inverse = cast(NumericalLaw, law).inverse
    if not above:
        return inverse.of_probabilities(v)
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
def _loops(words, m, coefficients):
    z = np.empty(words.size, np.float32)
    entries = coefficients.shape[0] // 2
    for n in range(words.size):
        above, w = divmod(np.int64(words[n]), 2**31)
        place = np.float32(w) + np.float32(0.5)
        octave = np.int64(-1)
        while place >= np.float32(2.0) ** np.float32(octave + 1):
            octave += 1
        # 1 ≤ scaled < 2: part and place within the octave, both exact in float64.
        scaled = np.float64(place) * 2.0 ** np.float64(-octave)
        part = np.int64((scaled - 1.0) * 2.0**m)
        tau = np.float32(scaled - 1.0 - part * 2.0**-m)
        a = coefficients[above * entries + (octave + 1) * 2**m + part]
        z[n] = ((a[3] * tau + a[2]) * tau + a[1]) * tau + a[0]
    return z
