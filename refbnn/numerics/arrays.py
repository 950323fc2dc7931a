"""Arrays from callers: real numbers, nothing masked; float types of results; axes of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from refbnn.errors import InputError
from refbnn.numerics.arguments import shown

MOST_CHANNELS = 4  # of pictures: grey, RGB, RGB and transparency


def real_array(x: Any, name: str) -> np.ndarray:
    """An array of real numbers from anything that NumPy takes for one; truth values as 0 and 1.

    An array that is one already is returned as it is, of whatever real type.

    Parameters
    ----------
    x : array_like
        A nested list, an array, a masked array without masked entries, or an object that turns
        into an array, such as a table or a tensor.
    name : str
        Opens the message of an error.

    Raises
    ------
    InputError
        If x is no array, its rows differ in length, it holds complex numbers, text or objects, or
        an entry is masked.
    """
    array = x if type(x) is np.ndarray else _as_array(x, name)
    kind = array.dtype.kind
    if kind in "fiu":
        return array
    if kind == "b":
        return array.view(np.uint8)
    if kind == "O" and not array.ndim:
        raise InputError(f"{name} is {shown(x)}; expected an array of real numbers")
    remedy = ": x.astype(float) turns objects into numbers" if kind == "O" else ""
    raise InputError(f"{name} is of type {array.dtype}; expected real numbers{remedy}")


def channels_last(shape: Sequence[int]) -> bool:
    """Whether the shape (3,) of one image is taken for (height, width, channels).

    So it is if the last axis counts 2 to 4, as of RGB pictures, and is shorter than both others. An
    axis of length 1 holds the same numbers in the same order wherever it stands.

    Examples
    --------
    >>> [channels_last(shape) for shape in ((28, 28, 3), (3, 28, 28), (16, 50, 1))]
    [True, False, False]
    """
    return len(shape) == 3 and 1 < shape[2] <= MOST_CHANNELS and shape[2] < min(shape[:2])


def finite_array(x: Any, name: str) -> np.ndarray:
    """`real_array`, without NaN and infinity; InputError if there are some."""
    array = real_array(x, name)
    if not all_finite(array):
        raise InputError(f"{name} holds NaN or infinity; expected finite numbers")
    return array


def all_finite(x: np.ndarray) -> bool:
    """Whether no entry is NaN or infinite.

    Σ|x|² is finite unless an entry is not or the sum overflows: one fast pass, rarely two.
    """
    return math.isfinite(np.vdot(x, x).real) or bool(np.isfinite(x).all())


def float_type(dtype: Any, what: str) -> np.dtype:
    """Return float64 or float32, however it is spelt; InputError for every other type."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)  # not None, which NumPy takes for float64
    if found not in (np.dtype(np.float64), np.dtype(np.float32)):
        raise InputError(f"{what}: dtype is {dtype!r}; expected float64 or float32")
    return found


def _as_array(x: Any, name: str) -> np.ndarray:
    rows = x if isinstance(x, list | tuple) else (x,)
    masked = sum(int(np.ma.count_masked(r)) for r in rows if isinstance(r, np.ma.MaskedArray))
    if masked:
        raise InputError(
            f"{name} has masked entries ({masked}); expected none: fill them, as by "
            "x.filled(number), or drop their rows"
        )
    try:
        return np.asarray(x)
    except ValueError:
        raise InputError(f"{name} is no array; expected real numbers, rows equally long") from None
    except (TypeError, RuntimeError) as error:  # what is no array knows why, such as a tensor
        reason = " ".join(str(error).split())[:80]
        raise InputError(f"{name} is no array: {reason}") from None
