"""Softmax, entropy and mutual information over points of the logits, such as samples, in float32.

Formulas
--------
For points ℓ_n of the logits, n = 1 … N, t the greatest of a point and ρ = Σ_{c≠t} e^{ℓ_c − ℓ_t}:

    p_c = e^{ℓ_c − ℓ_t}/(1 + ρ),     H(p) = log(1 + ρ) + Σ_c p_c (ℓ_t − ℓ_c),

in which no term is negative. With p̄ the mean of p, and δ = p_c/p̄_c − 1,

    MI = mean_n Σ_c p_c log(p_c/p̄_c) = mean_n Σ_c p̄_c ((1 + δ) log(1 + δ) − δ),

since Σ_c (p_c − p̄_c) = 0. No term is negative here either, so a small MI keeps its digits. It is
the difference of both entropies where that is 10⁻³ of H(p̄) or more, which needs no second pass over
the points. For |δ| < 0.3 a polynomial follows the function of δ.

Range
-----
Probabilities to 3e-7, entropies to 1e-6, of the reference for the same points. MI to 5e-4 of
itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as script

from kernels.arithmetic.logarithm import log
from kernels.arithmetic.polynomials import f32, horner, interpolate
from kernels.arithmetic.statements import array, let, put
from kernels.prediction.entropy import entropy, exp_of_minus, log_1p

POINTS = 16  # of one vector
_NEAR = 0.3
_LITTLE = 1e-3  # of the entropy


def _excess(d: np.ndarray) -> np.ndarray:
    """((1 + δ) log(1 + δ) − δ)/δ², by its series near 0."""
    series = sum((-d) ** k / ((k + 1) * (k + 2)) for k in range(60))
    return np.asarray(series)


_EXCESS = interpolate(lambda u: _excess(_NEAR * u), 9)  # in δ/0.3, to 2e-8


def padded(n: int) -> int:
    """Round n up to whole vectors of points."""
    return -(-n // POINTS) * POINTS


def write(
    logits: Callable,
    n: int,
    classes: int,
    lanes: int,
    p_of: tirx.Buffer,
    p: tirx.Buffer,
    statistics: tirx.Buffer,
    row,
    unsuited,
) -> None:
    """Write the statements for one row.

    Parameters
    ----------
    logits : callable (g)
        Writes the statements that put the logits of all classes at vector g of the points into
        `p_of`; those from point n on are finite.
    n, classes, lanes : int
    p_of : buffer (classes, n padded)
        Work: logits, then probabilities, at every point.
    p : buffer (batch, classes padded)
    statistics : buffer (4, batch)
        Mean entropy, entropy of the mean, mutual information, and `unsuited`.
    row, unsuited : expressions
    """
    zero = f32(0.0)
    sums, mean_sum = array(classes, POINTS), array(POINTS)
    with script.vectorized(POINTS) as lane:
        put(mean_sum, zero, lane)
    with script.serial(classes) as c, script.vectorized(POINTS) as lane:
        put(sums, zero, c, lane)
    with script.serial(padded(n) // POINTS) as g:
        logits(g)
        _softmax(g, n, classes, p_of, sums, mean_sum)

    mean = array(int(p.shape[1]))
    total, best = array(1), script.alloc_buffer((1,), "int32")
    with script.serial(p.shape[1] // lanes) as g, script.vectorized(lanes) as lane:
        put(mean, zero, g * lanes + lane)
    put(best, tirx.const(0, "int32"), 0)
    with script.serial(classes) as c:
        put(total, zero, 0)
        with script.serial(POINTS) as lane:
            put(total, total[0] + sums[c, lane], 0)
        put(mean, total[0] * f32(1.0 / n), c)
        put(best, tirx.Select(mean[c] > mean[best[0]], c, best[0]), 0)
    with script.serial(p.shape[1] // lanes) as g, script.vectorized(lanes) as lane:
        put(p, mean[g * lanes + lane], row, g * lanes + lane)
    put(total, zero, 0)
    with script.serial(POINTS) as lane:
        put(total, total[0] + mean_sum[lane], 0)
    mean_of = let(total[0] * f32(1.0 / n))
    of_mean = let(entropy(mean, best[0], classes, lanes))
    put(statistics, mean_of, 0, row)
    put(statistics, of_mean, 1, row)
    put(statistics, of_mean - mean_of, 2, row)
    put(statistics, unsuited, 3, row)
    with script.If(of_mean - mean_of < f32(_LITTLE) * of_mean), script.Then():
        put(statistics, _divergences(n, classes, p_of, mean) * f32(1.0 / n), 2, row)


def _divergences(n: int, classes: int, p_of: tirx.Buffer, mean: tirx.Buffer):
    """Write the statements that find Σ_n Σ_c p_c log(p_c/p̄_c), an expression."""
    sums, total = array(POINTS), array(1)
    with script.vectorized(POINTS) as lane:
        put(sums, f32(0.0), lane)
    with script.serial(classes) as c:
        q = let(tirx.max(mean[c], f32(1e-30)))
        over = let(f32(1.0) / q)
        with script.serial(padded(n) // POINTS) as g, script.vectorized(POINTS) as lane:
            at = g * POINTS + lane
            term = q * _divergence(p_of[c, at] * over, (p_of[c, at] - q) * over)
            put(sums, sums[lane] + tirx.Select(at < n, term, f32(0.0)), lane)
    put(total, f32(0.0), 0)
    with script.serial(POINTS) as lane:
        put(total, total[0] + sums[lane], 0)
    return total[0]


def _softmax(g, n: int, classes: int, p_of, sums, mean_sum) -> None:
    """Softmax and entropy at one vector of points; add both up."""
    zero, one = f32(0.0), f32(1.0)
    top, rest, lag, seen = (array(POINTS) for _ in range(4))
    with script.vectorized(POINTS) as lane:
        put(top, f32(-np.inf), lane)
        for buffer in (rest, lag, seen):
            put(buffer, zero, lane)
    with script.serial(classes) as c, script.vectorized(POINTS) as lane:
        put(top, tirx.max(top[lane], p_of[c, g * POINTS + lane]), lane)
    with script.serial(classes) as c, script.vectorized(POINTS) as lane:
        at = g * POINTS + lane
        gap = let(top[lane] - p_of[c, at])
        e = let(exp_of_minus(gap))
        # The first of the greatest is the 1 in 1 + ρ.
        first = tirx.And(gap <= zero, seen[lane] == zero)
        put(rest, rest[lane] + tirx.Select(first, zero, e), lane)
        put(seen, tirx.Select(gap <= zero, one, seen[lane]), lane)
        put(lag, lag[lane] + tirx.Select(e > zero, e * gap, zero), lane)
        put(p_of, e, c, at)
    with script.vectorized(POINTS) as lane:
        share = let(one / (one + rest[lane]))
        there = g * POINTS + lane < n
        value = log_1p(rest[lane]) + lag[lane] * share
        put(mean_sum, mean_sum[lane] + tirx.Select(there, value, zero), lane)
        put(top, share, lane)
    with script.serial(classes) as c, script.vectorized(POINTS) as lane:
        at = g * POINTS + lane
        value = let(p_of[c, at] * top[lane])
        put(p_of, value, c, at)
        put(sums, sums[c, lane] + tirx.Select(at < n, value, zero), c, lane)


def _divergence(ratio, delta):
    """Write the statements that find (1 + δ) log(1 + δ) − δ, δ ≥ −1, from both 1 + δ and δ."""
    x, d = let(ratio), let(delta)
    near = let(d * d * horner(_EXCESS, let(d * f32(1.0 / _NEAR))))
    far = x * log(let, let(tirx.max(x, f32(1e-37)))) - d
    return tirx.Select(tirx.abs(d) < f32(_NEAR), near, far)
