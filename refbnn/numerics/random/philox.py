"""Philox4x32-10: random bits as a function of a counter, without state.

Formula
-------
A counter (c₀, c₁, c₂, c₃) and a key (k₀, k₁) of 32-bit words pass ten rounds,

    (c₀, c₁, c₂, c₃) ← (hi(M₁c₂) ⊕ c₁ ⊕ k₀,  lo(M₁c₂),  hi(M₀c₀) ⊕ c₃ ⊕ k₁,  lo(M₀c₀)),

with the 64-bit products split into their upper and lower words, and with k₀ + W₀, k₁ + W₁ (mod 2³²)
for the keys of the next round. For each key the map of counters is one to one, and the four words
pass every test of BigCrush. Any number of a sequence is found without those before it, in any
order and on any device: what sampling within a kernel needs.

Source: Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"; the
constants and the known answers that tests hold this to are those of their Random123 library.

Here the key is a 64-bit seed, lower word first, and the counter says what a number is for: see
`refbnn.network.counter_sampling`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from refbnn.errors import InputError

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)  # M₀, M₁
WEYL = (0x9E3779B9, 0xBB67AE85)  # W₀, W₁: the golden ratio and √3 − 1, times 2³²

_WORD = np.uint64(0xFFFFFFFF)
_BITS = np.uint64(32)


def key_of(seed: int) -> np.ndarray:
    """The two words of a seed, lower first, (2,) uint32.

    Raises
    ------
    InputError
        Unless the seed is an integer from 0 to 2⁶⁴ − 1.
    """
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise InputError(f"seed is {seed!r}; expected an integer from 0 to 2**64 - 1")
    return np.array([int(seed) & 0xFFFFFFFF, int(seed) >> 32], dtype=np.uint32)


def philox(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Random words of counters.

    Parameters
    ----------
    counter : (..., 4) of uint32
    key : (2,) of uint32

    Returns
    -------
    (..., 4) of uint32
    """
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


@njit(cache=True)
def philox_loops(counter, key):
    """As `philox`, a counter at a time: (n, 4) -> (n, 4)."""
    words = np.empty_like(counter)
    for n in range(counter.shape[0]):
        c = counter[n].copy()
        k = key.copy()
        for _ in range(10):
            p0 = np.uint64(0xD2511F53) * np.uint64(c[0])
            p1 = np.uint64(0xCD9E8D57) * np.uint64(c[2])
            c[0] = np.uint32(p1 >> np.uint64(32)) ^ c[1] ^ k[0]
            c[1] = np.uint32(p1 & np.uint64(0xFFFFFFFF))
            c[2] = np.uint32(p0 >> np.uint64(32)) ^ c[3] ^ k[1]
            c[3] = np.uint32(p0 & np.uint64(0xFFFFFFFF))
            k[0] = np.uint32(np.uint64(k[0]) + np.uint64(0x9E3779B9) & np.uint64(0xFFFFFFFF))
            k[1] = np.uint32(np.uint64(k[1]) + np.uint64(0xBB67AE85) & np.uint64(0xFFFFFFFF))
        words[n] = c
    return words
