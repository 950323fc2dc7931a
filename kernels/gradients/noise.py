"""The noise z of weights in a gradient: given as an array, or made again where it is used.

Forward and backward pass see the same noise without storing it: z is a function of a weight's
place, sample and seed (`refbnn.network.counter_sampling`), so the backward pass makes it once
more. A weight is number i in the row of its output o, in the order of the layer's array; a bias is
the last one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import tvm
from tvm import te

from kernels.program.program import Program
from kernels.sampling import noise, philox
from kernels.sampling.weights import Source


class Noise(Protocol):
    """Noise of one layer, as one of its gradients reads it."""

    def __call__(self, s, o, i):
        """Z of sample s, output o, number i: TVM expressions in and out."""

    def schedule(self, sch: tvm.s_tir.Schedule, loop) -> None:
        """Say how it is made: what a turn of the loop reads, in that turn."""


@dataclass(frozen=True)
class Given:
    """Noise that is an input.

    Parameters
    ----------
    value : callable (s, o, i)
        Reads it.
    """

    value: Callable

    def __call__(self, s, o, i):
        """Z."""
        return self.value(s, o, i)

    def schedule(self, sch: tvm.s_tir.Schedule, loop) -> None:
        """Nothing is made."""


@dataclass(frozen=True)
class Drawn:
    """Noise that is made in the kernel.

    Parameters
    ----------
    name : str
        Starts the names of its blocks.
    values : tensor, (packs, samples, numbers, lanes)
        Output o is lane o mod lanes of pack o // lanes, as in the forward pass.
    """

    name: str
    values: te.Tensor

    def __call__(self, s, o, i):
        """Z."""
        lanes = self.values.shape[-1]
        return self.values[o // lanes, s, i, o % lanes]

    def schedule(self, sch: tvm.s_tir.Schedule, loop) -> None:
        """Make all that a turn of the loop reads, as `kernels.sampling.weights` does: by groups."""
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
) -> Drawn:
    """Say how noise is made.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks.
    layer : int
        Its index in the network.
    shape : (int, int)
        Outputs, and numbers in the row of each, the bias included.
    columns : int
        Numbers that may be read of a row, what pads it included.
    source : Source
    """
    lanes, (n_out, row) = program.target.lanes, shape
    groups = philox.n_groups(max(row, columns))
    packs = -(-n_out // lanes)
    words = philox.words(name, source.seed, (packs, source.n_samples, groups, lanes), row, layer)

    def value(p, s, i, lane):
        word = words[p, s, i // philox.GROUP, i % philox.GROUP, lane]
        return noise.value(word, source.table, source.coefficients)

    numbers = packs, source.n_samples, groups * philox.GROUP, lanes
    return Drawn(name, te.compute(numbers, value, name=f"{name}_z"))
