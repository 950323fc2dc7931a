"""Mean and variance of the greatest of independent Gaussians, in float32.

Two (Clark 1961)
----------------
For independent X₁, X₂ with m₁ ≥ m₂, θ² = v₁ + v₂, x = (m₁ − m₂)/θ and h_n = h_n(−x), as derived in
`refbnn.maximum`:

    E = m₁ + θh₁,      Var = v₁(1 − 2h₀) + θ²(h₂ − h₁²).

All terms of the variance are positive. Where all variances are 0, E = m₁ and Var = 0 exactly, ties
included.

k, `exact`
----------
F(x) = ∏Φ((x − m_i)/s_i) is the distribution function of the maximum, f = F′ its density. Both come
from one product of dual numbers, (F, f)(G, g) = (FG, Fg + fG), of the factors (Φ_i, φ_i/s_i).

Below x₀ = max_i(m_i − R s_i) F is less than Φ(−R); below min_i(m_i − R_k s_i) with
Φ(−R_k)^k = Φ(−R) too. What lies below the greater of both, x₀, counts as lying there: for a
deterministic entry that is exact, F jumps at x₀ = m_i.
Beyond x₀ the factor Φ_i varies no farther than the length e_i = (R − z_i + …)s_i ≤ (R + U)s_i, with
z_i = (x₀ − m_i)/s_i; where z_i > 0, its tail falls by e^{−U²/2} within √(z² + U²) − z standard
deviations. With the entries in the order of e_i, the piece from e_{i−1} to e_i is no longer than
(R + U) of the scales that still vary there, s_i and those after it: one Gauss–Legendre rule of 24
nodes resolves it, however far the scales lie apart, and the factors before need not be computed.
k(k + 1)/2 · 24 of them in all.

Offsets run from the mean of the entry that x₀ belongs to; moments are taken about the greatest mean,
from which that of the maximum is √15 standard deviations away at most (k = 25 equal entries), so
that the variance loses a factor 16 of rounding at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tvm
from numpy.polynomial import legendre
from scipy.special import ndtr, ndtri
from tvm import te, tirx

from kernels.normal import cdf, lower_rectified, pdf
from kernels.polynomials import f32, fma, named
from kernels.program import Program

_LOW = 5.4  # R
_HIGH = 6.0  # U
_FAR = 13.25  # from here on φ is 0 in float32
_LARGEST = 2.0**126
_NODES, _WEIGHTS = legendre.leggauss(24)


def pairwise(mean_1, var_1, mean_2, var_2):
    """Mean and variance of max(X₁, X₂), of one element: TVM expressions in and out.

    A mean of −∞ with variance 0 stands for an entry that is not there.
    """

    def formula(name):
        swap = mean_2 > mean_1
        high, low = tirx.max(mean_1, mean_2), tirx.min(mean_1, mean_2)
        gap, gap_rest = two_sum(name, name(high), -name(low))
        theta_squared, theta_rest = two_sum(name, var_1, var_2)
        theta, h0, h1, h2 = lower_rectified(name, gap, theta_squared, gap_rest, theta_rest)
        own = tirx.Select(swap, var_2, var_1)
        mean = high + theta * h1
        return mean, own * (f32(1.0) - f32(2.0) * h0) + theta_squared * (h2 - h1 * h1)

    return named(formula, 2)


def two_sum(name, a, b):
    """a + b rounded, and what rounding took from it, exactly (Knuth 1969; Møller 1965)."""
    total = name(a + b)
    b_part = name(total - a)
    return total, name((a - (total - b_part)) + (b - b_part))


def exact(
    program: Program, name: str, shape: Sequence[int], k: int, element: Callable
) -> list[te.Tensor]:
    """Mean and variance of the greatest of k, of as many windows as `shape` has places.

    Parameters
    ----------
    program : Program
        Gets the nodes and weights of the rule, as a weight.
    name : str
        Starts the names of the blocks, by which `schedule` finds them.
    shape : sequence of int
        Of the result. Its last axis is computed by whole vectors: a multiple of the lanes.
    k : int, at least 1
        Entries of a window.
    element : callable (j, *index) -> (mean, var)
        Entry j of the window at `index`, in TVM expressions; j is an expression too. A mean of −∞
        with variance 0 stands for an entry that is not there, but one must be.

    Returns
    -------
    mean, var : tensors of that shape
    """
    lowest = -float(ndtri(ndtr(-_LOW) ** (1.0 / k)))
    zero, one = f32(0.0), f32(1.0)
    rule = program.weight(f"{name}_rule", np.stack([0.5 * (1.0 + _NODES), 0.5 * _WEIGHTS]))

    def over_entries(letter):
        return te.reduce_axis((0, k), name=letter)

    # The entries, and which of them x₀ belongs to; of equals a deterministic one.
    m = te.compute((k, *shape), lambda j, *i: element(j, *i)[0], name=f"{name}_m")
    s = te.compute((k, *shape), lambda j, *i: tirx.sqrt(element(j, *i)[1]), name=f"{name}_s")

    def later(a, b):
        start_a, start_b = (mean - f32(_LOW) * scale for mean, scale in (a, b))
        take_b = tirx.Or(start_a < start_b, tirx.And(start_a == start_b, b[1] < a[1]))
        return tuple([tirx.Select(take_b, y, x) for x, y in zip(a, b, strict=True)])

    latest = te.comm_reducer(later, lambda *_: (f32(-_LARGEST), zero), name="latest")
    j = over_entries("j")
    base, _ = te.compute(
        shape, lambda *i: latest((m[j, *i], s[j, *i]), axis=j), name=f"{name}_base"
    )

    # x₀ and the greatest mean, both from there.
    extremes = te.comm_reducer(
        lambda a, b: (tirx.max(a[0], b[0]), tirx.min(a[1], b[1]), tirx.max(a[2], b[2])),
        lambda *_: (f32(-_LARGEST), f32(_LARGEST), f32(-_LARGEST)),
        name="extremes",
    )
    j1 = over_entries("j")

    def ends(*i):
        offset = m[j1, *i] - base[*i]
        return extremes(
            (offset - f32(_LOW) * s[j1, *i], offset - f32(lowest) * s[j1, *i], offset), axis=j1
        )

    first, least, centre = te.compute(shape, ends, name=f"{name}_ends")

    def start(*i):
        return tirx.max(first[*i], least[*i])

    # Factors as functions of u = x − x₀: Φ(z + u/s), up to e.
    over = te.compute(
        (k, *shape),
        lambda j, *i: tirx.Select(s[j, *i] > zero, one / s[j, *i], zero),
        name=f"{name}_over",
    )

    def place(j, *i):
        far = tirx.min((start(*i) - (m[j, *i] - base[*i])) * over[j, *i], f32(_FAR))
        return tirx.Select(s[j, *i] > zero, far, f32(_FAR))

    z = te.compute((k, *shape), place, name=f"{name}_z")

    def reach(j, *i):
        above, high = tirx.max(z[j, *i], zero), f32(_HIGH)
        tail = high * high / (tirx.sqrt(above * above + high * high) + above)
        length = (tirx.min(tirx.max(-z[j, *i], zero), f32(_LOW)) + tail) * s[j, *i]
        return tirx.Select(z[j, *i] < f32(_FAR), length, zero)

    e = te.compute((k, *shape), reach, name=f"{name}_e")

    # In the order of e: by the number of entries before each.
    l = over_entries("l")

    def before(j, *i):
        tie = tirx.And(e[l, *i] == e[j, *i], l < j)
        return te.sum(tirx.Select(tirx.Or(e[l, *i] < e[j, *i], tie), one, zero), axis=l)

    rank = te.compute((k, *shape), before, name=f"{name}_rank")

    def in_order(values, what, extra=0):
        l = over_entries("l")

        def chosen(j, *i):
            here = rank[l, *i] == (j - extra).astype("float32")
            return te.sum(tirx.Select(here, values[l, *i], zero), axis=l)

        return te.compute((k + extra, *shape), chosen, name=f"{name}_{what}_sorted")

    over, z_sorted, e = in_order(over, "over"), in_order(z, "z"), in_order(e, "e", 1)

    # Nodes, and at each the factors that still vary.
    nodes = (k, _NODES.size, *shape)

    def node(j, q, *i):
        return fma(e[j + 1, *i] - e[j, *i], rule[0, q], e[j, *i])

    u = te.compute(nodes, node, name=f"{name}_u")
    factors = (k, _NODES.size, k, *shape)

    def varying(j, l, value, other):
        return tirx.if_then_else(l >= j, value, other)

    t = te.compute(
        factors,
        lambda j, q, l, *i: fma(u[j, q, *i], over[l, *i], z_sorted[l, *i]),
        name=f"{name}_t",
    )
    phi = te.compute(
        factors,
        lambda j, q, l, *i: varying(j, l, pdf(t[j, q, l, *i]), zero),
        name=f"{name}_pdf",
    )
    Phi = te.compute(
        factors,
        lambda j, q, l, *i: varying(j, l, cdf(t[j, q, l, *i], phi[j, q, l, *i]), one),
        name=f"{name}_cdf",
    )
    dual = te.comm_reducer(
        lambda a, b: (a[0] * b[0], a[0] * b[1] + a[1] * b[0]), lambda *_: (one, zero), name="dual"
    )
    l2 = over_entries("l")
    _, f = te.compute(
        nodes,
        lambda j, q, *i: dual((Phi[j, q, l2, *i], phi[j, q, l2, *i] * over[l2, *i]), axis=l2),
        name=f"{name}_density",
    )
    j2, q = over_entries("j"), te.reduce_axis((0, _NODES.size), name="q")
    both = te.comm_reducer(
        lambda a, b: (a[0] + b[0], a[1] + b[1]), lambda *_: (zero, zero), name="both"
    )

    def moment(*i):
        mass = f[j2, q, *i] * ((e[j2 + 1, *i] - e[j2, *i]) * rule[1, q])
        away = u[j2, q, *i] + (start(*i) - centre[*i])
        return both((mass * away, mass * away * away), axis=[j2, q])

    m1, m2 = te.compute(shape, moment, name=f"{name}_sums")

    # What counts as lying at x₀.
    product = te.comm_reducer(lambda a, b: a * b, lambda _: one, name="product")
    j3 = over_entries("j")
    phi0 = te.compute((k, *shape), lambda j, *i: pdf(z[j, *i]), name=f"{name}_pdf0")
    jump = te.compute(
        shape, lambda *i: product(cdf(z[j3, *i], phi0[j3, *i]), axis=j3), name=f"{name}_jump"
    )

    def result(*i):
        away = start(*i) - centre[*i]
        shift = m1[*i] + jump[*i] * away
        var = m2[*i] + jump[*i] * away * away - shift * shift
        return base[*i] + (centre[*i] + shift), tirx.max(var, zero)

    return te.compute(shape, result, name=name)


def schedule(sch: tvm.s_tir.Schedule, decisions: Mapping[str, int], name: str, lanes: int) -> None:
    """Say how `exact` is computed: one decision a paragraph."""

    def block(stage: str):
        return sch.get_sblock(f"{name}_{stage}")

    # One vector of windows from its entries to its moments: all between stays in the first cache.
    *outer, column = sch.get_loops(block("v0"))
    windows, lane = sch.split(column, [None, lanes])
    sch.vectorize(lane)

    # Every stage computes whole vectors of windows; sums over entries run outside of the lanes, and
    # are set to their start before.
    def put(stage: str, at, own: int) -> None:
        part = block(stage)
        sch.compute_at(part, at)
        inner = sch.get_loops(part)[len(sch.get_loops(block("v0"))) - 1 + depth :]
        lane, reduced = inner[own], inner[own + 1 :]
        sch.reorder(*inner[:own], *reduced, lane)
        if reduced:
            sums.append((part, reduced[0]))
        sch.vectorize(lane)

    sums: list[tuple] = []
    depth = 0
    put("jump", windows, 0)
    put("sums", windows, 0)

    # Inside the sums over pieces and nodes all factors of one node, in registers.
    piece, node = sch.get_loops(block("sums"))[-3:-1]
    depth = 2
    put("density", node, 0)
    factor = sch.get_loops(block("density"))[-2]
    depth = 3
    for stage in ("cdf", "pdf", "t"):
        put(stage, factor, 0)
    depth = 2
    put("u", node, 0)
    depth = 0
    for stage in ("pdf0", "over_sorted", "z_sorted", "e_sorted", "rank", "e", "z", "over"):
        put(stage, windows, 1)
    for stage in ("ends", "base"):
        put(stage, windows, 0)
    for stage in ("m", "s"):
        put(stage, windows, 1)
    for part, first in sums:
        sch.decompose_reduction(part, first)
