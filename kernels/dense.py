"""Dense layer, y = x Wᵀ + b: mean and variance in one loop, in float32.

Formula
-------
For independent weights (mean µ, variance σ²) and independent inputs (mean m, variance v), from
Var[wx] = σ²v + σ²m² + µ²v:

    m'_o = Σ_i m_i µ_oi + µ_b        v'_o = Σ_i [ v_i µ_oi² + (v_i + m_i²) σ_oi² ] + σ_b²

and for known inputs, v = 0, as in a first layer:

    m'_o = Σ_i m_i µ_oi + µ_b        v'_o = Σ_i m_i² σ_oi² + σ_b²

The sums of `refbnn.layers.dense`, grouped by what is read: the second moment v + m² is formed
once an input, not once a product, and µ² in registers, so that a weight is two numbers. One loop
for both moments reads them once (the joint operator of arXiv 2511.23440, section 5). That paper's
variance, Σ E[x²]E[w²] − (mµ)², cancels when m² ≫ v: at m = 100, √v = 0.01 nothing is left of it
in float32. Here every term of the variance is positive.

Range
-----
With u = 2⁻²⁴, n inputs and γ_k = ku/(1 − ku) (Higham 2002, lemma 3.1), while nothing overflows
and no product underflows:

    |error of m'| ≤ γ_{n+3} (Σ|m µ| + |µ_b|)        |error of v'| ≤ γ_{n+7} v'

n roundings by summation in any order, the rest by converting inputs and weights to float32, by
squares and by products.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import tvm
from tvm import te, tirx

from kernels import targets
from kernels.targets import Kernel, Program, Target
from refbnn.errors import InputError
from refbnn.posterior import Posterior


def pack(weight: Posterior, bias: Posterior, lanes: int) -> list[np.ndarray]:
    """Lay the weights out in the order in which the hand schedule reads them, once, in float32.

    Outputs are padded with zeros to whole vectors, out = pack·lanes + lane, and an input's
    weights to the outputs of one pack are neighbours: one vector register.

    Parameters
    ----------
    weight : Posterior of shape (out, in)
    bias : Posterior of shape (out,)
    lanes : int

    Returns
    -------
    µ, σ² : (packs, in, lanes)
    µ_b, σ_b² : (packs, lanes)

    Raises
    ------
    InputError
        If a mean or variance is too large for float32.
    """
    with np.errstate(over="ignore"):
        packed = [_pack(values, lanes) for values in (weight.mean, weight.var, bias.mean, bias.var)]
    if not all(np.isfinite(values).all() for values in packed):
        raise InputError("dense kernel: a mean or variance of a weight is too large for float32")
    return packed


def _pack(values: np.ndarray, lanes: int) -> np.ndarray:
    """(out, ...) -> (packs, ..., lanes) in float32, padded with zeros."""
    n_out, *rest = values.shape
    n_packs = -(-n_out // lanes)
    rows = np.zeros((n_packs * lanes, *rest), np.float32)
    rows[:n_out] = values
    return np.ascontiguousarray(np.moveaxis(rows.reshape(n_packs, lanes, *rest), 1, -1))


def compute(
    name: str, mean: te.Tensor, var: te.Tensor | None, weights: list[te.Tensor]
) -> tuple[te.Tensor, te.Tensor]:
    """Say what is computed: the moments of y.

    Parameters
    ----------
    name : str
        Starts the names of the blocks, by which `schedule` finds them.
    mean, var : (batch, in padded); var is None for known inputs
    weights : tensors of the shapes that `pack` returns

    Returns
    -------
    mean, var : (batch, packs·lanes)
    """
    w_mean, w_var, b_mean, b_var = weights
    batch = mean.shape[0]
    n_packs, n_in, lanes = w_mean.shape

    def second(i, j):
        square = mean[i, j] * mean[i, j]
        return square if var is None else var[i, j] + square

    x2 = te.compute(mean.shape, second, name=f"{name}_second")

    # The two products of the variance are summed apart, one fused multiply-add each. Added to
    # each other before the sum, they would cost a product and a sum more: 10 % of the time.
    k = te.reduce_axis((0, n_in), name="k")

    def terms(i, p, lane):
        mu = w_mean[p, k, lane]
        products = [mean[i, k] * mu, x2[i, k] * w_var[p, k, lane]]
        if var is not None:
            products.append(var[i, k] * (mu * mu))
        return _joint_sum(products, axis=k)

    m_sum, *v_sums = te.compute((batch, n_packs, lanes), terms, name=f"{name}_sums")

    def epilogue(i, o):
        p, lane = o // lanes, o % lanes
        v_sum = sum((v[i, p, lane] for v in v_sums[1:]), v_sums[0][i, p, lane])
        return m_sum[i, p, lane] + b_mean[p, lane], v_sum + b_var[p, lane]

    return te.compute((batch, n_packs * lanes), epilogue, name=name)


def _joint_sum(products, axis):
    """Several sums in one loop."""
    zero = tirx.const(0.0, "float32")
    reducer = te.comm_reducer(
        lambda a, b: tuple([x + y for x, y in zip(a, b, strict=True)]),
        lambda *types: tuple([zero for _ in types]),
        name="joint_sum",
    )
    return reducer(tuple(products), axis=axis)


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


def schedule(sch: tvm.s_tir.Schedule, name: str, target: Target) -> None:
    """Say how it is computed: one decision a paragraph.

    No loop is parallel: at a few to some hundred microseconds a layer, handing work to a second
    core costs more than it brings (measured on two cores).
    """
    second = sch.get_sblock(f"{name}_second")
    sums = sch.get_sblock(f"{name}_sums")
    out = sch.get_sblock(f"{name}_v0")  # mean and variance share one nest of loops

    # Second moments first, in a pass over whole vectors: in the loop over k they would be formed
    # again for every tile of packs.
    _, column = sch.get_loops(second)
    _, lane = sch.split(column, [None, target.lanes])
    sch.vectorize(lane)

    # Outputs by packs, whole vectors too.
    row, column = sch.get_loops(out)
    pack_, lane = sch.split(column, [None, target.lanes])
    sch.vectorize(lane)

    # Tiles of rows and packs: a weight that is read serves all rows of a tile, an input all packs,
    # and the independent sums hide the latency of the multiply-adds.
    batch, n_packs = int(sch.get(row).extent), int(sch.get(pack_).extent)
    rows, packs = tile(batch, n_packs, len(sch.get(sums).writes), target.registers)
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


def program(
    weight: Posterior, bias: Posterior, batch: int, target: Target, known_input: bool
) -> Program:
    """The layer alone, inputs m and v, or x alone if they are known; parameters as in `build`."""
    n_out, n_in = weight.shape
    mean = target.activation("mean", batch, n_in)
    var = None if known_input else target.activation("var", batch, n_in)
    arrays = pack(weight, bias, target.lanes)
    tensors = [te.placeholder(array.shape, name="weight") for array in arrays]
    return Program(
        inputs=[mean] if var is None else [mean, var],
        n_in=n_in,
        weights=list(zip(tensors, arrays, strict=True)),
        outputs=compute("dense", mean, var, tensors),
        n_out=n_out,
        hand=[partial(schedule, name="dense", target=target)],
    )


def build(
    weight: Posterior,
    bias: Posterior,
    batch: int,
    target: str = "host",
    schedule: str = "hand",
    known_input: bool = False,
) -> Kernel:
    """Compile the layer alone.

    Parameters
    ----------
    weight, bias : Posterior of shapes (out, in) and (out,)
    batch : int
    target, schedule : str
        As in `kernels.compile_network`.
    known_input : bool

    Returns
    -------
    Kernel
        Called with m and v, or with x alone for known inputs, each (batch, in); gives mean and
        variance, (batch, out).
    """
    cpu = targets.target(target)
    return targets.build(program(weight, bias, batch, cpu, known_input), cpu, schedule)
