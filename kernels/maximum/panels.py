"""The greatest of Gaussians of any scales, from its density on one panel an entry.

Formula
-------
F(x) = ∏Φ((x − m_i)/s_i) is the distribution function of the maximum, f = F′ its density. Both come
from one product of dual numbers, (F, f)(G, g) = (FG, Fg + fG), of the factors (Φ_i, φ_i/s_i).

Below max_i(m_i − R s_i), R = 5.4, F is less than Φ(−R), and below min_i(m_i − R_k s_i) too, where
Φ(−R_k)^k = Φ(−R). The mass below the greater of both, x₀, counts as lying at x₀. For a
deterministic entry that is exact: F jumps at x₀ = m_i.

With z_i = (x₀ − m_i)/s_i ≥ −R, the factor Φ_i varies no farther than e_i ≤ (R + U)s_i beyond x₀: up
to U standard deviations above m_i, or, where z_i > 0, over the √(z_i² + U²) − z_i standard
deviations in which its tail falls by e^{−U²/2}. In the order of e_i, the piece from e_{i−1} to e_i
is at most R + U times as long as each scale that still varies there, s_i and those after it. One
Gauss–Legendre rule resolves it, however far the scales lie apart, and the factors before it are 1.
That makes k(k + 1)/2 times 28 factors (40 for k > 4). The longest and steepest piece belongs to
k − 1 like entries and one far below, which draws x₀ down to −Rs: with 24 and 32 nodes the variance
of nine would err by 1.5e-5, of sixteen by 2e-4.

Moments are taken about a guess of the mean, within a few standard deviations, so that the variance
loses a few bits at most.

Range
-----
For k ≤ 9, scales over twelve decades, ties, and deterministic entries up to 10 standard deviations
above the others: mean to 1e-5 of the standard deviation and a rounding error of itself, variance to
1e-5 relative (2e-5 for k = 16), and 2⁻¹²⁶ more. Observed: 6e-6 for k ≤ 9.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.polynomial import legendre
from tvm import tirx
from tvm.script.ir_builder import tirx as script

from kernels.arithmetic.normal import cdf, pdf
from kernels.arithmetic.polynomials import f32, fma
from kernels.arithmetic.statements import array, let, put
from kernels.maximum.window import FAR, LOW, Windows

_HIGH = 6.0  # U


def rule(k: int) -> np.ndarray:
    """Nodes and weights on [0, 1]: more for many entries of one scale, whose F is steeper."""
    nodes, weights = legendre.leggauss(28 if k <= 4 else 40)
    return np.stack([0.5 * (1.0 + nodes), 0.5 * weights])


def moments(windows: Windows, rule: tirx.Buffer, result: Callable) -> None:
    """Write the statements that compute mean and variance.

    Parameters
    ----------
    windows : Windows
    rule : buffer (2, nodes)
    result : callable (lane, mean, var)
        Writes the statements that store mean and variance.
    """
    k, lanes = windows.k, windows.lanes
    zero, one = f32(0.0), f32(1.0)
    start = windows.start(LOW)
    centre = windows.near_mean()
    away = array(lanes)
    with script.vectorized(lanes) as lane:
        put(away, start[lane] - centre[lane], lane)

    e, over, z, rates = _in_order(windows, start)

    # The mass that counts as lying at x₀, and its moments.
    m0, m1, m2 = (array(lanes) for _ in range(3))
    with script.vectorized(lanes) as lane:
        put(m0, one, lane)
    with script.serial(k) as j, script.vectorized(lanes) as lane:
        put(m0, m0[lane] * cdf(z[j, lane], pdf(z[j, lane])), lane)
    with script.vectorized(lanes) as lane:
        put(m1, m0[lane] * away[lane], lane)
        put(m2, m0[lane] * away[lane] * away[lane], lane)

    # At each node of a piece, the product of the factors that still vary.
    u, F, f = (array(lanes) for _ in range(3))
    with script.serial(k) as j, script.serial(rule.shape[1]) as n:
        with script.vectorized(lanes) as lane:
            put(u, fma(e[j + 1, lane] - e[j, lane], rule[0, n], e[j, lane]), lane)
            put(F, one, lane)
            put(f, zero, lane)
        with script.serial(k - j) as i, script.vectorized(lanes) as lane:
            t = let(fma(u[lane], over[j + i, lane], z[j + i, lane]))
            phi = let(pdf(t))
            Phi = let(cdf(t, phi))
            put(f, F[lane] * (phi * rates[j + i, lane]) + f[lane] * Phi, lane)
            put(F, F[lane] * Phi, lane)
        with script.vectorized(lanes) as lane:
            mass = let(f[lane] * ((e[j + 1, lane] - e[j, lane]) * rule[1, n]))
            x = let(u[lane] + away[lane])
            put(m0, m0[lane] + mass, lane)
            put(m1, m1[lane] + mass * x, lane)
            put(m2, m2[lane] + mass * x * x, lane)

    with script.vectorized(lanes) as lane:
        # Divide by the total: it is 1 except for rounding errors of F, which all three share.
        share = let(one / m0[lane])
        shift = let(m1[lane] * share)
        var = m2[lane] * share - shift * shift
        result(lane, windows.base[lane] + (centre[lane] + shift), tirx.max(zero, var))


def weights(windows: Windows, rule: tirx.Buffer) -> tirx.Buffer:
    """Write the statements that find the probability of each entry to be the greatest.

    With the density of the maximum that entry i makes, f_i = φ_i/s_i Π_{l≠i} Φ_l, it is ∫ f_i from
    x₀ on; the mass at x₀ is that of the deterministic entry there, and nothing otherwise.

    Returns
    -------
    buffer (k, lanes)
        Divided by their sum, which is 1 except for rounding errors.
    """
    k, lanes = windows.k, windows.lanes
    zero, one = f32(0.0), f32(1.0)
    start = windows.start(LOW)
    e, *_ = _in_order(windows, start)
    total, before, factors, own = (array(k, lanes) for _ in range(4))
    u, F = array(lanes), array(lanes)

    def products() -> None:
        """Φ of each entry at x₀ + u, and the product of those before it."""
        with script.vectorized(lanes) as lane:
            put(F, one, lane)
        with script.serial(k) as i, script.vectorized(lanes) as lane:
            s = windows.s[i, lane]
            t = ((start[lane] - windows.m[i, lane]) + u[lane]) * windows.over[i, lane]
            t = let(tirx.Select(s > zero, tirx.max(f32(-FAR), tirx.min(t, f32(FAR))), f32(FAR)))
            phi = let(pdf(t))
            put(own, phi * windows.over[i, lane], i, lane)
            put(factors, cdf(t, phi), i, lane)
            put(before, F[lane], i, lane)
            put(F, F[lane] * factors[i, lane], lane)

    with script.vectorized(lanes) as lane:
        put(u, zero, lane)
    products()
    with script.vectorized(lanes) as lane:
        put(u, F[lane], lane)  # the mass at x₀, taken by the first entry that lies there
    with script.serial(k) as i, script.vectorized(lanes) as lane:
        there = tirx.And(windows.s[i, lane] <= zero, windows.m[i, lane] >= start[lane])
        put(total, tirx.Select(there, u[lane], zero), i, lane)
        put(u, tirx.Select(there, zero, u[lane]), lane)

    with script.serial(k) as j, script.serial(rule.shape[1]) as n:
        with script.vectorized(lanes) as lane:
            put(u, fma(e[j + 1, lane] - e[j, lane], rule[0, n], e[j, lane]), lane)
        products()
        with script.vectorized(lanes) as lane:
            put(F, (e[j + 1, lane] - e[j, lane]) * rule[1, n], lane)
        with script.serial(k) as back, script.vectorized(lanes) as lane:
            i = k - 1 - back
            put(total, total[i, lane] + F[lane] * (own[i, lane] * before[i, lane]), i, lane)
            put(F, F[lane] * factors[i, lane], lane)

    with script.vectorized(lanes) as lane:
        put(F, zero, lane)
    with script.serial(k) as i, script.vectorized(lanes) as lane:
        put(F, F[lane] + total[i, lane], lane)
    with script.serial(k) as i, script.vectorized(lanes) as lane:
        put(total, total[i, lane] / F[lane], i, lane)
    return total


def _in_order(windows: Windows, start: tirx.Buffer) -> list[tirx.Buffer]:
    """Write the statements that sort the factors Φ(z + u/s), u = x − x₀, by their ends e.

    Returns
    -------
    e : buffer (k + 1, lanes)
        Ends of the pieces, from 0 on.
    over, z, rate : buffers (k, lanes)
        1/s, z, and the 1/s of φ.
    """
    k, lanes = windows.k, windows.lanes
    zero, one, far = f32(0.0), f32(1.0), f32(FAR)
    e, z, rates = (array(k, lanes) for _ in range(3))
    with script.serial(k) as j, script.vectorized(lanes) as lane:
        s, over = windows.s[j, lane], windows.over[j, lane]
        gap = let(start[lane] - windows.m[j, lane])
        at = let(tirx.Select(s > zero, tirx.min(gap * over, far), far))
        put(z, at, j, lane)

        above, high = tirx.max(at, zero), f32(_HIGH)
        tail = high * high / (tirx.sqrt(above * above + high * high) + above)
        length = (tirx.min(tirx.max(-at, zero), f32(LOW)) + tail) * s
        put(e, tirx.Select(at < far, length, zero), j, lane)

        # A rounding error δ of z > 0 makes a relative one of zδ in φ, which is corrected here.
        v_rest = fma(-s, s, windows.v[j, lane])
        delta = (fma(-at, s, gap) - f32(0.5) * at * over * v_rest) * over
        put(
            rates, over * tirx.Select(tirx.And(at > zero, at < far), one - at * delta, one), j, lane
        )

    # The place of an entry is the number of entries before it.
    ordered = [array(k + 1, lanes), *[array(k, lanes) for _ in range(3)]]
    rank = array(k, lanes)
    with script.serial(k) as j, script.vectorized(lanes) as lane:
        put(rank, zero, j, lane)
    with script.serial(k) as j, script.serial(k) as o, script.vectorized(lanes) as lane:
        first = tirx.Or(e[o, lane] < e[j, lane], tirx.And(e[o, lane] == e[j, lane], o < j))
        put(rank, rank[j, lane] + tirx.Select(first, one, zero), j, lane)
    with script.vectorized(lanes) as lane:
        put(ordered[0], zero, 0, lane)
    for values, to, shift in zip((e, windows.over, z, rates), ordered, (1, 0, 0, 0), strict=True):
        with script.serial(k) as j:
            with script.vectorized(lanes) as lane:
                put(to, zero, j + shift, lane)
            with script.serial(k) as o, script.vectorized(lanes) as lane:
                here = rank[o, lane] == j.astype("float32")
                put(
                    to,
                    to[j + shift, lane] + tirx.Select(here, values[o, lane], zero),
                    j + shift,
                    lane,
                )
    return ordered
