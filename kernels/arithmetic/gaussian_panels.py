"""Mean and variance of f(x), x ~ N(m, s²), by quadrature on panels, in float32.

f changes on a scale of its own, which may be far from s.

Formulas
--------
With x = m + t, t = sz and d(t) = f(m + t) − f(m), as in `refbnn.numerics.gaussian_expectation`:

    E[f] = f(m) + E[d],      Var[f] = E[d²] − E[d]².

The gain E[f′] is E[zd]/s by Stein's lemma, and the own variance Var[f] − E[f′]²s² is then
Var[f] − E[zd]². Given d to relative accuracy, nothing is lost however small s is. For monotone f,
f(m) is the median of f(x), which lies within a standard deviation of the mean: E[d]² ≤ Var[f], and
the difference loses one bit.

z runs from −R to √(z₀² + R²), where z₀ = max(0, −m/s) is the z of x = 0: a function that is small
left of 0 has most of its moments right of it, however improbable. Knots of f and z = 0 cut this
range into panels of 18 Gauss–Legendre nodes. A panel is empty where its knot lies outside.

Range
-----
Errors are rounding errors. They grow with z₀: by z²/2 in the exponent of φ, and by x = m + t.
|m|/s ≤ 10, s from 1e-6 to 1e5: the variance to 1.2e-5 relative, the mean to 1e-6 of |f(m)| + √Var;
where f does not change its sign, to 1e-5 relative. Observed on 150 000 points for each function:
1.06e-5 of the variance (GELU, m/s near −10), 3e-6 for |m|/s ≤ 3, 5e-7 of |f(m)| + √Var.
Larger |m|/s do no harm, except to moments that come from the far side of 0: the quadrature ends at
z₀ = 12.5, where φ leaves float32.

An element takes some 100 ns with AVX-512 (GELU 230 ns), at 108 nodes (GELU 144).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
import tvm
from numpy.polynomial import legendre
from tvm import te, tirx

from kernels.arithmetic.normal import pdf
from kernels.arithmetic.polynomials import f32, fma, nan_of
from kernels.program.program import Activation, Program, Step

RELATIVE_ERROR = 1.2e-5  # of the variance: see the range above
_REACH = 5.8  # R
_FARTHEST = 12.5  # greatest z₀
_NODES, _WEIGHTS = legendre.leggauss(18)


@dataclass(frozen=True)
class Quadrature:
    """An elementwise function f whose moments are integrals.

    Parameters
    ----------
    operator : str
        Word for the workload, such as "sigmoid".
    value : callable (x) -> f(x)
        TVM expressions of one element.
    difference : callable (m, t) -> f(m + t) − f(m)
        Relatively accurate, and finite for all finite m and t.
    left, right : tuples of ascending x
        Knots that can lie left and right of m. Between knots, f is close to a short polynomial.
    odd : bool
        Whether f(x) − f(0) is odd: then `difference` and the knots are for m ≤ 0 alone.
    """

    operator: str
    value: Callable
    difference: Callable
    left: tuple[float, ...]
    right: tuple[float, ...]
    odd: bool = False

    def centre(self, mean):
        """m, or −|m| of an odd function."""
        return -tirx.max(mean, -mean) if self.odd else mean


def add(
    program: Program, name: str, f: Quadrature, x: Activation, linearised: bool = False
) -> Activation:
    """Apply f to every element; `name` starts the names of the blocks.

    With `linearised`, y of random inputs has its own variance and gain beside.
    """
    known = x.var is None
    if known:

        def value(*i):
            return f.value(x.mean(*i)) + nan_of(x.mean(*i))

        result = [te.compute(x.mean.shape, value, name=f"{name}_v0"), None]
    else:
        rule = program.weight(f"{name}_rule", np.stack([0.5 * (1.0 + _NODES), 0.5 * _WEIGHTS]))
        result = _compute(name, f, x.mean, x.var, rule, linearised)
    gain = " with gain" if linearised and not known else ""
    workload = f"{f.operator}{gain} {prod(map(int, x.mean.shape))}"
    transform = partial(schedule, name=name, known=known, lanes=program.target.lanes)
    program.steps.append(Step(workload, {}, {}, transform))
    return Activation(x.layout, *result)


def _compute(name: str, f: Quadrature, mean, var, rule, linearised: bool) -> list[te.Tensor]:
    """Say what is computed: E[f] and Var[f]; with `linearised` own variance and gain, too."""
    shape, zero = mean.shape, f32(0.0)
    s = te.compute(shape, lambda *i: tirx.sqrt(var(*i)), name=f"{name}_s")
    over = te.compute(
        shape,
        lambda *i: tirx.Select(s(*i) > zero, f32(1.0) / s(*i), zero),
        name=f"{name}_over",
    )
    ends = _ends(name, f, mean, over)
    m1, m2, *slope = _sums(name, f, mean, var, s, over, ends, rule, linearised)

    def result(*i):
        shift = m1(*i)
        if f.odd:
            shift = tirx.Select(mean(*i) > zero, -shift, shift)
        nan = nan_of(mean(*i), var(*i))
        spread = tirx.max(zero, m2(*i) - m1(*i) * m1(*i))  # in this order NaN stays NaN
        moments = f.value(mean(*i)) + shift + nan, spread + nan
        if not slope:
            return moments
        (by_z,) = [each(*i) for each in slope]
        own = tirx.max(zero, spread - by_z * by_z)
        return *moments, own + nan, by_z * over(*i) + nan

    return list(te.compute(shape, result, name=name))


def _ends(name: str, f: Quadrature, mean, over) -> te.Tensor:
    """Ends of the panels in z, ascending: from −R by way of 0 to √(z₀² + R²)."""
    zero = f32(0.0)

    def end(p, *i):
        m = f.centre(mean(*i))
        kink = tirx.min(tirx.max(-m * over(*i), zero), f32(_FARTHEST))
        first, last = f32(-_REACH), tirx.sqrt(kink * kink + f32(_REACH**2))
        left, right = ([(f32(x) - m) * over(*i) for x in side] for side in (f.left, f.right))
        ends = [first, *(tirx.max(tirx.min(z, zero), first) for z in left), zero]
        ends += [*(tirx.min(tirx.max(z, zero), last) for z in right), last]
        chosen = last
        for index, z in enumerate(ends[:-1]):
            chosen = tirx.if_then_else(p == index, z, chosen)
        return chosen

    n_ends = len(f.left) + len(f.right) + 3
    return te.compute((n_ends, *mean.shape), end, name=f"{name}_end")


def _sums(
    name: str, f: Quadrature, mean, var, s, over, ends, rule, linearised: bool
) -> list[te.Tensor]:
    """E[d] and E[d²], and E[zd] with `linearised`, added up over panels p and nodes q."""
    shape, n_panels = mean.shape, int(ends.shape[0]) - 1
    nodes = (n_panels, _NODES.size, *shape)

    def width(p, *i):
        return ends[p + 1, *i] - ends[p, *i]

    z = te.compute(
        nodes, lambda p, q, *i: fma(width(p, *i), rule[0, q], ends[p, *i]), name=f"{name}_z"
    )

    # t = sz, plus the rounding error of s times z: a relative error δ of s becomes 100 δ in the
    # moments at m/s = −10.
    rest = te.compute(
        shape,
        lambda *i: f32(0.5) * over(*i) * fma(-s(*i), s(*i), var(*i)),
        name=f"{name}_rest",
    )

    def at_node(p, q, *i):
        t = fma(s(*i), z[p, q, *i], rest(*i) * z[p, q, *i])
        return f.difference(f.centre(mean(*i)), t)

    d = te.compute(nodes, at_node, name=f"{name}_d")
    weight = te.compute(
        nodes,
        lambda p, q, *i: pdf(z[p, q, *i]) * (width(p, *i) * rule[1, q]),
        name=f"{name}_weight",
    )
    p, q = te.reduce_axis((0, n_panels), name="p"), te.reduce_axis((0, _NODES.size), name="q")
    both = te.comm_reducer(
        lambda a, b: tuple([x + y for x, y in zip(a, b, strict=True)]),
        lambda *types: tuple([f32(0.0) for _ in types]),
        name="both",
    )

    def moment(*i):
        first = weight[p, q, *i] * d[p, q, *i]
        terms = [first, first * d[p, q, *i]]
        if linearised:
            terms.append(first * z[p, q, *i])
        return both(tuple(terms), axis=[p, q])

    return te.compute(shape, moment, name=f"{name}_sums")


def schedule(
    sch: tvm.s_tir.Schedule, decisions: Mapping[str, int], name: str, known: bool, lanes: int
) -> None:
    """Say how it is computed: one decision a paragraph."""
    # One vector of elements at a time, so that all between x and f stays in the first cache.
    final = sch.get_sblock(f"{name}_v0")
    *_, column = sch.get_loops(final)
    elements, lane = sch.split(column, [None, lanes])
    sch.vectorize(lane)
    if known:
        return
    depth = len(sch.get_loops(final)) - 1

    def whole_vectors(stage: str, at) -> None:
        part = sch.get_sblock(f"{name}_{stage}")
        sch.compute_at(part, at)
        lane = sch.get_loops(part)[-1]
        sch.vectorize(lane)

    # The loops over panels and nodes go around the lanes; a node is used as soon as it is made.
    sums = sch.get_sblock(f"{name}_sums")
    sch.compute_at(sums, elements)
    lane, panel, node = sch.get_loops(sums)[depth:]
    sch.reorder(panel, node, lane)
    sch.vectorize(lane)
    for stage in ("weight", "d", "z"):
        whole_vectors(stage, node)
    for stage in ("rest", "end", "over", "s"):
        whole_vectors(stage, elements)
    sch.decompose_reduction(sums, panel)
