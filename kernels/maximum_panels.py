"""The greatest of Gaussians of any scales, from its density on one panel an entry.

Formula
-------
F(x) = ∏Φ((x − m_i)/s_i) is the distribution function of the maximum, f = F′ its density. Both come
from one product of dual numbers, (F, f)(G, g) = (FG, Fg + fG), of the factors (Φ_i, φ_i/s_i).

Below max_i(m_i − R s_i), R = 5.4, F is less than Φ(−R), and below min_i(m_i − R_k s_i) too, where
Φ(−R_k)^k = Φ(−R). What lies below the greater of both, x₀, counts as lying there: for a
deterministic entry that is exact, F jumps at x₀ = m_i.

With z_i = (x₀ − m_i)/s_i ≥ −R, the factor Φ_i varies no farther than e_i ≤ (R + U)s_i beyond x₀: up
to U standard deviations above m_i, or, where z_i > 0, over the √(z_i² + U²) − z_i standard
deviations in which its tail falls by e^{−U²/2}. In the order of e_i, the piece from e_{i−1} to e_i
is no longer than R + U of the scales that still vary there, s_i and those after it: one
Gauss–Legendre rule resolves it, however far the scales lie apart, and the factors before it are 1.
These are k(k + 1)/2 times 24 factors (32 for k > 4).

Moments are taken about a guess of the mean, within a few standard deviations, so that the variance
loses a few bits at most.

Range, for k ≤ 9, scales over twelve decades, ties, deterministic entries up to 10 standard
deviations above the rest: mean to 1e-5 of the standard deviation and a rounding of itself, variance
to 1e-5 relative (2e-5 for k = 16), and 2⁻¹²⁶ more. Observed: 6e-6 for k ≤ 9.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.polynomial import legendre
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from kernels.maximum_window import FAR, LOW, Windows, array, let, put
from kernels.normal import cdf, pdf
from kernels.polynomials import f32, fma

_HIGH = 6.0  # U


def rule(k: int) -> np.ndarray:
    """Nodes and weights on [0, 1]; F of many entries of one scale is steeper."""
    nodes, weights = legendre.leggauss(24 if k <= 4 else 32)
    return np.stack([0.5 * (1.0 + nodes), 0.5 * weights])


def moments(windows: Windows, rule: tirx.Buffer, result: Callable) -> None:
    """Write the statements that compute mean and variance.

    Parameters
    ----------
    windows : Windows
    rule : buffer (2, nodes)
    result : callable (lane, mean, var)
        Writes the statements that store them.
    """
    k, lanes = windows.k, windows.lanes
    zero, one = f32(0.0), f32(1.0)
    start = windows.start(LOW)
    centre = windows.near_mean(windows.fold(tirx.min, lambda j, l: windows.s[j, l]))
    away = array(lanes)
    with T.vectorized(lanes) as l:
        put(away, start[l] - centre[l], l)

    e, over, z, rates = _in_order(windows, start)

    # What counts as lying at x₀, and its moments.
    m0, m1, m2 = (array(lanes) for _ in range(3))
    with T.vectorized(lanes) as l:
        put(m0, one, l)
    with T.serial(k) as j, T.vectorized(lanes) as l:
        put(m0, m0[l] * cdf(z[j, l], pdf(z[j, l])), l)
    with T.vectorized(lanes) as l:
        put(m1, m0[l] * away[l], l)
        put(m2, m0[l] * away[l] * away[l], l)

    # At each node of a piece the product of the factors that still vary.
    u, F, f = (array(lanes) for _ in range(3))
    with T.serial(k) as j, T.serial(rule.shape[1]) as n:
        with T.vectorized(lanes) as l:
            put(u, fma(e[j + 1, l] - e[j, l], rule[0, n], e[j, l]), l)
            put(F, one, l)
            put(f, zero, l)
        with T.serial(k - j) as i, T.vectorized(lanes) as l:
            t = let(fma(u[l], over[j + i, l], z[j + i, l]))
            phi = let(pdf(t))
            Phi = let(cdf(t, phi))
            put(f, F[l] * (phi * rates[j + i, l]) + f[l] * Phi, l)
            put(F, F[l] * Phi, l)
        with T.vectorized(lanes) as l:
            mass = let(f[l] * ((e[j + 1, l] - e[j, l]) * rule[1, n]))
            x = let(u[l] + away[l])
            put(m0, m0[l] + mass, l)
            put(m1, m1[l] + mass * x, l)
            put(m2, m2[l] + mass * x * x, l)

    with T.vectorized(lanes) as l:
        # Divided by the total, which is 1 but for rounding of the product F, the same in all three.
        share = let(one / m0[l])
        shift = let(m1[l] * share)
        var = m2[l] * share - shift * shift
        result(l, windows.base[l] + (centre[l] + shift), tirx.max(var, zero))


def _in_order(windows: Windows, start: tirx.Buffer) -> list[tirx.Buffer]:
    """Write the statements that put the factors in the order of e.

    They are functions of u = x − x₀: Φ(z + u/s), up to e.

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
    with T.serial(k) as j, T.vectorized(lanes) as l:
        s, over = windows.s[j, l], windows.over[j, l]
        gap = let(start[l] - windows.m[j, l])
        at = let(tirx.Select(s > zero, tirx.min(gap * over, far), far))
        put(z, at, j, l)

        above, high = tirx.max(at, zero), f32(_HIGH)
        tail = high * high / (tirx.sqrt(above * above + high * high) + above)
        length = (tirx.min(tirx.max(-at, zero), f32(LOW)) + tail) * s
        put(e, tirx.Select(at < far, length, zero), j, l)

        # Rounding of z > 0 by δ is one of zδ in φ: made good here.
        v_rest = fma(-s, s, windows.v[j, l])
        delta = (fma(-at, s, gap) - f32(0.5) * at * over * v_rest) * over
        put(rates, over * tirx.Select(tirx.And(at > zero, at < far), one - at * delta, one), j, l)

    # In the order of e: to the place that as many entries precede.
    ordered = [array(k + 1, lanes), *[array(k, lanes) for _ in range(3)]]
    rank = array(k, lanes)
    with T.serial(k) as j, T.vectorized(lanes) as l:
        put(rank, zero, j, l)
    with T.serial(k) as j, T.serial(k) as o, T.vectorized(lanes) as l:
        first = tirx.Or(e[o, l] < e[j, l], tirx.And(e[o, l] == e[j, l], o < j))
        put(rank, rank[j, l] + tirx.Select(first, one, zero), j, l)
    with T.vectorized(lanes) as l:
        put(ordered[0], zero, 0, l)
    for values, to, shift in zip((e, windows.over, z, rates), ordered, (1, 0, 0, 0), strict=True):
        with T.serial(k) as j:
            with T.vectorized(lanes) as l:
                put(to, zero, j + shift, l)
            with T.serial(k) as o, T.vectorized(lanes) as l:
                here = rank[o, l] == j.astype("float32")
                put(to, to[j + shift, l] + tirx.Select(here, values[o, l], zero), j + shift, l)
    return ordered
