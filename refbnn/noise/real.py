"""Arguments of laws and fits: real numbers without hidden entries, and float types of samples."""

from __future__ import annotations

from typing import Any

import numpy as np

from refbnn.errors import InputError, quoted


def real(values: Any, what: str) -> np.ndarray:
    """Return values as an array of real numbers, of their own type or else float64.

    `np.asarray(…, dtype=float)` drops imaginary parts with a warning, turns hidden entries of a
    masked array into values, and reads texts.

    Raises
    ------
    InputError
        If an entry is masked, complex, or no number; `what` names the values.
    """
    if np.ma.is_masked(values):
        raise InputError(
            f"{what}: a masked array with {np.ma.count_masked(values)} masked entries, which would "
            "count as values; expected plain numbers, such as its .compressed()"
        )
    array = np.asarray(values)
    if array.dtype.kind in "fiub":
        return array
    try:
        if array.dtype.kind == "O":
            return array.astype(float)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"{what}: entries of type {array.dtype}; expected real numbers")


def float_type(dtype: Any, what: str) -> np.dtype:
    """Return float64 or float32, however it is spelt; InputError for every other type."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)  # not None, which NumPy takes for float64
    if found not in (np.dtype(np.float64), np.dtype(np.float32)):
        raise InputError(f"{what}: dtype is {quoted(dtype)}; expected float64 or float32")
    return found
