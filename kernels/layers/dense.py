"""Dense layer, y = x Wᵀ + b: mean and variance in one loop, in float32.

Formula
-------
For independent weights (mean µ, variance σ²) and independent inputs (mean m, variance v), from
Var[wx] = σ²v + σ²m² + µ²v:

    m'_o = Σ_i m_i µ_oi + µ_b        v'_o = Σ_i [ v_i µ_oi² + (v_i + m_i²) σ_oi² ] + σ_b²

and for known inputs, v = 0, as in a first layer:

    m'_o = Σ_i m_i µ_oi + µ_b        v'_o = Σ_i m_i² σ_oi² + σ_b²

These are the sums of `refbnn.layers.dense`, grouped by what is read (`kernels.layers.products`).
One loop for both moments reads weights and inputs once: the joint operator of arXiv 2511.23440,
section 5.

Range
-----
With u = 2⁻²⁴, n inputs and γ_k = ku/(1 − ku) (Higham 2002, lemma 3.1), while nothing overflows
and no weight or product underflows:

    |error of m'| ≤ γ_{n+3} (Σ|m µ| + |µ_b|)        |error of v'| ≤ γ_{n+7} v'

n roundings come from summation in any order; the others from converting inputs and weights to
float32, from squares and from products.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import tvm
from tvm import te

from kernels.devices.targets import Target
from kernels.layers import half, tiles
from kernels.layers.products import (
    Folded,
    add_up,
    bias_terms,
    both_moments,
    n_sums,
    panel,
    products,
    second_moments,
    weight_terms,
)
from kernels.program import zeros
from kernels.program.program import Activation, Program, Rows, Step
from refbnn.layers.posterior import Posterior


def pack(values: np.ndarray, lanes: int) -> np.ndarray:
    """Lay weights or biases out in the order in which the hand schedule reads them.

    Zeros pad the outputs to whole vectors, out = pack·lanes + lane. The weights from one input to
    the outputs of one pack are neighbours, one vector register.

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


