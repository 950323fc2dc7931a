"""Sampled dense layer: y_s = x_s W_sᵀ + b_s for S samples of the weights, made where they are used.

Formula
-------
With the noise z of `refbnn.reproducible`, a function of a weight's place, sample and seed,

    y_sbo = Σ_i x_sbi (µ_oi + σ_oi z_soi) + (µ_o + σ_o z_so).

No weight matrix is stored: the weights of one vector of outputs and one sample are made, used for
the whole batch, and overwritten. A bias is the last number in the row of its output's weights.

Range
-----
With u = 2⁻²⁴, the table's error δ (`refbnn.bit_table.SINGLE_ERROR`), n inputs and γ_k as in
`kernels.dense`, for the law's z of the same random words in float64:

    |error of y| ≤ Σ |x| (γ_{n+4} (|µ| + |σz|) + (1 + γ_{n+4}) δ |σ| max(1, |z|)),

the bias counted as a weight of x = 1: converting µ, σ, x, the fused µ + σz, the product, and n
roundings of the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import tvm
from tvm import te

from kernels import noise, philox, targets
from kernels.dense import pack
from kernels.kernel import Kernel
from kernels.kernel import build as build_program
from kernels.program import Activation, Program, Rows, Step
from kernels.targets import Target
from refbnn.bit_table import BitTable, bit_table
from refbnn.noise.law import Law
from refbnn.posterior import Posterior


@dataclass(frozen=True)
class Plain:
    """Layout of an array as it is, without a batch: the two words of a seed.

    Parameters
    ----------
    shape : tuple of int
    """

    shape: tuple[int, ...]

    def tensor_shape(self, batch: int) -> tuple[int, ...]:
        """The shape, whatever the batch."""
        return self.shape

    def view(self, memory: np.ndarray) -> np.ndarray:
        """The memory."""
        return memory


@dataclass(frozen=True)
class SampledRows:
    """Layout of n features under S samples of the weights: rows padded as in `Rows`.

    Parameters
    ----------
    n_samples, n, lanes : int
    """

    n_samples: int
    n: int
    lanes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(n,)."""
        return (self.n,)

    def tensor_shape(self, batch: int) -> tuple[int, ...]:
        """(samples, batch, n rounded up)."""
        return self.n_samples, *Rows(self.n, self.lanes).tensor_shape(batch)

    def view(self, memory: np.ndarray) -> np.ndarray:
        """(samples, batch, n)."""
        return memory[:, :, : self.n]


@dataclass(frozen=True)
class Source:
    """Where noise comes from.

    Parameters
    ----------
    n_samples : int
    seed : tensor (2,) uint32
    table : BitTable
    coefficients : tensor
        Of the table.
    """

    n_samples: int
    seed: te.Tensor
    table: BitTable
    coefficients: te.Tensor


def source(program: Program, law: Law, n_samples: int) -> Source:
    """Declare the seed, an input, and the table of a law, which all layers share."""
    seed = te.placeholder((2,), "uint32", name="seed")
    program.inputs.append((Plain((2,)), seed))
    table = bit_table(law)
    # As it is: `Program.weight` would round the least coefficients, but they are numbers like any.
    return Source(n_samples, seed, table, program.weight("law", table.coefficients))


def weights(
    program: Program, name: str, layer: int, weight: Posterior, bias: Posterior, noise_: Source
) -> te.Tensor:
    """Say how weights are made: θ = µ + σz in rows of a fan-in and a bias.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks.
    layer : int
        Its index in the network.
    weight : Posterior of shape (out, ...)
    bias : Posterior of shape (out,)
    noise_ : Source

    Returns
    -------
    (packs, samples, groups, 8, lanes)
    """
    lanes, n_out = program.target.lanes, weight.shape[0]

    def rows(of_weight: np.ndarray, of_bias: np.ndarray) -> np.ndarray:
        row = np.column_stack([of_weight.reshape(n_out, -1), of_bias])
        whole = philox.n_groups(row.shape[1]) * philox.GROUP
        row = np.pad(row, ((0, 0), (0, whole - row.shape[1])))
        packed = pack(row, lanes)
        return packed.reshape(len(packed), -1, philox.GROUP, lanes)

    mean = program.weight(f"{name}_mean", rows(weight.mean, bias.mean))
    scale = program.weight(f"{name}_scale", rows(weight.scale, bias.scale))
    n_packs, groups, *_ = (int(n) for n in mean.shape)
    shape = n_packs, noise_.n_samples, groups, lanes
    n_row = weight.mean[0].size + 1
    words = philox.words(name, noise_.seed, shape, n_row, layer)

    def theta(p, s, g, j, lane):
        z = noise.value(words[p, s, g, j, lane], noise_.table, noise_.coefficients)
        return mean[p, g, j, lane] + scale[p, g, j, lane] * z

    return te.compute(words.shape, theta, name=f"{name}_theta")


