"""Philox4x32-10: random bits as a function of a counter, without state.

Formula
-------
A counter (c₀, c₁, c₂, c₃) and a key (k₀, k₁) of 32-bit words pass ten rounds,

    (c₀, c₁, c₂, c₃) ← (hi(M₁c₂) ⊕ c₁ ⊕ k₀,  lo(M₁c₂),  hi(M₀c₀) ⊕ c₃ ⊕ k₁,  lo(M₀c₀)),

where hi and lo are the upper and lower words of the 64-bit products; the keys of the next round are
k₀ + W₀ and k₁ + W₁ (mod 2³²). For each key the map of counters is one to one, and the four words
pass every test of BigCrush. Each number is computed without those before it, in any order and on
any device: sampling within a kernel needs this.

Source: Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"; the
constants, and the known answers in the tests, are those of their Random123 library.

The key is a 64-bit seed, lower word first. `refbnn.network.counter_sampling` says how a counter
is made from a layer, a sample and an output.
"""

from __future__ import annotations

import numpy as np

from refbnn.numerics.arguments import whole_number

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)  # M₀, M₁
WEYL = (0x9E3779B9, 0xBB67AE85)  # W₀, W₁: the golden ratio and √3 − 1, times 2³²

_WORD = np.uint64(0xFFFFFFFF)
_BITS = np.uint64(32)


def key_of(seed: int) -> np.ndarray:
    """Split a seed from 0 to 2⁶⁴ − 1 into two words, lower first: (2,) uint32."""
    number = whole_number(seed, 0, "seed", 2**64 - 1)
    return np.array([number & 0xFFFFFFFF, number >> 32], dtype=np.uint32)


def philox(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Random words (..., 4) from counters (..., 4) and a key (2,), all uint32."""
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, dtype=np.uint64), -1, 0)
    M0, M1 = (np.uint64(m) for m in MULTIPLIERS)
    k0, k1 = (int(k) for k in key)
    for _ in range(ROUNDS):
        p0, p1 = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (
            (p1 >> _BITS) ^ c1 ^ np.uint64(k0),
            p1 & _WORD,
            (p0 >> _BITS) ^ c3 ^ np.uint64(k1),
            p0 & _WORD,
        )
        k0, k1 = (k0 + WEYL[0]) % 2**32, (k1 + WEYL[1]) % 2**32
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)
