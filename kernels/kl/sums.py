"""Sums of KL over an array of weights, and its gradients: what is computed, and its schedule.

`kernels.kl.kernel` has the formulas. Expectations of f over nodes are one joint sum of three; the
sum over the array is formed in float64, one sum a lane.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import tvm
from tvm import te, tirx

from kernels.arithmetic.logarithm import log
from kernels.arithmetic.polynomials import f32, named
from kernels.kl import table as kl_table
from kernels.kl.prior import entry_and_place, integrand, laplace, scores_of_table
from kernels.layers.products import joint_sum
from kernels.program.program import Program, Step
from refbnn.noise import Gaussian, Law
from refbnn.numerics.quadrature import Rule
from refbnn.prior import GaussianPrior, LaplacePrior, Prior
from refbnn.training.kl.forms import loop_form

_FETCHED = ("fetched_df", "fetched_z_df")  # stages that read a table


def add(
    program: Program,
    size: int,
    mean: te.Tensor,
    scale: te.Tensor,
    slope: te.Tensor | None,
    law: Law,
    prior: Prior,
    rule: Rule | None,
) -> tuple[te.Tensor, te.Tensor, te.Tensor]:
    """Add ∂KL/∂µ and ∂KL/∂σ, (P padded) each, and KL of all weights, (1,), to a program.

    Parameters
    ----------
    program : Program
    size : int
        P.
    mean, scale : (P padded)
    slope : (P padded) or None
        Factor of ∂KL/∂σ for the chain rule, such as dσ/dρ.
    law, prior
    rule : Rule or None
        Nodes and weights, for priors that need them.
    """
    c_0, c_2 = _parabola(prior)
    sums, stages = _expectations(program, mean, scale, law, prior, rule)
    value, d_mean, d_scale = _by_weight(mean, scale, slope, c_2, sums)
    total = _total(value, size, size * (-law.entropy - c_0), program.target.lanes)
    n = 0 if rule is None else rule.nodes.size
    source = "table" if _FETCHED[0] in stages else f"{n} nodes"
    program.steps.append(
        Step(
            workload=f"kl {size} {type(prior).__name__} {source}",
            by_hand={"vectors": 2},
            space={"vectors": range(1, 9)},
            transform=partial(schedule, stages=stages, n=n, lanes=program.target.lanes),
        )
    )
    return d_mean, d_scale, total


def _parabola(prior: Prior) -> tuple[float, float]:
    """c₀ and c₂ of log p = c₀ + c₂θ² + f."""
    if isinstance(prior, GaussianPrior):
        return -0.5 * np.log(2.0 * np.pi * prior.scale**2), -0.5 / prior.scale**2
    if isinstance(prior, LaplacePrior):
        return -np.log(2.0 * prior.scale), 0.0
    return loop_form(prior).parabola  # type: ignore[arg-type]  # `kernels.kl.kernel` refused others


def _expectations(program, mean, scale, law, prior, rule):
    """E[f], E[f′] and E[z f′], (P padded) each, or None; and the names of the stages before."""
    if isinstance(prior, GaussianPrior):
        return None, []
    if isinstance(prior, LaplacePrior) and not isinstance(law, Gaussian):
        return _by_table(program, mean, scale, kl_table.table(law), prior.scale)
    if isinstance(prior, LaplacePrior):
        names = ["f", "df", "z_df"]
        return _stages(mean.shape, names, lambda i: laplace(prior.scale, mean[i], scale[i])), names
    names = ["f", "df"]
    z = program.weight("nodes", rule.nodes)
    w = program.weight("weights", rule.weights)
    wz = program.weight("weighted_nodes", rule.weights * rule.nodes)
    form, shape = loop_form(prior), (mean.shape[0], z.shape[0])
    f, df = _stages(shape, names, lambda i, k: integrand(form, mean[i], scale[i], z[k]))
    k = te.reduce_axis((0, rule.nodes.size), name="k")

    def terms(i):
        return joint_sum([w[k] * f[i, k], w[k] * df[i, k], wz[k] * df[i, k]], axis=k)

    return te.compute(mean.shape, terms, name="expectations"), names


def _by_table(program, mean, scale, table, b):
    """Expectations of a Laplace prior for any law; returns what `_expectations` does."""
    coefficients = program.weight("law", table.coefficients * (-1.0 / b))
    names = ["entry", "place"]
    entry, place = _stages(mean.shape, names, lambda i: entry_and_place(table, mean[i], scale[i]))
    df, z_df = _stages(
        mean.shape, _FETCHED, lambda i: scores_of_table(coefficients, entry[i], place[i])
    )
    f = te.compute(mean.shape, lambda i: mean[i] * df[i] + scale[i] * z_df[i], name="f")
    return [f, df, z_df], [*names, *_FETCHED, "f"]


def _stages(shape, names: Sequence[str], formula: Callable) -> list[te.Tensor]:
    """Compute each result of a formula as a stage of its own, under these names."""

    def stage(index, name):
        return te.compute(shape, lambda *at: formula(*at)[index], name=name)

    return [stage(index, name) for index, name in enumerate(names)]


def _by_weight(mean, scale, slope, c_2, sums):
    """KL without its constants, ∂KL/∂µ and ∂KL/∂σ of each weight, (P padded) each."""

    def weight(name, i):
        mu, sigma = mean[i], scale[i]
        value = -log(name, sigma)
        d_mean, d_scale = f32(0.0), f32(-1.0) / sigma
        if c_2 != 0.0:
            value = value - f32(c_2) * (mu * mu + sigma * sigma)
            d_mean = f32(-2.0 * c_2) * mu
            d_scale = d_scale - f32(2.0 * c_2) * sigma
        if sums is not None:
            value, d_mean, d_scale = value - sums[0][i], d_mean - sums[1][i], d_scale - sums[2][i]
        return value, d_mean, d_scale if slope is None else d_scale * slope[i]

    return te.compute(mean.shape, lambda i: named(lambda name: weight(name, i), 3), name="kl")


def _total(value: te.Tensor, size: int, constant: float, lanes: int) -> te.Tensor:
    """Sum the weights' values and a constant in float64, (1,); padding does not count."""
    vector = te.reduce_axis((0, value.shape[0] // lanes), name="vector")

    def of_lane(lane):
        i = vector * lanes + lane
        entry = tirx.Select(i < size, value[i].astype("float64"), tirx.const(0.0, "float64"))
        return te.sum(entry, axis=vector)

    partial_sums = te.compute((lanes,), of_lane, name="kl_lanes")
    lane = te.reduce_axis((0, lanes), name="lane")
    double = te.compute((1,), lambda _: te.sum(partial_sums[lane], axis=lane), name="kl_double")
    shift = tirx.const(constant, "float64")
    return te.compute((1,), lambda i: (double[i] + shift).astype("float32"), name="kl_total")


def schedule(
    sch: tvm.s_tir.Schedule, decisions: Mapping[str, int], stages: list[str], n: int, lanes: int
) -> None:
    """Schedule KL, one decision a paragraph; the vectors of a tile are searched."""
    # A tile holds a few vectors of weights, whose independent chains hide each other's latencies.
    # Value and gradients share one nest of loops.
    vectors = decisions["vectors"]
    (weight,) = sch.get_loops(sch.get_sblock("kl_v0"))
    tile, vector, lane = sch.split(weight, [None, vectors, lanes])
    sch.annotate(tile, "pragma_loop_partition_hint", True)
    sch.unroll(vector)
    sch.vectorize(lane)

    # The loop over nodes goes around that tile: a node and its weight are read once for all of it.
    around = tile
    if n:
        sums = sch.get_sblock("expectations")
        sch.compute_at(sums, tile, preserve_unit_loops=True)
        *_, weight, around = sch.get_loops(sums)
        vector, lane = sch.split(weight, [None, lanes])
        sch.reorder(around, vector, lane)
        sch.unroll(vector)
        sch.vectorize(lane)

    # The stages go inside it, on the same vectors: what they hand on stays in registers. Loops that
    # read a table are left to LLVM, which makes gathers where TVM's own vectors would fetch entry
    # after entry (6 cycles a weight with AVX-512, not 13; on Arm 32 instructions, not 52).
    for name in reversed(stages):
        stage = sch.get_sblock(name)
        sch.compute_at(stage, around, preserve_unit_loops=True)
        if name in _FETCHED:
            continue
        weight = sch.get_loops(stage)[-2 if n else -1]
        vector, lane = sch.split(weight, [None, lanes])
        sch.unroll(vector)
        sch.vectorize(lane)

    # Sums are set to zero before the nodes, not by a test at each.
    if n:
        sch.decompose_reduction(sums, around)

    # The sum over the array: one number of double precision a lane.
    lanes_sum = sch.get_sblock("kl_lanes")
    lane, vector = sch.get_loops(lanes_sum)
    sch.reorder(vector, lane)
    sch.vectorize(lane)
    sch.decompose_reduction(lanes_sum, vector)
