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

Below max_i(m_i − R s_i), F is less than Φ(−R), and below min_i(m_i − R_k s_i) too, where
Φ(−R_k)^k = Φ(−R). What lies below the greater of both, x₀, counts as lying there: for a
deterministic entry that is exact, F jumps at x₀ = m_i.

With z_i = (x₀ − m_i)/s_i ≥ −R, the factor Φ_i varies no farther than e_i ≤ (R + U)s_i beyond x₀: up
to U standard deviations above m_i, or, where z_i > 0, over the √(z_i² + U²) − z_i standard
deviations in which its tail falls by e^{−U²/2}. In the order of e_i, the piece from e_{i−1} to e_i
is no longer than R + U of the scales that still vary there, s_i and those after it: one
Gauss–Legendre rule resolves it, however far the scales lie apart, and the factors before it are 1.
These are k(k + 1)/2 times 24 factors (32 for k > 4).

Offsets run from the mean of the entry with the greatest m_i − R s_i. Moments are taken about a
guess of the mean, the greatest m_i and half of what k of the least scale would add: within a
few standard deviations, so that the variance loses a few bits at most.

Range of `exact`, for k ≤ 9, scales over twelve decades, ties, deterministic entries up to 10
standard deviations above the rest: mean to 1e-5 of the standard deviation and a rounding of itself,
variance to 1e-5 relative (2e-5 for k = 16), and 2⁻¹²⁶ more. Observed: 6e-6 for k ≤ 9.
A window of 2, 4, 9, 16 entries takes 50, 150, 900, 3000 ns with AVX-512.
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


