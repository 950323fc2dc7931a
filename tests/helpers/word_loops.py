"""Random words and their numbers a second time, in explicit loops."""

import numpy as np
from numba import njit


@njit(cache=True)
def philox_loops(counter, key):
    """Words of `refbnn.numerics.random.philox`, a counter at a time: (n, 4) -> (n, 4)."""
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


@njit(cache=True)
def table_loops(words, m, cuts, coefficients):
    """Numbers of a `refbnn.noise.word_table.WordTable`, by arithmetic instead of bits."""
    z = np.empty(words.size, np.float32)
    entries = coefficients.shape[0] // (2 * (cuts.size - 1))
    for n in range(words.size):
        word = np.int64(words[n])
        j = 0
        while word >= cuts[j + 1]:
            j += 1
        side, d = 2 * j, word - cuts[j]
        if cuts[j + 1] - 1 - word < d:
            side, d = 2 * j + 1, cuts[j + 1] - 1 - word
        place = np.float32(d) + np.float32(0.5)
        octave = np.int64(-1)
        while place >= np.float32(2.0) ** np.float32(octave + 1):
            octave += 1
        # 1 ≤ scaled < 2: part and place within the octave, both exact in float64.
        scaled = np.float64(place) * 2.0 ** np.float64(-octave)
        part = np.int64((scaled - 1.0) * 2.0**m)
        tau = np.float32(scaled - 1.0 - part * 2.0**-m)
        a = coefficients[side * entries + (octave + 1) * 2**m + part]
        z[n] = ((a[3] * tau + a[2]) * tau + a[1]) * tau + a[0]
    return z
