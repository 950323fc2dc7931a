"""Sums of products Σ x w ≥ 0 with half precision, emulated, and bounds on their errors.

Numbers of IEEE 754-2019's binary16 have 11 bits, u = 2⁻¹¹. Normal ones reach from 2⁻¹⁴ to 65504;
below 2⁻¹⁴ they are multiples of 2⁻²⁴, with errors up to η = 2⁻²⁵.

Scale
-----
A power of two costs no rounding. With x̂ = x 2⁻ᵉ and ŵ = w 2⁻ᶠ, the greatest of each in [1/2, 1],
no product exceeds 1 and no sum of n of them exceeds n, which is below 65504 for every layer here.
Numbers below 2⁻¹⁴ of the greatest lose bits, but at most 2⁻²⁵ of the greatest.

Forms
-----
x̂ and ŵ are rounded to half; then, by the length b of a block,

    b = 0   products and sums in float32
    b > 0   s ← x̂ᵢŵᵢ + s in half, rounded once, for b inputs; the sums of blocks added in float32
    b ≥ n   one sum in half

Bound
-----
Nothing cancels. A term x̂ᵢŵᵢ is rounded twice when stored and at most b times in its block, each
time by a factor in [1 − u, 1 + u] or, below 2⁻¹⁴, by at most η. So, with k = min(b, n) + 2 and
S = Σ x̂ᵢŵᵢ (Higham 2002, section 3.1, whose γ_k = ku/(1 − ku) is above (1 + u)ᵏ − 1 wherever it is
defined),

    |error| ≤ [(1 + u)ᵏ − 1] S + (1 + u)ᵏ η [ Σ (x̂ᵢ + ŵᵢ + η) + n if b > 0 ]

and n 2⁻²⁴ (S + the above) (1 + 2⁻²⁴)ⁿ from the additions in float32. Rounding errors of random
signs grow as √b; but a sum much larger than a term rounds it always the same way, or ignores it.

One rounding
------------
The product p of two halves has 22 bits: exact in float64. Its sum p + s with a half s, taken in
float64 and then rounded to half, equals one rounding, although float64 may round too. Say
2ᵃ ≤ |p| < 2ᵃ⁺¹ and 2ᶜ ≤ |s| < 2ᶜ⁺¹; p is a multiple of 2ᵃ⁻²¹, s of 2⁻²⁴. Where float64's 53 bits do
not hold p + s, either

    |s| > |p|, and a − 21 ≤ c + 1 − 53: |p| < 2ᶜ⁻³⁰, while the nearest number at which rounding to
    half turns is 2ᶜ⁻¹² or more away from s: both ways give s; or
    |p| ≥ |s|, and −24 ≤ a + 1 − 53: |p| ≥ 2²⁸, and both give infinity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

u = 2.0**-11


@dataclass(frozen=True, eq=False)
class Halves:
    """Numbers values · 2^exponent: float16 values, and exponents that broadcast over them."""

    values: np.ndarray
    exponent: np.ndarray


def exponent_of(x: np.ndarray, n_axes: int) -> np.ndarray:
    """Exponent e with max |x| 2⁻ᵉ in [1/2, 1) over the last axes (kept, of length 1); 0 for 0."""
    return np.frexp(np.abs(x).max(axis=tuple(range(-n_axes, 0)), keepdims=True))[1]


def halves(x: np.ndarray, n_axes: int, scaled: bool = True) -> Halves:
    """Scale by one power of two over the last axes, if `scaled`, and round to half."""
    exponent = exponent_of(x, n_axes)
    if not scaled:
        exponent = np.zeros_like(exponent)
    return Halves(np.ldexp(x, -exponent).astype(np.float16), exponent)


def multiply_add(x: np.ndarray, w: np.ndarray, s: np.ndarray) -> np.ndarray:
    """x w + s in half precision, rounded once; float16 arrays that broadcast."""
    return (x.astype(float) * w.astype(float) + s.astype(float)).astype(np.float16)


def sums(x: np.ndarray, w: np.ndarray, block: int) -> np.ndarray:
    """Compute Σᵢ xᵢ wᵢ of float16 x (B, n), w (out, n) in the form of a block: float32 (B, out)."""
    if block == 0:
        return x.astype(np.float32) @ w.astype(np.float32).T
    total = np.zeros((len(x), len(w)), np.float32)
    for start in range(0, x.shape[1], block):
        part = np.zeros(total.shape, np.float16)
        for i in range(start, min(start + block, x.shape[1])):
            part = multiply_add(x[:, i, np.newaxis], w[:, i], part)
        total += part
    return total


def relative_bound(n: int, block: int) -> float:
    """(1 + u)ᵏ − 1: the bound above over S for n inputs, where nothing underflows."""
    return float(np.expm1((min(block, n) + 2) * np.log1p(u)))
