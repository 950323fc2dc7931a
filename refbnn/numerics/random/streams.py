"""Streams: independent random numbers for every purpose, from one seed."""

from __future__ import annotations

import numpy as np

from refbnn.errors import InputError


def stream(seed: int, purpose: str) -> np.random.Generator:
    """Open the generator of one purpose.

    The same seed for initial weights, training and prediction must not mean the same numbers: a
    posterior sample that repeats the noise behind the initial means would not be independent.

    Parameters
    ----------
    seed : int
        At least 0.
    purpose : str
        Such as "train"; part of the seed sequence.
    """
    if seed < 0:
        raise InputError(f"seed is {seed}; expected an integer of at least 0")
    return np.random.default_rng([seed, *purpose.encode()])
