"""Logits in the form that every method of this folder takes: checked, and shifted below 0."""

from __future__ import annotations

import numpy as np

from refbnn.errors import InputError
from refbnn.layers.moments import Moments

_LEAST = -1e100


def centred(logits: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Mean less the greatest entry of its row, and variance: (B, C) each, float64.

    Softmax and entropy do not change by the shift. Differences are cut at 1e100, so that sums of
    them stay finite; the probability underflows far earlier.

    Raises
    ------
    InputError
        If the logits are not of shape (B, C) with C ≥ 1.
    """
    if len(logits.shape) != 2 or not logits.shape[1]:
        raise InputError(f"softmax: logits of shape {logits.shape}; expected (B, C), C ≥ 1")
    mean, var = (np.asarray(array, dtype=float) for array in (logits.mean, logits.var))
    with np.errstate(over="ignore"):
        m = mean - mean.max(axis=1, keepdims=True)
    return np.maximum(m, _LEAST), var
