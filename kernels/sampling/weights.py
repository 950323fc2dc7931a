"""Sampled weights, θ = µ + σz, made where dense layers and convolutions use them.

The noise z is that of `refbnn.network.counter_sampling`, a function of a weight's place, sample
and seed. No weight matrix is stored: the weights of one vector of outputs and one sample are made,
used for the whole batch, and overwritten. A bias is the last number in the row of its output's
weights.

Activations of B inputs under S samples form a batch of S·B, sample after sample, so that operators
without weights need not know of samples (`under_samples`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import tvm
from tvm import te

from kernels.layers import images
from kernels.layers.dense import pack
from kernels.program.program import Activation, Layout, Plain, Program, Step
from kernels.sampling import noise, philox
from refbnn.layers.posterior import Posterior
from refbnn.noise.law import Law
from refbnn.noise.word_table import WordTable, word_table


@dataclass(frozen=True)
class Samples:
    """Layout of a batch of S·B as (S, B, *shape).

    Parameters
    ----------
    n_samples : int
    each : Layout
        Layout of the batch.
    """

    n_samples: int
    each: Layout

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.each.shape

    def tensor_shape(self, batch: int) -> tuple[int, ...]:
        """Shape of the tensor of S·B examples."""
        return self.each.tensor_shape(self.n_samples * batch)

    def view(self, memory: np.ndarray) -> np.ndarray:
        """(S, B, *shape)."""
        rows = self.each.view(memory)
        return rows.reshape(self.n_samples, -1, *rows.shape[1:])


@dataclass(frozen=True, eq=False)
class Source:
    """Source of the noise: the seed and the table of a law, which all layers share.

    Parameters
    ----------
    n_samples : int
    seed : tensor (2,) uint32
    table : WordTable
    coefficients : tensor
        Coefficients of the table.
    """

    n_samples: int
    seed: te.Tensor
    table: WordTable
    coefficients: te.Tensor


def source(program: Program, law: Law, n_samples: int) -> Source:
    """Declare the seed, an input, and the table of a law."""
    seed = te.placeholder((2,), "uint32", name="seed")
    program.inputs.append((Plain((2,)), seed))
    table = word_table(law)
    return Source(n_samples, seed, table, program.weight("law", table.coefficients))


def under_samples(program: Program, source: Source) -> Program:
    """The same program for operators that follow sampled weights: its batch is S·B."""
    return replace(program, batch=source.n_samples * program.batch)


def give(program: Program, x: Activation, source: Source) -> None:
    """Make an activation under samples the output, (S, B, ...)."""
    program.give(Activation(Samples(source.n_samples, x.layout), x.mean, None))


def one_by_one(program: Program, first: str, last: Activation, source: Source) -> None:
    """Let all operators from the first with weights on work on one sample before the next.

    Their results are then stored for one sample, for B inputs in place of S·B.

    Parameters
    ----------
    program : Program
        Its steps so far must be of operators whose outermost loops run over samples, or over
        examples under samples.
    first : str
        Name of the first operator's block.
    last : Activation
        Result of the last operator.
    source : Source
    """
    ends = {tensor.op.name for tensor in last.tensors}
    transform = partial(_merge, first=first, last=ends, n_samples=source.n_samples)
    program.steps.append(Step(f"samples one by one {source.n_samples}", {}, {}, transform))


def _merge(sch: tvm.s_tir.Schedule, decisions, first: str, last: set[str], n_samples: int) -> None:
    """Merge the loops over the samples of all blocks from that of this name to one of `last`."""
    blocks = list(sch.get_child_blocks(sch.get_sblock("root")))
    names = [sch.get(block).name_hint for block in blocks]
    stop = 1 + max(index for index, name in enumerate(names) if name in last)
    images.merge(sch, blocks[names.index(first) : stop], n_samples)


def weights(
    program: Program, name: str, index: int, posteriors: Mapping[str, Posterior], source: Source
) -> te.Tensor:
    """Say what weights are: θ = µ + σz in rows of a fan-in and a bias.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks.
    index : int
        Index of the layer in the network.
    posteriors : "weight" of shape (out, ...) and "bias" of shape (out,)
    source : Source

    Returns
    -------
    (packs, samples, groups, 8, lanes)
    """
    weight, bias = posteriors["weight"], posteriors["bias"]
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
    shape = n_packs, source.n_samples, groups, lanes
    n_row = weight.mean[0].size + 1
    words = philox.words(name, source.seed, shape, n_row, index)

    def theta(p, s, g, j, lane):
        z = noise.value(words[p, s, g, j, lane], source.table, source.coefficients)
        return mean[p, g, j, lane] + scale[p, g, j, lane] * z

    return te.compute(words.shape, theta, name=f"{name}_theta")


def schedule(sch: tvm.s_tir.Schedule, name: str, loop):
    """Say how weights are made: all of one pack and one sample, before they are used.

    Returns
    -------
    LoopRV
        The loop over groups of weights.
    """
    # A loop over the words of a group, left to LLVM: it loads from the table by gathers, where
    # TVM's own vectors would fetch entry after entry (7 cycles a weight with AVX-512, not 3.7).
    theta = sch.get_sblock(f"{name}_theta")
    sch.compute_at(theta, loop, preserve_unit_loops=True)
    *_, group, j, lane = sch.get_loops(theta)
    sch.fuse(j, lane)

    # Words a group at a time, so that they stay in the first cache, on the stack.
    philox.schedule(sch, name, group)
    return group
