"""Sampled dense layer: y_s = x_s W_sᵀ + b_s for S samples of the weights, made where they are used.

Formula
-------
With the noise z of `refbnn.network.counter_sampling`, a function of a weight's place, sample and
seed (`kernels.sampling.weights`),

    y_sbo = Σ_i x_sbi (µ_oi + σ_oi z_soi) + (µ_o + σ_o z_so).

Range
-----
With u = 2⁻²⁴, the table's error δ (`refbnn.noise.word_table.SINGLE_ERROR`), n inputs and γ_k as in
`kernels.layers.dense`, for the law's z of the same random words in float64:

    |error of y| ≤ Σ |x| (γ_{n+4} (|µ| + |σz|) + (1 + γ_{n+4}) δ |σ| max(1, |z|)),

where the bias counts as a weight of x = 1. The roundings are the conversions of µ, σ and x, the
fused µ + σz, the product, and n in the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import tvm
from tvm import te

from kernels.devices.targets import Target
from kernels.layers import tiles
from kernels.program import zeros
from kernels.program.program import Activation, Program, Rows, Step
from kernels.program.zeros import Mark
from kernels.sampling import philox
from kernels.sampling import weights as sampled_weights
from kernels.sampling.weights import Source
from refbnn.layers.posterior import Posterior

_MOST_ROWS = 16  # of a batch for which groups of weights can be left out: few are unused in more


def add(
    program: Program,
    name: str,
    index: int,
    posteriors: Mapping[str, Posterior],
    x: Activation,
    source: Source,
) -> Activation:
    """Apply the layer.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks, by which `schedule` finds them.
    index : int
        Index of the layer in the network.
    posteriors : "weight" of shape (out, in) and "bias" of shape (out,)
    x : Activation in `Rows`
        Rows of B inputs, the same for all samples, or of S·B.
    source : Source
        Source of the noise.
    """
    target, batch = program.target, program.batch
    n_out, n_in = posteriors["weight"].shape
    theta = sampled_weights.weights(program, name, index, posteriors, source)
    out = compute(name, x.mean, theta, n_in, batch)
    program.steps.append(
        Step(
            workload=f"sampled dense {n_in}x{n_out} batch {batch} samples {source.n_samples}",
            by_hand={"rows": tiles.of_single_sums(batch, target.registers)},
            space={"rows": range(1, min(batch, 24) + 1)},
            transform=partial(
                schedule,
                name=name,
                batch=batch,
                target=target,
                skipped=_skipped(program, x, n_in),
            ),
        )
    )
    return Activation(Rows(n_out, target.lanes), out, None)


def _skipped(program: Program, x: Activation, n_in: int) -> tuple[Mark, Mark] | None:
    """Turns that the loops over groups of weights, and over inputs, leave out.

    An input that is 0 in all rows of a batch has weights that nothing needs: groups of such inputs
    are not even made. The bias is in the last one.
    """
    (rows, width), name = (int(n) for n in x.mean.shape), x.mean.op.name
    group = philox.GROUP
    shared = rows == program.batch <= _MOST_ROWS and width >= group
    if not shared or program.constant_time or n_in // group == 0:
        return None
    groups = Mark(name, columns=group, always=n_in // group, only=True)
    return groups, Mark(name, only=True)


def compute(name: str, x: te.Tensor, theta: te.Tensor, n_in: int, batch: int) -> te.Tensor:
    """Say what is computed: y, (samples·batch, packs·lanes).

    Parameters
    ----------
    name : str
    x : (batch, in padded) or (samples·batch, in padded)
    theta : (packs, samples, groups, 8, lanes)
    n_in, batch : int
    """
    n_packs, n_samples, _, group, lanes = (int(n) for n in theta.shape)
    first = batch if int(x.shape[0]) > batch else 0
    k = te.reduce_axis((0, n_in), name="k")

    def term(s, i, p, lane):
        weight = theta[p, s, k // group, k % group, lane]
        return te.sum(x[s * first + i, k] * weight, axis=k)

    sums = te.compute((n_samples, batch, n_packs, lanes), term, name=f"{name}_sums")

    def epilogue(row, o):
        s, i, p, lane = row // batch, row % batch, o // lanes, o % lanes
        return sums[s, i, p, lane] + theta[p, s, n_in // group, n_in % group, lane]

    return te.compute((n_samples * batch, n_packs * lanes), epilogue, name=name)


def schedule(
    sch: tvm.s_tir.Schedule,
    decisions: Mapping[str, int],
    name: str,
    batch: int,
    target: Target,
    skipped: tuple[Mark, Mark] | None = None,
) -> None:
    """Say how it is computed: one decision a paragraph; the rows of a tile are decided."""
    # Samples outside, so that a network can do one after the other (`sampled_weights.one_by_one`);
    # in each, pack after pack of the outputs.
    out = sch.get_sblock(name)
    row, column = sch.get_loops(out)
    sample, row = sch.split(row, [None, batch])
    pack_, lane = sch.split(column, [None, target.lanes])
    sch.vectorize(lane)
    sch.reorder(sample, pack_, row, lane)

    # Sums of one sample and pack at a time, whole batches, and before them their weights.
    sums = sch.get_sblock(f"{name}_sums")
    sch.compute_at(sums, pack_, preserve_unit_loops=True)
    groups = sampled_weights.schedule(sch, name, pack_)

    # Tiles of rows: a weight that is read serves all rows of a tile, and the independent sums hide
    # the latency of the multiply-adds. A last tile that is not full gets loops of its own.
    *_, row, _, lane, k = sch.get_loops(sums)
    row_tile, row = sch.split(row, [None, decisions["rows"]])
    sch.annotate(row_tile, "pragma_loop_partition_hint", True)

    # The tile inside the loop over k, unrolled, its lanes vectorised: each sum is one register,
    # set to zero before that loop.
    sch.reorder(row_tile, k, row, lane)
    sch.unroll(row)
    sch.vectorize(lane)
    sch.decompose_reduction(sums, k)

    # Inputs that are 0 are left out: groups of their weights are not made, then.
    if skipped is not None:
        zeros.mark(sch, groups, skipped[0])
        zeros.mark(sch, k, skipped[1])
