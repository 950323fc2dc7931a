"""Mean and variance of the greatest of independent Gaussians, in float32.

Two entries, `pairwise` (Clark 1961)
------------------------------------
For independent X₁, X₂ with m₁ ≥ m₂, θ² = v₁ + v₂, x = (m₁ − m₂)/θ and h_n = h_n(−x), as derived in
`refbnn.numerics.gaussian_maximum`:

    E = m₁ + θh₁,      Var = v₁(1 − 2h₀) + θ²(h₂ − h₁²).

All terms of the variance are positive. Where all variances are 0, E = m₁ and Var = 0 exactly, ties
included.

k entries, `exact`
------------------
One of two methods computes the windows of a vector. Where the scales that matter are alike, as
before ReLU, it is the distribution function of the maximum at even steps
(`kernels.maximum.grouped`); otherwise the density of the maximum on panels whose lengths follow
each of the scales (`kernels.maximum.panels`).

Linearised propagation asks for the weights π too, the probability of each entry to be the greatest,
by the second method, and for the own variance r = Var − Σ π_i² v_i, which has the error of Var.

Range of `exact`, for k ≤ 9, scales over twelve decades, ties, deterministic entries up to 10
standard deviations above the rest: mean to 1e-5 of the standard deviation and a rounding of itself,
variance to 1e-5 relative (2e-5 for k = 16), and 2⁻¹²⁶ more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tvm import te, tirx
from tvm.script.ir_builder import tirx as script

from kernels.arithmetic.normal import lower_rectified
from kernels.arithmetic.polynomials import f32, named
from kernels.arithmetic.statements import put
from kernels.maximum import grouped as maximum_grouped
from kernels.maximum import panels as maximum_panels
from kernels.maximum.window import Windows
from kernels.program import loops
from kernels.program.program import Program

ABSENT = float(np.finfo(np.float32).min)  # below every mean


def pairwise(mean_1, var_1, mean_2, var_2):
    """Mean and variance of max(X₁, X₂), of one element: TVM expressions in and out.

    A mean of `ABSENT` with variance 0 stands for an entry that is not there, and one of −∞ would.
    """

    def formula(name):
        swap = mean_2 > mean_1
        high, low = tirx.Select(swap, mean_2, mean_1), tirx.Select(swap, mean_1, mean_2)
        gap, gap_rest = two_sum(name, name(high), -name(low))
        theta_squared, theta_rest = two_sum(name, var_1, var_2)
        theta, h0, h1, h2 = lower_rectified(name, gap, theta_squared, gap_rest, theta_rest)
        own = tirx.Select(swap, var_2, var_1)
        mean = high + theta * h1
        return mean, own * (f32(1.0) - f32(2.0) * h0) + theta_squared * (h2 - h1 * h1)

    return named(formula, 2)


def two_sum(name, a, b):
    """a + b rounded, and its rounding error exactly (Knuth 1969; Møller 1965)."""
    total = name(a + b)
    b_part = name(total - a)
    return total, name((a - (total - b_part)) + (b - b_part))


def exact(
    program: Program,
    name: str,
    shape: Sequence[int],
    k: int,
    element: Callable,
    linearised: bool = False,
) -> list[te.Tensor]:
    """Mean and variance of the greatest of k entries, for an array of windows.

    Parameters
    ----------
    program : Program
        Takes the nodes and weights of the quadrature as a weight.
    name : str
        Starts the names of the blocks.
    shape : sequence of int
        Shape of the result. Whole vectors compute its last axis, a multiple of the lanes.
    k : int, at least 2
        Number of entries of a window.
    element : callable (j, *index) -> (mean, var)
        Entry j of the window at `index`, in TVM expressions; j is an expression too. A mean of
        `ABSENT` with variance 0 stands for an entry that is not there, but one must be.
    linearised : bool
        Whether own variance and weights are wanted, too.

    Returns
    -------
    mean, var, and where they are wanted r and π of each entry; tensors of that shape
    """
    lanes = program.target.lanes
    nodes = program.weight(f"{name}_rule", maximum_panels.rule(k))
    entries = (shape[0], k, *shape[1:])
    m, v = (
        te.compute(entries, lambda i, j, *p: element(j, i, *p)[0], name=f"{name}_m"),
        te.compute(entries, lambda i, j, *p: element(j, i, *p)[1], name=f"{name}_v"),
    )

    def vector(ins, outs, place):
        m, v, nodes = ins

        def entry(j, lane):
            i, *p = place(lane)
            return m[i, j, *p], v[i, j, *p]

        windows = Windows.read(k, lanes, entry)

        def result(lane, mean, var):
            put(outs[0], mean + windows.nan[lane], *place(lane))
            put(outs[1], var + windows.nan[lane], *place(lane))

        start, length, least, greatest = maximum_grouped.cells(windows)
        with script.If(maximum_grouped.suit(length, least, greatest)):
            with script.Then():
                maximum_grouped.moments(windows, start, length, least, result)
            with script.Else():
                maximum_panels.moments(windows, nodes, result)

    moments = loops.stage(name, shape, [m, v], [nodes], 2, lanes, vector)
    if not linearised:
        return moments
    return moments + _weights(name, shape, k, [m, v, moments[1]], nodes, lanes)


def _weights(
    name: str, shape: Sequence[int], k: int, tensors: list[te.Tensor], nodes: te.Tensor, lanes: int
) -> list[te.Tensor]:
    """r and π, for means and variances of the entries and the variance of the greatest."""

    def vector(ins, outs, place):
        m, v, var, nodes = ins

        def entry(j, lane):
            i, *p = place(lane)
            return m[i, j, *p], v[i, j, *p]

        windows = Windows.read(k, lanes, entry)
        share = maximum_panels.weights(windows, nodes)
        own, *each = outs
        with script.vectorized(lanes) as lane:
            linear = sum(
                (share[e, lane] * share[e, lane] * windows.v[e, lane] for e in range(1, k)),
                share[0, lane] * share[0, lane] * windows.v[0, lane],
            )
            rest = tirx.max(f32(0.0), var[place(lane)] - linear)
            put(own, rest + windows.nan[lane], *place(lane))
            for e, out in enumerate(each):
                put(out, share[e, lane] + windows.nan[lane], *place(lane))

    return loops.stage(f"{name}_weights", shape, tensors, [nodes], k + 1, lanes, vector)


def blocks(name: str) -> list[str]:
    """Names of the blocks of `exact` that gather entries, for `kernels.program.vectors.schedule`.

    Its loops are written out and need no schedule.
    """
    return [f"{name}_m", f"{name}_v"]
