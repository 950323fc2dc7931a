"""The greatest of Gaussians of like scales, from its distribution function at even steps.

Formula
-------
Let cells of length h, one of them centred at c, group the values of a random number M. With every
value moved to the middle of its cell, M has the moments of grouped data. With F the distribution
function of M and x_t = c + th, t = ±½, ±3/2, …, the ends of the cells, summation by parts gives

    A = Σ_{t>0} (1 − F(x_t)) − Σ_{t<0} F(x_t),     B = Σ_{t>0} 2t(1 − F(x_t)) − Σ_{t<0} 2tF(x_t),

    E ≈ c + hA,      Var ≈ h²(B − A² − 1/12),

where the last term is Sheppard's correction (Sheppard 1898; Kendall & Stuart, vol. 1, §3.18). All
terms of B are positive, and A² is small: hA is the distance of the mean from c.

Length of a step
----------------
Grouping adds the sawtooth of M/h to M. Its Fourier series leaves an error of (h/π)|f̂(2π/h)| in the
mean and (2h/π)|f̂′| + (h/π)²|f̂| in the variance; higher multiples of ω = 2π/h leave less. For M the
greatest of k Gaussians of scales ≥ s, the density f(x) = Σφ_i ∏Φ_j is an entire function. With the
path of f̂(ω) = ∫f e^{iωx} dx moved to the line x + iys, and E(y) = ∫₀^y e^{t²/2} dt,

    |φ(x + iy)| = φ(x) e^{y²/2},     |Φ(x + iy)| ≤ Φ(x) + φ(x)E(y) ≤ B(y),  the greatest over x,

    |f̂(ω)| ≤ k B(y)^{k−1} e^{y²/2 − ωys}      for every y > 0, any means, and scales ≥ s.

`step` gives the h/s at which the least of these bounds is 5·10⁻⁷: 0.87, 0.67, 0.49 for k = 2, 4, 9
(for equal entries the bound is twice the true value). The variance is then 0.68, 0.49, 0.36 s², and
its relative error some 2·10⁻⁶.

Ends
----
Below x₀ = max_i(m_i − R s_i), R = 5.4, and below min_i(m_i − R_k s_i), where Φ(−R_k)^k = Φ(−R),
F is less than Φ(−R). Above x₁ = max_i(m_i + U s_i), where kΦ(−U) = Φ(−R), 1 − F is less than Φ(−R).
Cells reach from the greater start to x₁; the rest holds some 10⁻⁷ of that entry's own variance.
The Φ_i of an entry that rises below x₀ counts as 1 throughout. A vector takes as many cells as its
most demanding window: 10 to 20 for like scales, and at most `_SPAN`·s/h.

Φ
-
For x ≥ 0, Φ(−x) = T(x)⁸ where T is smooth. A polynomial of degree 8, fitted to T with the weight
T⁷Φ(−x)^{−1/2}, errs in Φ(−x) by 3·10⁻⁸ at most, and by 10⁻⁷√Φ(−x). From x = 6 on, Φ(−6) = 10⁻⁹
stands for Φ(−x). With q_i = Φ(−z_i), F = ∏Φ_i and G = 1 − F are formed together, neither from the
other: (F, G) ← (FΦ_i, G + Fq_i).

Range
-----
The least scale that matters must be at least (x₁ − x₀)/48, and a 16th of the greatest: the omitted
tail of the latter, 10⁻⁹ of its variance, may be the whole variance. Mean to 5e-6 of the standard
deviation, variance to 1e-5 relative. Observed: 2e-6 and 3e-6 for k ≤ 4, 3e-6 and 8e-6 for k ≤ 16. A
window of 4 entries of like scales takes 17 to 25 ns with AVX-512, one of 9 entries 40 to 60 ns.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.polynomial import chebyshev
from scipy.special import erfi, ndtr, ndtri
from tvm import tirx
from tvm.script.ir_builder import tirx as script

from kernels.arithmetic.polynomials import f32, fma, horner, named
from kernels.arithmetic.statements import array, let, put
from kernels.maximum.window import FAR, LARGEST, LOW, Windows

_SPAN = 48.0  # (x₁ − x₀)/s at most
_RATIO = 16.0  # of scales at most
_LEAST = 2.0**-100  # below every scale but 0
_CUT = 6.0


def _tail() -> np.ndarray:
    """T in a variable that runs over [−1, 1] as x over [0, 6]."""
    u = chebyshev.chebpts1(200)
    Q = ndtr(-0.5 * _CUT * (1.0 + u))
    weight = Q ** (7 / 8) / np.sqrt(Q)
    return chebyshev.cheb2poly(chebyshev.chebfit(u, Q ** (1 / 8), 8, w=weight))


_T = _tail()


def step(k: int) -> float:
    """h/s for k entries: see "Length of a step" above."""
    y = np.linspace(0.5, 8.0, 200)[:, np.newaxis]
    x = np.linspace(-1.0, 4.0, 200)
    phi = np.exp(-0.5 * x**2) / np.sqrt(2.0 * np.pi)
    B = np.max(ndtr(x) + phi * np.sqrt(0.5 * np.pi) * erfi(y * np.sqrt(0.5)), axis=1)
    y = y[:, 0]
    omega = (0.5 * y**2 + np.log(k) + (k - 1) * np.log(B) - np.log(5e-7)) / y
    return float(2.0 * np.pi / omega.min())


def _cdf(z):
    """(Φ(z), Φ(−z))."""

    def formula(name):
        x = tirx.min(tirx.abs(z), f32(_CUT))
        root = name(horner(_T, name(fma(x, f32(2.0 / _CUT), f32(-1.0)))))
        square = name(root * root)
        fourth = name(square * square)
        upper = name(fourth * fourth)
        rest = f32(1.0) - upper
        below = z < f32(0.0)
        return tirx.Select(below, upper, rest), tirx.Select(below, rest, upper)

    return named(formula, 2)


def cells(windows: Windows) -> list[tirx.Buffer]:
    """Write the statements that find the sizes on which the cells depend, (lanes,) each.

    Returns
    -------
    start, length
        x₀ and x₁ − x₀.
    least
        The least scale that matters: 0 where other entries begin at a deterministic one.
    greatest
        The greatest scale that matters to the variance, if only by a tail.
    """
    m, s = windows.m, windows.s
    high = -float(ndtri(ndtr(-LOW) / windows.k))

    def end(j, lane):
        return m[j, lane] + f32(high) * s[j, lane]

    def least_of(j, lane):
        return tirx.Select(end(j, lane) >= start[lane], s[j, lane], f32(LARGEST))

    def greatest_of(j, lane):
        return tirx.Select(m[j, lane] + f32(FAR) * s[j, lane] >= start[lane], s[j, lane], f32(0.0))

    start, length = windows.start(LOW), windows.fold(tirx.max, end)
    least, greatest = windows.fold(tirx.min, least_of), windows.fold(tirx.max, greatest_of)
    with script.vectorized(windows.lanes) as lane:
        put(length, length[lane] - start[lane], lane)
    return [start, length, least, greatest]


def suit(length: tirx.Buffer, least: tirx.Buffer, greatest: tirx.Buffer):
    """Whether the cells suit all windows of a vector, a condition; arguments of `cells`."""
    wide = script.alloc_buffer((1,), "int32")
    script.buffer_store(wide, tirx.const(0, "int32"), [0])
    with script.serial(length.shape[0]) as lane:
        extent = tirx.max(length[lane], f32(_SPAN / _RATIO) * greatest[lane])
        put(wide, wide[0] + (extent > f32(_SPAN) * least[lane]).astype("int32"), 0)
    return wide[0] == 0


def moments(windows: Windows, start, length, least, result: Callable) -> None:
    """Write the statements that compute mean and variance, where `length` ≤ _SPAN·`least`.

    Parameters
    ----------
    windows : Windows
    start, length, least : buffers (lanes,)
        Results of `cells`.
    result : callable (lane, mean, var)
        Writes the statements that store mean and variance.
    """
    k, lanes = windows.k, windows.lanes
    count = _number(length, least, step(k))
    centre = windows.near_mean()
    h, first, A, B = (array(lanes) for _ in range(4))
    z, dz = (array(k, lanes) for _ in range(2))
    with script.vectorized(lanes) as lane:
        cell = let(length[lane] / count[0].astype("float32"))
        put(h, cell, lane)
        before = (centre[lane] - start[lane]) / tirx.max(cell, f32(_LEAST))
        put(first, f32(0.5) - tirx.floor(before), lane)
        put(A, f32(0.0), lane)
        put(B, f32(0.0), lane)
    with script.serial(k) as j, script.vectorized(lanes) as lane:
        s = windows.s[j, lane]
        x1 = start[lane] + f32(0.5) * h[lane]
        varies = tirx.And(s > f32(0.0), s >= least[lane])
        put(
            z,
            tirx.Select(varies, (x1 - windows.m[j, lane]) * windows.over[j, lane], f32(_CUT)),
            j,
            lane,
        )
        put(dz, tirx.Select(varies, h[lane] * windows.over[j, lane], f32(0.0)), j, lane)

    with script.serial(count[0]) as n, script.vectorized(lanes) as lane:
        number = n.astype("float32")
        F, rest = f32(1.0), f32(0.0)
        for j in range(k):
            lower, upper = _cdf(let(fma(number, dz[j, lane], z[j, lane])))
            F, rest = let(F * lower), let(fma(F, upper, rest))
        t = let(first[lane] + number)
        term = let(tirx.Select(t < f32(0.0), -F, rest))
        put(A, A[lane] + term, lane)
        put(B, fma(t + t, term, B[lane]), lane)

    with script.vectorized(lanes) as lane:
        c = start[lane] + (f32(0.5) - first[lane]) * h[lane]
        mean = windows.base[lane] + (c + h[lane] * A[lane])
        var = h[lane] * h[lane] * (B[lane] - A[lane] * A[lane] - f32(1.0 / 12.0))
        result(lane, mean, tirx.max(f32(0.0), var))


def _number(length: tirx.Buffer, least: tirx.Buffer, step: float) -> tirx.Buffer:
    """Write the statements that count the cells of the most demanding window; (1,), at least 1."""
    count = script.alloc_buffer((1,), "int32")
    script.buffer_store(count, tirx.const(1, "int32"), [0])
    with script.serial(length.shape[0]) as lane:
        needed = length[lane] / tirx.max(f32(step) * least[lane], f32(_LEAST))
        # A limit for NaN and infinity too, whose result is NaN in any case.
        needed = tirx.ceil(tirx.min(needed, f32(_SPAN / step)))
        script.buffer_store(count, tirx.max(count[0], needed.astype("int32")), [0])
    return count
