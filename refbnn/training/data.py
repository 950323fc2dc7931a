"""Data for training: checked, in the type of the arithmetic, and identified by a fingerprint."""

from __future__ import annotations

import hashlib

import numpy as np

from refbnn.errors import InputError
from refbnn.layers.moments import all_finite
from refbnn.network.network import Network
from refbnn.numerics.random.streams import stream
from refbnn.training.likelihood import likelihood_named
from refbnn.training.options import Options


def held_out(x: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Choose the examples (N, ...) to hold out for validation: (N,) of bool.

    Equal inputs never lie on both sides: some sets hold one picture several times, with different
    labels. `share` is the share of distinct inputs.

    Raises
    ------
    InputError
        If the share is not above 0 and below 1, or leaves nothing on one side.
    """
    if not 0.0 < share < 1.0:
        raise InputError(f"validation share is {share:g}; expected above 0 and below 1")
    digests = [hashlib.sha256(row.tobytes()).digest() for row in x]
    inputs, input_of = np.unique(digests, return_inverse=True)
    order = stream(seed, "validation split").permutation(len(inputs))
    held = np.isin(input_of, order[: round(share * len(inputs))])
    if not held.any() or held.all():
        raise InputError(
            f"validation share is {share:g} of {len(inputs)} inputs; expected some on either side"
        )
    return held


def fingerprint(*arrays: np.ndarray) -> str:
    """SHA-256 of all data, so that a run is not resumed on other data."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def training_data(net: Network, x, y, options: Options, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Check examples and targets, and convert x to the options' type.

    Raises
    ------
    InputError
        If the arrays do not fit the network, the likelihood or each other, or hold NaN; `what`
        names them.
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.dtype.kind not in "fiu" or x.ndim < 2 or y.shape[:1] != x.shape[:1] or not len(x):
        raise InputError(
            f"train: {what} are {x.dtype} of shape {x.shape} and {y.dtype} of shape {y.shape}; "
            "expected numbers (N, ...) and (N, ...), N > 0"
        )
    with np.errstate(over="ignore"):
        x = x.astype(options.dtype, copy=False)
    if not all_finite(x):
        raise InputError(f"train: {what}: x holds NaN or infinity; expected finite numbers")
    likelihood_named(options.likelihood).check(y, net.check_input(x.shape[1:]))
    return x, y
