"""Philox4x32-10 in a kernel: eight random words at a time, two counters in one 64-bit lane.

The formula is that of `refbnn.numerics.random.philox`. Keys enter a round only beside c₁ and c₃, so
a round takes them as c₁ ⊕ k₀ and c₃ ⊕ k₁. The ten rounds are one loop that starts from zeros, where
round r is

    c ← R(c ⊕ y_r),   y_r = (0, k₀ + rW₀, 0, k₁ + rW₁),   and the counter ⊕ y₀ for r = 0.

te calls it a reduction over r. Its order matters: the loop may be unrolled, not split.

A lane holds the words of two counters, one in its lower and one in its upper half:

    even = M (c mod 2³²),  odd = M ⌊c/2³²⌋;    hi = ⌊even/2³²⌋ | upper half of odd,
                                               lo = lower half of even | odd·2³².

Vector units multiply 32 × 32 -> 64 bits in lanes of 64, so nothing moves between lanes. A word
takes 1.4 cycles with AVX-512. With the words in lanes of 32 it would take 3.2, because LLVM spends
more on shuffles than on products.

TVM tells LLVM that sums of unsigned numbers do not overflow. So keys are added up in 64 bits, and
the carry is cut off.
"""

from __future__ import annotations

from collections.abc import Callable

import tvm
from tvm import te, tirx

from refbnn.network import local_sampling
from refbnn.network.counter_sampling import PURPOSE, row_blocks
from refbnn.numerics.random.philox import MULTIPLIERS, ROUNDS, WEYL

GROUP = 8  # words that are made together


def _u64(value: int):
    return tirx.const(value, "uint64")


_LOW, _HIGH, _HALF = _u64(2**32 - 1), _u64((2**32 - 1) << 32), _u64(32)


def n_groups(n: int) -> int:
    """Number of groups of eight in a row of n numbers."""
    return -(-n // GROUP)


def words(
    name: str, seed: te.Tensor, shape: tuple[int, int, int, int], row: int, layer: int
) -> te.Tensor:
    """Words for one layer's weights, those of `refbnn.network.counter_sampling.words`.

    Parameters
    ----------
    name : str
        Starts the names of the blocks.
    seed : (2,) uint32
    shape : (packs, samples, groups, lanes)
    row : int
        Count of numbers in the row of one output.
    layer : int
        Index of the layer in the network.

    Returns
    -------
    (packs, samples, groups, 8, lanes) uint32
        Word 8g + j of row lanes·pack + lane. A last group that is half empty ends in words of the
        next row, which nothing reads.
    """
    lanes = shape[-1]

    def counter(p, s, g, lane):
        block = ((p * lanes + lane) * row_blocks(row) + 2 * g).astype("uint64")
        return [
            _pair(block),
            _twice(_u64(layer)),
            _twice(s.astype("uint64")),
            _twice(_u64(PURPOSE)),
        ]

    return _words(name, seed, shape, counter)


def words_of_outputs(
    name: str, seed: te.Tensor, shape: tuple[int, int, int, int], n_out: int, layer: int
) -> te.Tensor:
    """Words for one layer's outputs, those of `refbnn.network.local_sampling.words`.

    Parameters
    ----------
    name, seed, layer
        As in `words`.
    shape : (packs, batch, groups of eight samples, lanes)
    n_out : int

    Returns
    -------
    (packs, batch, groups, 8, lanes) uint32
        Word of output lanes·pack + lane of an input in sample 8g + j. Outputs that pad the last
        pack have the words of the next input's first ones.
    """
    lanes = shape[-1]

    def counter(p, i, g, lane):
        return [
            _twice((i * n_out + p * lanes + lane).astype("uint64")),
            _twice(_u64(layer)),
            _pair((2 * g).astype("uint64")),
            _twice(_u64(local_sampling.PURPOSE)),
        ]

    return _words(name, seed, shape, counter)


def _words(
    name: str, seed: te.Tensor, shape: tuple[int, int, int, int], counter: Callable
) -> te.Tensor:
    """Eight words of two counters, one in each half of the four words that `counter` gives."""
    n_packs, n_rows, groups, lanes = shape
    r = te.reduce_axis((0, ROUNDS), name="r")
    fold = te.comm_reducer(_round, lambda *types: tuple([_u64(0)] * 4), name="philox")

    def mixed(*index):
        c0, c1, c2, c3 = (tirx.Select(r == 0, c, _u64(0)) for c in counter(*index))
        k0, k1 = (
            _twice((seed[n].astype("uint64") + r.astype("uint64") * _u64(WEYL[n])) & _LOW)
            for n in range(2)
        )
        return fold((c0, c1 ^ k0, c2, c3 ^ k1), axis=r)

    pairs = te.compute(shape, mixed, name=f"{name}_philox")

    def word(p, s, g, j, lane):
        pair = pairs[3][p, s, g, lane]
        for n in (2, 1, 0):
            pair = tirx.Select(j % 4 == n, pairs[n][p, s, g, lane], pair)
        return tirx.Select(j < 4, pair & _LOW, pair >> _HALF).astype("uint32")

    return te.compute((n_packs, n_rows, groups, GROUP, lanes), word, name=f"{name}_words")


def _pair(word):
    """A word of 64 bits that is below 2³², and its successor in the upper half."""
    return word | ((word + _u64(1)) << _HALF)


def _twice(word):
    """A 32-bit word in both halves of 64 bits."""
    return word | (word << _HALF)


def _round(state, entering):
    """One round R(c ⊕ y) of four 64-bit pairs."""
    c0, c1, c2, c3 = (c ^ y for c, y in zip(state, entering, strict=True))
    (hi0, lo0), (hi1, lo1) = _product(MULTIPLIERS[0], c0), _product(MULTIPLIERS[1], c2)
    return hi1 ^ c1, lo1, hi0 ^ c3, lo0


def _product(multiplier: int, c):
    """Upper and lower words of the products in both halves."""
    even, odd = _u64(multiplier) * (c & _LOW), _u64(multiplier) * (c >> _HALF)
    return (even >> _HALF) | (odd & _HIGH), (even & _LOW) | (odd << _HALF)


def schedule(sch: tvm.s_tir.Schedule, name: str, loop) -> None:
    """Say how words are made: one group at a time, in each turn of the loop that uses it."""
    # An output is a lane. The halves of the pairs are separated while they are in registers.
    words_, pairs = sch.get_sblock(f"{name}_words"), sch.get_sblock(f"{name}_philox")
    sch.compute_at(words_, loop, preserve_unit_loops=True)
    sch.compute_at(pairs, loop, preserve_unit_loops=True)
    *_, j, lane = sch.get_loops(words_)
    sch.unroll(j)
    sch.vectorize(lane)

    # The rounds follow each other without a loop, so that each knows its r.
    *_, lane, r = sch.get_loops(pairs)
    sch.reorder(r, lane)
    sch.unroll(r)
    sch.vectorize(lane)
    sch.decompose_reduction(pairs, r)
