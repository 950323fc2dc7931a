"""Dense layer, y = x Wᵀ + b: mean and variance in one loop, in float32.

Formula
-------
For independent weights (mean µ, variance σ²) and independent inputs (mean m, variance v), from
Var[wx] = σ²v + σ²m² + µ²v:

    m'_o = Σ_i m_i µ_oi + µ_b        v'_o = Σ_i [ v_i µ_oi² + (v_i + m_i²) σ_oi² ] + σ_b²

and for known inputs, v = 0, as in a first layer:

    m'_o = Σ_i m_i µ_oi + µ_b        v'_o = Σ_i m_i² σ_oi² + σ_b²

The sums of `refbnn.layers.dense`, grouped by what is read (`kernels.products`): one loop for both
moments reads weights and inputs once, the joint operator of arXiv 2511.23440, section 5.

Range
-----
With u = 2⁻²⁴, n inputs and γ_k = ku/(1 − ku) (Higham 2002, lemma 3.1), while nothing overflows
and no weight or product underflows:

    |error of m'| ≤ γ_{n+3} (Σ|m µ| + |µ_b|)        |error of v'| ≤ γ_{n+7} v'

n roundings by summation in any order, the rest by converting inputs and weights to float32, by
squares and by products.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import tvm
from tvm import te

from kernels import targets
from kernels.kernel import Kernel
from kernels.kernel import build as build_program
from kernels.products import bias_terms, joint_sum, n_sums, products, variance, weight_terms
from kernels.program import Activation, Program, Rows, Step
from kernels.targets import Target
from refbnn.posterior import Posterior


def pack(values: np.ndarray, lanes: int) -> np.ndarray:
    """Lay weights or biases out in the order in which the hand schedule reads them.

    Outputs are padded with zeros to whole vectors, out = pack·lanes + lane, and an input's
    weights to the outputs of one pack are neighbours: one vector register.

    Parameters
    ----------
    values : (out, ...)
    lanes : int

    Returns
    -------
    (packs, ..., lanes)
    """
    n_out, *rest = values.shape
    n_packs = -(-n_out // lanes)
    rows = np.zeros((n_packs * lanes, *rest))
    rows[:n_out] = values
    return np.moveaxis(rows.reshape(n_packs, lanes, *rest), 1, -1)


def add(
    program: Program,
    name: str,
    x: Activation,
    weight: Posterior,
    bias: Posterior,
    form: str = "variance",
) -> Activation:
    """Apply the layer.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks, by which `schedule` finds them.
    x : Activation in `Rows`
    weight : Posterior of shape (out, in)
    bias : Posterior of shape (out,)
    form : {"variance", "raw", "mean"}
        See `kernels.products`.
    """
    lanes = program.target.lanes
    n_out, n_in = weight.shape
    layout = Rows(n_out, lanes)
    known = x.var is None

    def packed(what: str, arrays: list[np.ndarray]) -> list[te.Tensor]:
        return [program.weight(f"{name}_{what}", pack(array, lanes)) for array in arrays]

    w = packed("weight", weight_terms(weight, form))
    b = packed("bias", bias_terms(bias, form))
    moments = compute(name, x, w, b, form)
    kind = "known" if known else "random"
    n_packs = layout.tensor_shape(1)[1] // lanes
    sums = n_sums(form, known)
    rows, packs = tile(program.batch, n_packs, sums, program.target.registers)
    program.steps.append(
        Step(
            workload=f"dense {n_in}x{n_out} batch {program.batch} {kind} {form}",
            by_hand={"rows": rows, "packs": packs},
            space={
                "rows": range(1, min(program.batch, 12) + 1),
                "packs": range(1, min(n_packs, program.target.registers) + 1),
            },
            transform=partial(schedule, name=name, form=form, target=program.target),
        )
    )
    return Activation(layout, moments[0], moments[1] if form != "mean" else None)


def compute(
    name: str, x: Activation, w: list[te.Tensor], b: list[te.Tensor], form: str
) -> list[te.Tensor]:
    """Say what is computed: the moments of y, (batch, packs·lanes).

    Parameters
    ----------
    name, form : as in `add`
    x : Activation, mean and variance (batch, in padded)
    w : list of (packs, in, lanes)
        Terms of the weights.
    b : list of (packs, lanes)
        Mean and variance of the biases.
    """
    mean, var = x.mean, x.var
    batch = mean.shape[0]
    n_packs, n_in, lanes = w[0].shape

    def second_moment(i, j):
        square = mean[i, j] * mean[i, j]
        return square if var is None else var[i, j] + square

    x2 = te.compute(mean.shape, second_moment, name=f"{name}_second") if form != "mean" else None
    k = te.reduce_axis((0, n_in), name="k")

    def terms(i, p, lane):
        m, second, v = (None if t is None else t[i, k] for t in (mean, x2, var))
        weights = [term[p, k, lane] for term in w]
        return joint_sum(products(m, second, v, weights, form), axis=k)

    sums = te.compute((batch, n_packs, lanes), terms, name=f"{name}_sums")
    m_sum, *v_sums = sums if isinstance(sums, list | tuple) else [sums]

    def epilogue(i, o):
        p, lane = o // lanes, o % lanes
        m = m_sum[i, p, lane] + b[0][p, lane]
        if form == "mean":
            return m
        return m, variance([v[i, p, lane] for v in v_sums], form) + b[1][p, lane]

    out = te.compute((batch, n_packs * lanes), epilogue, name=name)
    return list(out) if isinstance(out, list | tuple) else [out]


def tile(batch: int, n_packs: int, sums: int, registers: int) -> tuple[int, int]:
    """Rows and packs of one tile, each pair of which takes `sums` registers.

    Five rows of known inputs or three of random ones, and as many packs as fill five eighths of
    the registers; the rest holds weights and inputs on their way, and from three quarters on LLVM
    begins to spill. Both are balanced: 6 rows are split 3 + 3, not 5 + 1. (At batches 1 to 256
    with AVX-512 most often within 3 % of the fastest of all tiles to 10 × 8, always within 20 %.)
    """

    def balanced(n, most):
        return -(-n // -(-n // most))

    rows = balanced(batch, 10 // sums)
    return rows, balanced(n_packs, max(1, registers * 5 // 8 // (sums * rows)))


def schedule(
    sch: tvm.s_tir.Schedule, decisions: Mapping[str, int], name: str, form: str, target: Target
) -> None:
    """Say how it is computed: one decision a paragraph; rows and packs of a tile are decided.

    No loop is parallel: at a few to some hundred microseconds a layer, handing work to a second
    core costs more than it brings (measured on two cores).
    """
    # Second moments first, in a pass over whole vectors: in the loop over k they would be formed
    # again for every tile of packs.
    if form != "mean":
        _, column = sch.get_loops(sch.get_sblock(f"{name}_second"))
        _, lane = sch.split(column, [None, target.lanes])
        sch.vectorize(lane)

    # Outputs by packs, whole vectors too. Mean and variance share one nest of loops.
    sums = sch.get_sblock(f"{name}_sums")
    out = sch.get_sblock(name if form == "mean" else f"{name}_v0")
    row, column = sch.get_loops(out)
    pack_, lane = sch.split(column, [None, target.lanes])
    sch.vectorize(lane)

    # Tiles of rows and packs: a weight that is read serves all rows of a tile, an input all packs,
    # and the independent sums hide the latency of the multiply-adds.
    batch = int(sch.get(row).extent)
    rows, packs = decisions["rows"], decisions["packs"]
    if rows == batch:
        # One tile of rows: biases are added to its sums in the registers.
        pack_tile, pack_ = sch.split(pack_, [None, packs])
        sch.reorder(pack_tile, row, pack_, lane)
        sch.compute_at(sums, pack_tile, preserve_unit_loops=True)
        tiles = [pack_tile]
        *_, row, pack_, lane, k = sch.get_loops(sums)
    else:
        # Several: after all sums, in a pass of their own. Between two tiles LLVM would keep the
        # biases in registers for the second, and spill sums of it. Packs go outside: their
        # weights stay in the cache while all rows pass (twice as fast at 1024 × 1024).
        row, pack_, lane, k = sch.get_loops(sums)
        row_tile, row = sch.split(row, [None, rows])
        pack_tile, pack_ = sch.split(pack_, [None, packs])
        tiles = [pack_tile, row_tile]
        sch.reorder(*tiles, row, pack_, lane, k)

    # A last tile that is not full gets loops of its own, so that full ones test nothing.
    for loop in tiles:
        sch.annotate(loop, "pragma_loop_partition_hint", True)

    # The tile inside the loop over k, unrolled, its lanes vectorised: each sum is one register.
    sch.reorder(k, pack_, row, lane)
    for loop in (pack_, row):
        sch.unroll(loop)
    sch.vectorize(lane)

    # Sums are set to zero before that loop, not by a test inside it.
    sch.decompose_reduction(sums, k)


def build(
    weight: Posterior,
    bias: Posterior,
    batch: int,
    target: str = "host",
    schedule: str = "hand",
    known_input: bool = False,
    form: str = "variance",
) -> Kernel:
    """Compile the layer alone.

    Parameters
    ----------
    weight, bias : Posterior of shapes (out, in) and (out,)
    batch : int
    target, schedule : str
        As in `kernels.compile_network`.
    known_input : bool
    form : str
        As in `add`.

    Returns
    -------
    Kernel
        Called with m and v, or with x alone for known inputs, each (batch, in); gives mean and
        variance, (batch, out); in the form "mean" the mean alone.
    """
    cpu = targets.target(target)
    return build_program(alone(weight, bias, batch, cpu, known_input, form), schedule)


def alone(
    weight: Posterior,
    bias: Posterior,
    batch: int,
    target: Target,
    known_input: bool,
    form: str = "variance",
) -> Program:
    """The program of the layer alone; parameters as in `build`."""
    program = Program(target, batch)
    layout = Rows(weight.shape[1], target.lanes)
    x = program.known(layout) if known_input else program.random(layout)
    program.give(add(program, "dense", x, weight, bias, form))
    return program
