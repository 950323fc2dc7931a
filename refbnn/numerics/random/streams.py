"""Independent random number generators for every purpose, from one seed."""

from __future__ import annotations

import numpy as np

from refbnn.errors import InputError


def stream(seed: int, purpose: str) -> np.random.Generator:
    """Create the generator of one purpose, such as "train", from a seed of at least 0.

    Initial weights, training and prediction take one seed but need different numbers: a posterior
    sample that repeats the noise behind the initial means would not be independent.
    """
    if seed < 0:
        raise InputError(f"seed is {seed}; expected an integer of at least 0")
    return np.random.default_rng([seed, *purpose.encode()])