def _rule(k: int) -> np.ndarray:
    """Nodes and weights on [0, 1]; F of many entries of one scale is steeper."""
    nodes, weights = legendre.leggauss(24 if k <= 4 else 32)
    return np.stack([0.5 * (1.0 + nodes), 0.5 * weights])


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
    k : int, at least 2
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
    rule = program.weight(f"{name}_rule", _rule(k))
    n_nodes = int(rule.shape[1])

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

    # From there: the two bounds of x₀, and the centre of the moments.
    extremes = te.comm_reducer(
        lambda a, b: (
            tirx.max(a[0], b[0]),
            tirx.min(a[1], b[1]),
            tirx.max(a[2], b[2]),
            tirx.min(a[3], b[3]),
        ),
        lambda *_: (f32(-_LARGEST), f32(_LARGEST), f32(-_LARGEST), f32(_LARGEST)),
        name="extremes",
    )
    j1 = over_entries("j")

    def ends(*i):
        scale = s[j1, *i]
        offset = m[j1, *i] - base[*i]
        starts = offset - f32(_LOW) * scale, offset - f32(lowest) * scale
        return extremes((*starts, offset, scale), axis=j1)

    first, least, top, least_scale = te.compute(shape, ends, name=f"{name}_ends")
    half = 0.5 * float(ndtri((k - 0.375) / (k + 0.25)))  # of the greatest of k N(0, 1) (Blom 1958)
    centre = te.compute(
        shape, lambda *i: top[*i] + f32(half) * least_scale[*i], name=f"{name}_centre"
    )

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

    # 1/s, the factor of φ. Rounding of z > 0 by δ is one of zδ in φ: made good here.
    def rate(j, *i):
        def formula(name):
            at, scale, inverse = z[j, *i], s[j, *i], over[j, *i]
            gap = start(*i) - (m[j, *i] - base[*i])
            v_rest = fma(-scale, scale, element(j, *i)[1])
            delta = (fma(-at, scale, gap) - f32(0.5) * at * inverse * v_rest) * inverse
            tail = tirx.And(at > zero, at < f32(_FAR))
            return (inverse * tirx.Select(tail, one - at * delta, one),)

        return named(formula, 1)[0]

    rates = te.compute((k, *shape), rate, name=f"{name}_rate")

    # In the order of e: by the number of entries before each.
    o = over_entries("o")

    def before(j, *i):
        tie = tirx.And(e[o, *i] == e[j, *i], o < j)
        return te.sum(tirx.Select(tirx.Or(e[o, *i] < e[j, *i], tie), one, zero), axis=o)

    rank = te.compute((k, *shape), before, name=f"{name}_rank")

    def in_order(values, what, extra=0):
        o = over_entries("o")

        def chosen(j, *i):
            here = rank[o, *i] == (j - extra).astype("float32")
            return te.sum(tirx.Select(here, values[o, *i], zero), axis=o)

        return te.compute((k + extra, *shape), chosen, name=f"{name}_{what}_sorted")

    over, z_sorted, e = in_order(over, "over"), in_order(z, "z"), in_order(e, "e", 1)
    rates = in_order(rates, "rate")

    # Nodes, and at each the factors that still vary.
    nodes = (k, n_nodes, *shape)

    def node(j, q, *i):
        return fma(e[j + 1, *i] - e[j, *i], rule[0, q], e[j, *i])

    u = te.compute(nodes, node, name=f"{name}_u")
    factors = (k, n_nodes, k, *shape)

    def varying(j, o, value, other):
        return tirx.if_then_else(o >= j, value, other)

    t = te.compute(
        factors,
        lambda j, q, o, *i: fma(u[j, q, *i], over[o, *i], z_sorted[o, *i]),
        name=f"{name}_t",
    )
    phi = te.compute(
        factors,
        lambda j, q, o, *i: varying(j, o, pdf(t[j, q, o, *i]), zero),
        name=f"{name}_pdf",
    )
    Phi = te.compute(
        factors,
        lambda j, q, o, *i: varying(j, o, cdf(t[j, q, o, *i], phi[j, q, o, *i]), one),
        name=f"{name}_cdf",
    )
    dual = te.comm_reducer(
        lambda a, b: (a[0] * b[0], a[0] * b[1] + a[1] * b[0]), lambda *_: (one, zero), name="dual"
    )
    o2 = over_entries("o")
    _, f = te.compute(
        nodes,
        lambda j, q, *i: dual((Phi[j, q, o2, *i], phi[j, q, o2, *i] * rates[o2, *i]), axis=o2),
        name=f"{name}_density",
    )
    j2, q = over_entries("j"), te.reduce_axis((0, n_nodes), name="q")
    three = te.comm_reducer(
        lambda a, b: (a[0] + b[0], a[1] + b[1], a[2] + b[2]),
        lambda *_: (zero, zero, zero),
        name="three",
    )

    def moment(*i):
        mass = f[j2, q, *i] * ((e[j2 + 1, *i] - e[j2, *i]) * rule[1, q])
        away = u[j2, q, *i] + (start(*i) - centre[*i])
        return three((mass, mass * away, mass * away * away), axis=[j2, q])

    m0, m1, m2 = te.compute(shape, moment, name=f"{name}_sums")

    # What counts as lying at x₀.
    product = te.comm_reducer(lambda a, b: a * b, lambda _: one, name="product")
    j3 = over_entries("j")
    phi0 = te.compute((k, *shape), lambda j, *i: pdf(z[j, *i]), name=f"{name}_pdf0")
    jump = te.compute(
        shape, lambda *i: product(cdf(z[j3, *i], phi0[j3, *i]), axis=j3), name=f"{name}_jump"
    )

    def result(*i):
        away = start(*i) - centre[*i]
        # Divided by the total, which is 1 but for rounding of the product F, the same in all three.
        share = one / (m0[*i] + jump[*i])
        shift = (m1[*i] + jump[*i] * away) * share
        var = (m2[*i] + jump[*i] * away * away) * share - shift * shift
        return base[*i] + (centre[*i] + shift), tirx.max(var, zero)

    return te.compute(shape, result, name=name)


def schedule(sch: tvm.s_tir.Schedule, decisions: Mapping[str, int], name: str, lanes: int) -> None:
    """Say how `exact` is computed: one decision a paragraph."""

    def block(stage: str):
        return sch.get_sblock(f"{name}_{stage}")

    # One vector of windows from its entries to its moments: all between stays in the first cache.
    *_, column = sch.get_loops(block("v0"))
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
    node = sch.get_loops(block("sums"))[-2]
    depth = 2
    put("density", node, 0)
    factor = sch.get_loops(block("density"))[-2]
    depth = 3
    for stage in ("cdf", "pdf", "t"):
        put(stage, factor, 0)
    depth = 2
    put("u", node, 0)
    depth = 0
    for stage in (
        "pdf0",
        "over_sorted",
        "z_sorted",
        "e_sorted",
        "rate_sorted",
        "rank",
        "rate",
        "e",
        "z",
        "over",
    ):
        put(stage, windows, 1)
    for stage in ("centre", "ends", "base"):
        put(stage, windows, 0)
    for stage in ("m", "s"):
        put(stage, windows, 1)
    for part, first in sums:
        sch.decompose_reduction(part, first)