def by_tiles(terms: list[np.ndarray], packs: int, unroll: int, ahead: int = 0) -> np.ndarray:
    """Lay packed weights out as the tiles of the hand schedule read them: one after the other.

    On Arm one instruction loads two registers from neighbours in memory, and the prefetcher
    follows one stream of addresses easily. Zeros pad the weights to whole tiles and whole steps of
    k. Tiles of other decisions read the same weights by strides. That is as fast as a layout of
    their own, within 5 %, except for single packs, which are slower in any layout (784→100,
    100→100, 400→120 at batches 1, 10 and 64 with AVX-512).

    Parameters
    ----------
    terms : list of (n_packs, in, lanes)
        Entries of `kernels.layers.products.weight_terms`, packed.
    packs : int
        Packs of one tile.
    unroll : int
        Inputs of one step of the loop over k.
    ahead : int
        Zeros stand in the place of so many inputs before the first.

    Returns
    -------
    (tiles, ahead + in rounded up, terms, packs, lanes)
    """
    n_packs, n_in, lanes = terms[0].shape
    n_tiles, n_steps = -(-n_packs // packs), -(-n_in // unroll)
    padded = np.zeros((n_tiles * packs, ahead + n_steps * unroll, len(terms), lanes))
    padded[:n_packs, ahead : ahead + n_in] = np.stack(terms, axis=2)
    return np.moveaxis(padded.reshape(n_tiles, packs, *padded.shape[1:]), 1, 3)


def add(
    program: Program,
    name: str,
    posteriors: Mapping[str, Posterior],
    x: Activation,
    form: str,
    folded: Folded | None = None,
    own: bool = False,
) -> Activation:
    """Apply the layer.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks, by which `schedule` finds them.
    posteriors : "weight" of shape (out, in) and "bias" of shape (out,)
    x : Activation in `Rows`
    form : {"variance", "raw", "mean", "spread"}
        See `kernels.layers.products`; "spread" gives the variance in the place of the mean.
    folded : Folded, optional
        For known inputs some rows of which are raw.
    own : bool
        Whether y shall have its own variance, as in `kernels.layers.products.add_up`.
    """
    weight, bias = posteriors["weight"], posteriors["bias"]
    lanes = program.target.lanes
    n_out, n_in = weight.shape
    layout = Rows(n_out, lanes)
    known = x.var is None or form == "mean"

    arrays, scales = half.groups(weight_terms(weight, form), program.storage)
    n_packs = layout.tensor_shape(1)[1] // lanes
    sums, halves = n_sums(form, known), sum(s is not None for s in scales)
    rows, packs = tiles.of_rows(program.batch, n_packs, sums, program.target, halves)
    unroll = lanes if program.target.is_arm else 1
    w = _weights(program, name, arrays, packs, unroll)
    b = [program.weight(f"{name}_bias", pack(term, lanes)) for term in bias_terms(bias, form)]
    raw = [] if folded is None else bias_terms(folded.bias, form)
    b += [program.weight(f"{name}_raw_bias", pack(term, lanes)) for term in raw]
    s = [
        None if one is None else program.weight(f"{name}_scale", pack(one, lanes)) for one in scales
    ]
    y = compute(name, x, w, b, s, layout, form, unroll, folded, own)
    kind = "known" if known else "random"
    given = isinstance(x.mean.op, te.PlaceholderOp) or folded is not None
    factors = None
    if x.var is None and given and not program.constant_time:
        laid_out = unroll > 1 or form == "spread"  # what the loop reads, in place of x
        factors = f"{name}_inputs" if laid_out else x.mean.op.name
    program.steps.append(
        Step(
            workload=(
                f"dense {n_in}x{n_out} batch {program.batch} {kind} {form}"
                f"{'' if folded is None else ' folded'}{' with own variance' if own else ''}"
                f"{half.in_words(program.storage)}"
            ),
            by_hand={"rows": rows, "packs": packs},
            space={
                "rows": range(1, min(program.batch, 12) + 1),
                "packs": range(1, min(n_packs, program.target.registers) + 1),
            },
            transform=partial(
                schedule,
                name=name,
                form=form,
                target=program.target,
                unroll=unroll,
                factors=factors,
                size=half.bytes_of(arrays),
            ),
        )
    )
    return y


def _weights(
    program: Program,
    name: str,
    arrays: list[tuple[str, list[np.ndarray]]],
    packs: int,
    unroll: int,
) -> list[te.Tensor]:
    """Declare the arrays of `kernels.layers.half.groups`, in the order of `by_tiles`.

    A second array begins one step later. LLVM for Arm computes each address that two arrays share
    by an instruction of its own, and others not at all: it was 17,000 of 52,000 instructions of a
    784→100 of a digit.
    """
    ahead = unroll if unroll > 1 else 0
    return [
        program.weight(
            f"{name}_weight{'' if place == 0 else '_var'}",
            by_tiles(
                [pack(term, program.target.lanes) for term in terms], packs, unroll, ahead * place
            ),
            dtype,
        )
        for place, (dtype, terms) in enumerate(arrays)
    ]


def compute(
    name: str,
    x: Activation,
    w: list[te.Tensor],
    b: list[te.Tensor],
    scales: list[te.Tensor | None],
    layout: Rows,
    form: str,
    unroll: int,
    folded: Folded | None = None,
    own: bool = False,
) -> Activation:
    """Say what is computed: the moments of y, or one of them.

    Parameters
    ----------
    name, form, own : as in `add`
    x : Activation, mean and variance (batch, in padded)
    w : list of (tiles, in rounded up, terms, packs, lanes)
        Weights in the order of `by_tiles`, terms of one type each, the mean's first. The inputs
        that round up are padding in x, too. Arrays after the first may have zeros ahead.
    b : list of (packs, lanes)
        Entries of `kernels.layers.products.bias_terms`, packed; those of raw rows follow. May be
        empty in the form "mean".
    scales : list of (packs, lanes) or None
        Powers of two of `kernels.layers.half.groups`, packed.
    layout : Rows
        Layout of y.
    unroll : int
        Inputs of one step: with more than one, `panel` lays them out.
    folded : as in `add`
    """
    batch = int(x.mean.shape[0])
    _, n_in, _, packs, lanes = map(int, w[0].shape)
    n_packs = layout.tensor_shape(1)[1] // lanes
    entry = _inputs(name, x, n_in, form, unroll, None if folded is None else folded.shift)
    k = te.reduce_axis((0, n_in), name="k")

    aheads = [int(one.shape[1]) - n_in for one in w]

    def terms(i, p, lane):
        weights = [
            half.widened(one, p // packs, k + ahead, term, p % packs, lane)
            for one, ahead in zip(w, aheads, strict=True)
            for term in range(int(one.shape[2]))
        ]
        m, second, v = entry(i, k)
        return products(m, second, v, weights, form)

    def to_sums(i, o):
        p, lane = o // lanes, o % lanes
        biases = [term[p, lane] for term in b]
        if folded is not None:
            half = len(b) // 2
            biases = folded.chosen(i, biases[:half], biases[half:])
        return (i, p, lane), biases, [None if s is None else s[p, lane] for s in scales]

    return add_up(name, (batch, n_packs, lanes), terms, k, layout, to_sums, form, own)


def _inputs(
    name: str, x: Activation, n_in: int, form: str, unroll: int, shift: Callable | None
) -> Callable:
    """The numbers of input (i, k) for `products`; parameters as in `compute` and `panel`."""
    if unroll == 1:
        return second_moments(f"{name}_inputs", x, form, shift)
    shape = n_in // unroll, int(x.mean.shape[0]), unroll

    def source(step, i, lane):
        return i, step * unroll + lane

    laid_out = panel(f"{name}_inputs", x, form, shape, 2, source, shift)
    return lambda i, k: laid_out(k // unroll, i, k % unroll)


def schedule(
    sch: tvm.s_tir.Schedule,
    decisions: Mapping[str, int],
    name: str,
    form: str,
    target: Target,
    unroll: int,
    factors: str | None = None,
    size: int = 4,
) -> None:
    """Say how it is computed: one decision a paragraph; rows and packs of a tile are decided.

    `factors` names the array whose zeros are skipped (`kernels.program.zeros`), if any. `size` is
    the number of bytes of one weight, all terms.

    No loop is parallel: a layer takes a few to some hundred microseconds, and handing work to a
    second core costs more than it saves (measured on two cores).
    """
    _schedule_inputs(sch, f"{name}_inputs", form, target.lanes, unroll)

    # Outputs by packs, in whole vectors too. Mean and variance share one nest of loops.
    sums = sch.get_sblock(f"{name}_sums")
    out = sch.get_sblock(f"{name}_v0" if both_moments(form) else name)
    row, column = sch.get_loops(out)
    pack_, lane = sch.split(column, [None, target.lanes])
    sch.vectorize(lane)

    # Tiles of rows and packs: a weight that is read serves all rows of a tile, an input all packs,
    # and the independent sums hide the latency of the multiply-adds.
    block = None
    if decisions["rows"] == int(sch.get(row).extent):
        # One tile of rows: biases are added to its sums in the registers.
        pack_tile, pack_ = sch.split(pack_, [None, decisions["packs"]])
        sch.reorder(pack_tile, row, pack_, lane)
        sch.compute_at(sums, pack_tile, preserve_unit_loops=True)
        outer = [pack_tile]
        *_, row, pack_, lane, k = sch.get_loops(sums)
    else:
        size *= target.lanes * decisions["packs"]
        outer, block, (row, pack_, lane, k) = _several_tiles_of_rows(
            sch, sums, decisions, size if unroll == 1 else None
        )

    # A last tile that is not full gets loops of its own, so that full tiles test nothing.
    for loop in outer:
        sch.annotate(loop, "pragma_loop_partition_hint", True)

    # The tile goes inside the loop over k, unrolled, its lanes vectorised: a sum is one register.
    k, step = sch.split(k, [None, unroll])
    sch.reorder(k, step, pack_, row, lane)
    for loop in (step, pack_, row):
        sch.unroll(loop)
    sch.vectorize(lane)

    if unroll > 1:
        _load_inputs_by_vectors(sch, sums, f"{name}_inputs", k)

    # Inputs of the network that are 0 are left out, with their weights.
    if factors is not None:
        zeros.mark(sch, k, zeros.Mark(factors))

    # Sums are set to zero before that loop, not by a test inside it.
    sch.decompose_reduction(sums, k if block is None else block)

    # Second moments of one block of inputs at a time, before its tiles: they stay in the second
    # cache.
    if block is not None and form != "mean":
        sch.compute_at(sch.get_sblock(f"{name}_inputs"), block, preserve_unit_loops=True)


def _schedule_inputs(
    sch: tvm.s_tir.Schedule, name: str, form: str, lanes: int, unroll: int
) -> None:
    """Schedule the pass over the inputs, by whole vectors, before the loop over k.

    Inside that loop, second moments would be formed again for every tile of packs. Where inputs are
    loaded by vectors, the pass lays their numbers out side by side: one instruction loads two
    vectors, and all from one address.
    """
    if unroll > 1:
        *_, term, lane = sch.get_loops(sch.get_sblock(name))
        sch.unroll(term)
        sch.vectorize(lane)
    elif form != "mean":
        _, column = sch.get_loops(sch.get_sblock(name))
        _, lane = sch.split(column, [None, lanes])
        sch.vectorize(lane)


def _several_tiles_of_rows(
    sch: tvm.s_tir.Schedule, sums, decisions: Mapping[str, int], size: int | None
) -> tuple[list, object, tuple]:
    """Split the loops of the sums into tiles, where a batch has several tiles of rows.

    Biases are then added in a pass of their own, after all sums. Between two tiles LLVM would keep
    the biases in registers for the second, and spill some of its sums.

    Parameters
    ----------
    size : int or None
        Bytes that a tile reads of one input's weights; None for no blocks of inputs.

    Returns
    -------
    outer, block, (row, pack, lane, k)
        Loops over tiles, over blocks of inputs (None for a single block), and within a tile.
    """
    # Packs go outside: their weights stay in the cache while all rows pass (twice as fast at
    # 1024 × 1024).
    row, pack_, lane, k = sch.get_loops(sums)
    row_tile, row = sch.split(row, [None, decisions["rows"]])
    pack_tile, pack_ = sch.split(pack_, [None, decisions["packs"]])
    outer = [pack_tile, row_tile]
    sch.reorder(*outer, row, pack_, lane, k)

    # Blocks of inputs go outside of all tiles: the weights of a block and of a tile's packs stay in
    # the first cache while all rows pass. Otherwise the second cache feeds the multiply-adds, too
    # slowly. (784→100 and 400→120 at batch 256 with AVX-512: a tenth to a sixth less time.)
    n_in = int(sch.get(k).extent)
    depth = n_in if size is None else block_of_inputs(n_in, size)
    if depth == n_in:
        return outer, None, (row, pack_, lane, k)
    block, k = sch.split(k, [None, depth])
    sch.reorder(block, *outer, row, pack_, lane, k)
    return outer, block, (row, pack_, lane, k)


def _load_inputs_by_vectors(sch: tvm.s_tir.Schedule, sums, name: str, k) -> None:
    """Load inputs by whole vectors, one load for several values of k.

    On NEON one operand of a multiply-add may be any lane of a register: a third fewer instructions
    at batch 10. The copy has the scope "global": TVM puts small arrays of it on the stack, and LLVM
    keeps them in registers. In the scope "local" TVM would ask its runtime for memory.
    """
    copy = sch.cache_read(sums, name, "global", consumer_blocks=[sums])
    sch.compute_at(copy, k, preserve_unit_loops=True)
    *_, row, term, lane = sch.get_loops(copy)
    for loop in (row, term):
        sch.unroll(loop)
    sch.vectorize(lane)


def block_of_inputs(n_in: int, size: int) -> int:
    """Number of inputs of one block: a divisor of all inputs, whose weights fill the first cache.

    They take four fifths of 32 kB at most, and half of that at least. Without such a divisor, one
    block holds all inputs.

    Parameters
    ----------
    n_in : int
    size : int
        Bytes that a tile reads of one input's weights.
    """
    most = 25_600 // size
    whole = [n for n in range(-(-most // 2), most + 1) if n_in % n == 0]
    return max(whole, default=n_in)