def schedule_weights(sch: tvm.s_tir.Schedule, name: str, loop) -> None:
    """Say how weights are made: all of one pack and one sample, before they are used."""
    # A loop over the words of a group, left to LLVM: it loads from the table by gathers, where
    # TVM's own vectors would fetch entry after entry (7 cycles a weight with AVX-512, not 3.7).
    theta = sch.get_sblock(f"{name}_theta")
    sch.compute_at(theta, loop, preserve_unit_loops=True)
    *_, group, j, lane = sch.get_loops(theta)
    sch.fuse(j, lane)

    # Words a group at a time, so that they stay in the first cache, on the stack.
    philox.schedule(sch, name, group)


def add(
    program: Program,
    name: str,
    layer: int,
    x: Activation,
    weight: Posterior,
    bias: Posterior,
    noise_: Source,
) -> Activation:
    """Apply the layer.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks, by which `schedule` finds them.
    layer : int
        Its index in the network.
    x : Activation in `Rows`, the same for all samples, or in `SampledRows`
    weight : Posterior of shape (out, in)
    bias : Posterior of shape (out,)
    noise_ : Source
    """
    target = program.target
    n_out, n_in = weight.shape
    theta = weights(program, name, layer, weight, bias, noise_)
    out = compute(name, x.mean, theta, n_in)
    rows = tile(program.batch, target.registers)
    program.steps.append(
        Step(
            workload=f"sampled dense {n_in}x{n_out} batch {program.batch} "
            f"samples {noise_.n_samples}",
            by_hand={"rows": rows},
            space={"rows": range(1, min(program.batch, 24) + 1)},
            transform=partial(schedule, name=name, target=target),
        )
    )
    return Activation(SampledRows(noise_.n_samples, n_out, target.lanes), out, None)


def compute(name: str, x: te.Tensor, theta: te.Tensor, n_in: int) -> te.Tensor:
    """Say what is computed: y, (samples, batch, packs·lanes).

    Parameters
    ----------
    name : str
    x : (batch, in padded) or (samples, batch, in padded)
    theta : (packs, samples, groups, 8, lanes)
    n_in : int
    """
    n_packs, n_samples, _, group, lanes = (int(n) for n in theta.shape)
    batch = x.shape[-2]
    k = te.reduce_axis((0, n_in), name="k")

    def term(s, i, p, lane):
        value = x[i, k] if len(x.shape) == 2 else x[s, i, k]
        return te.sum(value * theta[p, s, k // group, k % group, lane], axis=k)

    sums = te.compute((n_samples, batch, n_packs, lanes), term, name=f"{name}_sums")

    def epilogue(s, i, o):
        p, lane = o // lanes, o % lanes
        return sums[s, i, p, lane] + theta[p, s, n_in // group, n_in % group, lane]

    return te.compute((n_samples, batch, n_packs * lanes), epilogue, name=name)


def tile(batch: int, registers: int) -> int:
    """Rows of one tile, a register each: five eighths of the registers, in balance."""
    return -(-batch // -(-batch // (registers * 5 // 8)))


def schedule(
    sch: tvm.s_tir.Schedule, decisions: Mapping[str, int], name: str, target: Target
) -> None:
    """Say how it is computed: one decision a paragraph; the rows of a tile are decided."""
    # Packs of outputs outside, samples inside: means and scales of a pack stay in the cache while
    # all samples of it are made.
    out = sch.get_sblock(name)
    sample, row, column = sch.get_loops(out)
    pack_, lane = sch.split(column, [None, target.lanes])
    sch.vectorize(lane)
    sch.reorder(pack_, sample, row, lane)

    # Sums of one pack and sample at a time, whole batches, and before them their weights.
    sums = sch.get_sblock(f"{name}_sums")
    sch.compute_at(sums, sample, preserve_unit_loops=True)
    schedule_weights(sch, name, sample)

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


def build(
    weight: Posterior,
    bias: Posterior,
    law: Law,
    batch: int,
    n_samples: int,
    target: str = "host",
    schedule: str = "hand",
    layer: int = 0,
) -> Kernel:
    """Compile the layer alone.

    Parameters
    ----------
    weight, bias : Posterior of shapes (out, in) and (out,)
    law : Law
    batch, n_samples : int
    target, schedule : str
        As in `kernels.compile_network`.
    layer : int
        Index in the network that random numbers are drawn for.

    Returns
    -------
    Kernel
        Called with the words of a seed and x, (batch, in); gives y, (samples, batch, out).
    """
    cpu = targets.target(target)
    return build_program(alone(weight, bias, law, batch, n_samples, cpu, layer), schedule)


def alone(
    weight: Posterior,
    bias: Posterior,
    law: Law,
    batch: int,
    n_samples: int,
    target: Target,
    layer: int = 0,
) -> Program:
    """The program of the layer alone; parameters as in `build`."""
    program = Program(target, batch)
    noise_ = source(program, law, n_samples)
    x = program.known(Rows(weight.shape[1], target.lanes))
    program.give(add(program, "dense", layer, x, weight, bias, noise_))
    return program
