"""Independent random number generators for every purpose, from one seed."""

from __future__ import annotations

import numpy as np

from refbnn.numerics.arguments import whole_number


def stream(seed: int, purpose: str) -> np.random.Generator:
    """Create the generator of one purpose, such as "train", from a seed of at least 0.

    Initial weights, training and prediction take one seed but need different numbers: a posterior
    sample that repeats the noise behind the initial means would not be independent.
    """
    return np.random.default_rng([whole_number(seed, 0, "seed"), *purpose.encode()])
