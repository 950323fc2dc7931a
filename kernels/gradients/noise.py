"""The noise z of weights in a gradient: given as an array, or made again where it is used.

Forward and backward pass see the same noise without storing it: z is a function of a weight's
place, sample and seed (`refbnn.network.counter_sampling`), so the backward pass makes it once
more. A weight is number i in the row of its output o, in the order of the layer's array; a bias is
the last one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tvm
from tvm import te

from kernels.layers.products import joint_sum
from kernels.program.program import Program
from kernels.sampling import noise, philox
from kernels.sampling.weights import Source


@dataclass(frozen=True, eq=False)
class Noise:
    """Noise of one layer, as one of its gradients reads it.

    Parameters
    ----------
    value : callable (s, o, i)
        Reads z of sample s, output o, number i: TVM expressions in and out.
    name : str, optional
        Start of the names of the blocks that make it; None where it is an input.
    """

    value: Callable
    name: str | None = None

    def __call__(self, s, o, i):
        """Read z."""
        return self.value(s, o, i)

    def schedule(self, sch: tvm.s_tir.Schedule, loop) -> None:
        """Make what an iteration reads, group by group as `kernels.sampling.weights` does."""
        if self.name is None:
            return
        z = sch.get_sblock(f"{self.name}_z")
        sch.compute_at(z, loop, preserve_unit_loops=True)
        *_, i, lane = sch.get_loops(z)
        # One number alone is that of a bias.
        if int(sch.get(i).extent) % philox.GROUP == 0:
            group, j = sch.split(i, [None, philox.GROUP])
            sch.fuse(j, lane)
        else:
            group = i
        philox.schedule(sch, self.name, group)


def drawn(
    program: Program, name: str, layer: int, shape: tuple[int, int], columns: int, source: Source
) -> Noise:
    """Make the noise of a layer from the words of a counter-based generator.

    Parameters
    ----------
    program : Program
    name : str
        Start of the names of the blocks.
    layer : int
        Index of the layer in the network.
    shape : (int, int)
        Outputs, and numbers in the row of each, the bias included.
    columns : int
        Numbers that may be read of a row, padding included.
    source : Source
        Seed and table of the law.
    """
    lanes, (n_out, row) = program.target.lanes, shape
    groups = philox.n_groups(max(row, columns))
    packs = -(-n_out // lanes)
    words = philox.words(name, source.seed, (packs, source.n_samples, groups, lanes), row, layer)

    def value(p, s, i, lane):
        word = words[p, s, i // philox.GROUP, i % philox.GROUP, lane]
        return noise.value(word, source.table, source.coefficients)

    numbers = packs, source.n_samples, groups * philox.GROUP, lanes
    z = te.compute(numbers, value, name=f"{name}_z")
    return Noise(lambda s, o, i: z[o // lanes, s, i, o % lanes], name)


def over_samples(name: str, gradient: te.Tensor, z: Noise, number: Callable) -> tuple:
    """Sum the gradients G of samples, (S, out, ...): Σ_s G_s and Σ_s G_s ∘ z_s, (out, ...) each.

    Parameters
    ----------
    name : str
        Name of the block.
    gradient : tensor
    z : Noise
    number : callable (*index after the output) -> i
        Number of a weight in the row of its output.
    """
    sample = te.reduce_axis((0, gradient.shape[0]), name="sample")

    def terms(o, *index):
        G = gradient(sample, o, *index)
        return joint_sum([G, G * z(sample, o, number(*index))], axis=sample)

    return te.compute(gradient.shape[1:], terms, name=name)
