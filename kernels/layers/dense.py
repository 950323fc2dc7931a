"""Dense layer, y = x Wᵀ + b: mean and variance in one loop, in float32.

Formula
-------
For independent weights (mean µ, variance σ²) and independent inputs (mean m, variance v), from
Var[wx] = σ²v + σ²m² + µ²v:

    m'_o = Σ_i m_i µ_oi + µ_b        v'_o = Σ_i [ v_i µ_oi² + (v_i + m_i²) σ_oi² ] + σ_b²

and for known inputs, v = 0, as in a first layer:

    m'_o = Σ_i m_i µ_oi + µ_b        v'_o = Σ_i m_i² σ_oi² + σ_b²

The sums of `refbnn.layers.dense`, grouped by what is read (`kernels.layers.products`): one loop for
both moments reads weights and inputs once, the joint operator of arXiv 2511.23440, section 5.

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

from kernels.devices import Board, targets
from kernels.devices.targets import Target
from kernels.layers import tiles
from kernels.layers.products import (
    bias_terms,
    both_moments,
    joint_sum,
    moments,
    n_sums,
    panel,
    products,
    second_moments,
    weight_terms,
)
from kernels.program.kernel import Kernel
from kernels.program.kernel import build as build_program
from kernels.program.program import Activation, Program, Rows, Step
from refbnn.layers.posterior import Posterior


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


def by_tiles(terms: list[np.ndarray], packs: int, unroll: int) -> np.ndarray:
    """Lay packed weights out as the tiles of the hand schedule read them: one after the other.

    Neighbours in memory can be loaded by one instruction (two registers on Arm), and one stream
    of addresses is easily foreseen. Padded with zeros to whole tiles and whole steps of k. Tiles of
    other decisions read the same weights by strides: as fast as in a layout of their own, within
    5 %, but for single packs, which are slower in any layout (784→100, 100→100, 400→120 at batches
    1, 10 and 64 with AVX-512).

    Parameters
    ----------
    terms : list of (n_packs, in, lanes)
        What is read of a weight.
    packs : int
        Packs of one tile.
    unroll : int
        Inputs of one step.

    Returns
    -------
    (tiles, in rounded up, terms, packs, lanes)
    """
    n_packs, n_in, lanes = terms[0].shape
    n_tiles, n_steps = -(-n_packs // packs), -(-n_in // unroll)
    padded = np.zeros((n_tiles * packs, n_steps * unroll, len(terms), lanes))
    padded[:n_packs, :n_in] = np.stack(terms, axis=2)
    return np.moveaxis(padded.reshape(n_tiles, packs, *padded.shape[1:]), 1, 3)


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
    form : {"variance", "raw", "separate", "mean", "spread"}
        See `kernels.layers.products`; the last gives the variance in the place of the mean.
    """
    if form == "separate":
        parts = [
            add(program, f"{name}_{part}", x, weight, bias, part) for part in ("mean", "spread")
        ]
        return Activation(parts[0].layout, *(part.mean for part in parts))
    lanes = program.target.lanes
    n_out, n_in = weight.shape
    layout = Rows(n_out, lanes)
    known = x.var is None or form == "mean"

    terms = [pack(term, lanes) for term in weight_terms(weight, form)]
    n_packs = layout.tensor_shape(1)[1] // lanes
    rows, packs = tiles.of_rows(program.batch, n_packs, n_sums(form, known), program.target)
    unroll = lanes if program.target.is_arm else 1
    w = program.weight(f"{name}_weight", by_tiles(terms, packs, unroll))
    b = [program.weight(f"{name}_bias", pack(term, lanes)) for term in bias_terms(bias, form)]
    tensors = compute(name, x, w, b, form, unroll)
    kind = "known" if known else "random"
    program.steps.append(
        Step(
            workload=f"dense {n_in}x{n_out} batch {program.batch} {kind} {form}",
            by_hand={"rows": rows, "packs": packs},
            space={
                "rows": range(1, min(program.batch, 12) + 1),
                "packs": range(1, min(n_packs, program.target.registers) + 1),
            },
            transform=partial(schedule, name=name, form=form, target=program.target, unroll=unroll),
        )
    )
    return Activation(layout, tensors[0], tensors[1] if both_moments(form) else None)


