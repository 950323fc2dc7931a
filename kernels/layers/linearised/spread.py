"""Rows of J by the results of windows, brought to the entries of these windows.

Formula
-------
Each entry takes Σ weight · P over the windows that hold it, P the rows of J by their results.
Windows side by side hold each entry once. For a convolution of the result, entries lie as far
apart as its stride, in a frame of zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import tvm
from tvm import te, tirx

from kernels.arithmetic.polynomials import f32
from kernels.layers.images import Images, Packs, Planes
from kernels.layers.linearised.backward import Backward
from kernels.program.program import Step
from refbnn.layers.images.windows import Pair

Weight: TypeAlias = te.Tensor | float


@dataclass(frozen=True, eq=False)
class Spread:
    """Rows of J by the results of windows, brought to their entries.

    Parameters
    ----------
    source : Planes or Packs
        Layout of the results.
    windows : kernel, stride and padding
    steps : (int, int)
        Rows and columns between entries that are neighbours, in the result.
    before : (int, int)
        Rows and columns of entries that the result leaves out before its first one; negative for a
        frame of zeros. A kernel of 3 and padding of 1 take a frame of 1 all around, (-1, -1); to a
        kernel of 1 and padding of 1, the outermost entries are of the padding alone, (1, 1).
    layout : Planes or Packs
        Layout of the result.
    """

    source: Images
    windows: tuple[Pair, Pair, Pair]
    steps: Pair
    before: Pair
    layout: Images

    def compute(
        self, backward: Backward, name: str, P: te.Tensor, weights: Sequence[Weight]
    ) -> te.Tensor:
        """Σ weight · P over the windows that hold an entry; rows of P are those of J."""
        k, program = backward.n_outputs, backward.program
        shape = (int(P.shape[0]), *self.layout.tensor_shape(program.batch)[1:])
        tiled = self.windows[0] == self.windows[1] and self.windows[2] == (0, 0)
        formula = self._of_one if tiled else self._of_several
        result = te.compute(shape, partial(formula, P, weights, k), name=f"{name}_spread")
        # In place, TVM would fill P itself: it takes for in place what reads where it writes.
        moved = any(self.before) or self.windows[0] != (1, 1)
        memory = self.layout.tensor_shape(1)[2:4]
        entries = [k * n for k, n in zip(self.windows[0], self.source.shape[1:], strict=True)]
        beyond = any(
            first < 0 or first + m > n
            for first, m, n in zip(self.before, memory, entries, strict=True)
        )
        framed = tiled and self.steps == (1, 1) and moved and beyond
        block = f"{name}_spread"
        transform = partial(
            _schedule_spread, block=block, k=k, window=self.windows[0], framed=framed
        )
        workload = f"spread {self} rows {shape[0]}"
        program.steps.append(Step(workload, {}, {}, transform))
        return result

    def _of_one(self, P, weights, k, r, *index):
        """For windows side by side: each entry is in one of them."""
        channel, *at = self.layout.place(*index)
        places, tests = [], []
        for y, before, step, size, n in self._axes(at):
            if step == 1:
                tests += [y >= -before, y < size * n - before]
                place = y + before
            else:
                there = y + before
                tests += [there >= 0, there < step * size * n, tirx.floormod(there, step) == 0]
                place = tirx.floordiv(there, step)
            places.append((tirx.floordiv(place, size), tirx.floormod(place, size)))
        tests += self._channels(channel)
        (row, a), (column, b) = places
        value = self._term(r, channel, (row, column), 0, P, weights, k)
        for e in range(1, len(weights)):
            of_entry = self._term(r, channel, (row, column), e, P, weights, k)
            value = tirx.if_then_else(a * self.windows[0][1] + b == e, of_entry, value)
        return tirx.if_then_else(tirx.all(*tests), value, f32(0.0))

    def _of_several(self, P, weights, k, r, *index):
        """For windows of any kind: the sum over all places of an entry in a window."""
        channel, *at = self.layout.place(*index)
        (rows, columns), (down, right), (above, left) = self.windows
        total = f32(0.0)
        (y, top, s, _, n), (z, before, t, _, m) = self._axes(at)
        for e, (a, b) in enumerate(np.ndindex(rows, columns)):
            tests, place = [*self._channels(channel), *self._columns(z)], []
            for there, apart, most in (
                (y + top + s * (above - a), s * down, n),
                (z + before + t * (left - b), t * right, m),
            ):
                tests += [there >= 0, there < apart * most, tirx.floormod(there, apart) == 0]
                place.append(tirx.floordiv(there, apart))
            term = self._term(r, channel, place, e, P, weights, k)
            total = total + tirx.if_then_else(tirx.all(*tests), term, f32(0.0))
        return total

    def _axes(self, at):
        """Row and column: index, entries before, step, size of a window, number of windows."""
        return zip(at, self.before, self.steps, self.windows[0], self.source.shape[1:], strict=True)

    def _channels(self, channel) -> list:
        """Test of the channels that are only padding, where the layouts differ in them."""
        padded = isinstance(self.layout, Packs) and isinstance(self.source, Planes)
        return [channel < self.source.channels] if padded else []

    def _columns(self, column) -> list:
        """Test of the columns that are only padding of planes, where a window may reach them."""
        padded = isinstance(self.layout, Planes) and self.layout.pitch > self.layout.width
        return [column < self.layout.width] if padded and self.windows[2][1] else []

    def _term(self, r, channel, place, e, P, weights, k):
        index, weight = self.source.index(channel, *place), weights[e]
        if isinstance(weight, float):
            return P[(r, *index)] * f32(weight)
        return P[(r, *index)] * weight(tirx.floordiv(r, k), *index)


def _schedule_spread(
    sch: tvm.s_tir.Schedule, decisions, block: str, k: int, window: Pair, framed: bool
) -> None:
    """Say how rows are spread: one decision a paragraph."""
    # With a frame, zeros first, then the rest without tests.
    spread = sch.get_sblock(block)
    r, first, row, column, *lane = sch.get_loops(spread)
    if framed:
        sch.decompose_padding(spread, first)

        # Window by window, its entries unrolled: the place in a window is then known.
        _, _, row, column, *lane = sch.get_loops(spread)
        for loop, size in ((row, window[0]), (column, window[1])):
            _, entry = sch.split(loop, [None, size])
            sch.unroll(entry)

    # Whole vectors of channels.
    for loop in lane:
        sch.vectorize(loop)

    # Rows of one example after the other: no index is divided.
    sch.split(r, [None, k])