def compute(
    name: str, x: Activation, w: te.Tensor, b: list[te.Tensor], form: str, unroll: int
) -> list[te.Tensor]:
    """Say what is computed: the moments of y, or one of them, (batch, packs·lanes).

    Parameters
    ----------
    name, form : as in `add`
    x : Activation, mean and variance (batch, in padded)
    w : (tiles, in rounded up, terms, packs, lanes)
        Weights, as `by_tiles` has them. The inputs that were rounded up are padding, too.
    b : list of (packs, lanes)
        What is read of the biases.
    unroll : int
        Inputs of one step: with more than one, they are laid out as `panel` does.
    """
    batch = int(x.mean.shape[0])
    _, n_in, n_terms, packs, lanes = map(int, w.shape)
    n_packs = b[0].shape[0]
    if unroll == 1:
        entry = second_moments(f"{name}_inputs", x, form)
    else:
        shape = n_in // unroll, batch, unroll
        laid_out = panel(
            f"{name}_inputs", x, form, shape, 2, lambda step, i, lane: (i, step * unroll + lane)
        )

        def entry(i, k):
            return laid_out(k // unroll, i, k % unroll)

    k = te.reduce_axis((0, n_in), name="k")

    def terms(i, p, lane):
        weights = [w[p // packs, k, term, p % packs, lane] for term in range(n_terms)]
        m, second, v = entry(i, k)
        return joint_sum(products(m, second, v, weights, form), axis=k)

    sums = te.compute((batch, n_packs, lanes), terms, name=f"{name}_sums")
    sums = sums if isinstance(sums, list | tuple) else [sums]

    def epilogue(i, o):
        p, lane = o // lanes, o % lanes
        parts = moments([s[i, p, lane] for s in sums], [term[p, lane] for term in b], form)
        return tuple(parts) if both_moments(form) else parts[0]

    out = te.compute((batch, n_packs * lanes), epilogue, name=name)
    return list(out) if both_moments(form) else [out]


def schedule(
    sch: tvm.s_tir.Schedule,
    decisions: Mapping[str, int],
    name: str,
    form: str,
    target: Target,
    unroll: int,
) -> None:
    """Say how it is computed: one decision a paragraph; rows and packs of a tile are decided.

    No loop is parallel: at a few to some hundred microseconds a layer, handing work to a second
    core costs more than it brings (measured on two cores).
    """
    # Second moments first, in a pass over whole vectors: in the loop over k they would be formed
    # again for every tile of packs. Where inputs are loaded by vectors (below), the pass lays all
    # that is read of them out side by side: two vectors are loaded at once, and from one address.
    if unroll > 1:
        *_, term, lane = sch.get_loops(sch.get_sblock(f"{name}_inputs"))
        sch.unroll(term)
        sch.vectorize(lane)
    elif form != "mean":
        _, column = sch.get_loops(sch.get_sblock(f"{name}_inputs"))
        _, lane = sch.split(column, [None, target.lanes])
        sch.vectorize(lane)

    # Outputs by packs, whole vectors too. Mean and variance share one nest of loops.
    sums = sch.get_sblock(f"{name}_sums")
    out = sch.get_sblock(f"{name}_v0" if both_moments(form) else name)
    row, column = sch.get_loops(out)
    pack_, lane = sch.split(column, [None, target.lanes])
    sch.vectorize(lane)

    # Tiles of rows and packs: a weight that is read serves all rows of a tile, an input all packs,
    # and the independent sums hide the latency of the multiply-adds.
    batch = int(sch.get(row).extent)
    rows, packs = decisions["rows"], decisions["packs"]
    block = None
    if rows == batch:
        # One tile of rows: biases are added to its sums in the registers.
        pack_tile, pack_ = sch.split(pack_, [None, packs])
        sch.reorder(pack_tile, row, pack_, lane)
        sch.compute_at(sums, pack_tile, preserve_unit_loops=True)
        outer = [pack_tile]
        *_, row, pack_, lane, k = sch.get_loops(sums)
    else:
        # Several: after all sums, in a pass of their own. Between two tiles LLVM would keep the
        # biases in registers for the second, and spill sums of it. Packs go outside: their
        # weights stay in the cache while all rows pass (twice as fast at 1024 × 1024).
        row, pack_, lane, k = sch.get_loops(sums)
        row_tile, row = sch.split(row, [None, rows])
        pack_tile, pack_ = sch.split(pack_, [None, packs])
        outer = [pack_tile, row_tile]
        sch.reorder(*outer, row, pack_, lane, k)

        # Inputs in blocks, outside of all tiles: the weights of a block and of a tile's packs stay
        # in the first cache while all rows pass; else the second feeds the multiply-adds, too
        # slowly. (784→100 and 400→120 at batch 256 with AVX-512: a tenth to a sixth less time.)
        n_in = int(sch.get(k).extent)
        depth = block_of_inputs(n_in, 4 * target.lanes * packs * (1 if form == "mean" else 2))
        if depth < n_in and unroll == 1:
            block, k = sch.split(k, [None, depth])
            sch.reorder(block, *outer, row, pack_, lane, k)

    # A last tile that is not full gets loops of its own, so that full ones test nothing.
    for loop in outer:
        sch.annotate(loop, "pragma_loop_partition_hint", True)

    # The tile inside the loop over k, unrolled, its lanes vectorised: each sum is one register.
    k, step = sch.split(k, [None, unroll])
    sch.reorder(k, step, pack_, row, lane)
    for loop in (step, pack_, row):
        sch.unroll(loop)
    sch.vectorize(lane)

    # Where one operand of a multiply-add may be any lane of a register (NEON), inputs are loaded
    # by whole vectors, one load for `unroll` values of k: a third fewer instructions at batch 10.
    # The copy is kept in the scope "global", which TVM puts on the stack where it is small, and
    # LLVM in registers; in "local" TVM would ask its runtime for memory.
    if unroll > 1:
        copy = sch.cache_read(sums, f"{name}_inputs", "global", consumer_blocks=[sums])
        sch.compute_at(copy, k, preserve_unit_loops=True)
        *_, copied_row, term, lane = sch.get_loops(copy)
        for loop in (copied_row, term):
            sch.unroll(loop)
        sch.vectorize(lane)

    # Sums are set to zero before that loop, not by a test inside it.
    sch.decompose_reduction(sums, k if block is None else block)

    # Second moments of one block at a time, before its tiles: they stay in the second cache.
    if block is not None and form != "mean":
        sch.compute_at(sch.get_sblock(f"{name}_inputs"), block, preserve_unit_loops=True)


def block_of_inputs(n_in: int, size: int) -> int:
    """Inputs of one block: as many as divide them all, and whose weights fill the first cache.

    Four fifths of 32 kB at most, half of that at least; else all inputs.

    Parameters
    ----------
    n_in : int
    size : int
        Bytes that a tile reads of one input's weights.
    """
    most = 25_600 // size
    whole = [n for n in range(-(-most // 2), most + 1) if n_in % n == 0]
    return max(whole, default=n_in)


def build(
    weight: Posterior,
    bias: Posterior,
    batch: int,
    target: str = "host",
    schedule: str = "hand",
    known_input: bool = False,
    form: str = "variance",
    device: str | Board = "local",
) -> Kernel:
    """Compile the layer alone.

    Parameters
    ----------
    weight, bias : Posterior of shapes (out, in) and (out,)
    batch : int
    target, schedule, device
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
    return build_program(
        alone(weight, bias, batch, cpu, known_input, form), schedule, device=device
    )


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
    x = program.given(layout, known_input)
    program.give(add(program, "dense", x, weight, bias, form))
    return program
