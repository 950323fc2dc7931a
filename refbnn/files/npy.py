"""Arrays in NumPy's own format, read from bytes that somebody else wrote.

    byte 0x93, NUMPY, version 1.0, length of the header, header, numbers

NumPy evaluates the header as a Python literal, which fails in many ways on hostile files, and takes
memory for whatever shape it states. Here the header is matched as text: what NumPy writes for plain
arrays has one form alone. The bytes that follow must be as many as it says; no object is unpickled.

Source: NumPy, numpy/lib/format.py.
"""

from __future__ import annotations

import math
import re

import numpy as np

from refbnn.errors import InputError

_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(..){'descr': '([<>|][biuf]\d{1,2})', 'fortran_order': (False|True), "
    rb"'shape': \(([\d, ]{0,600})\), } *\n",
    re.DOTALL,
)
_MOST_DIMENSIONS = 32


def parse(raw: bytes, source: str) -> np.ndarray:
    """The array of these bytes, not writable.

    Parameters
    ----------
    raw : bytes
        All of a .npy file, or of a member of an .npz file.
    source : str
        Names it in errors.

    Raises
    ------
    InputError
        If they are not a whole plain array of numbers or booleans, version 1.
    """
    match = _HEADER.match(raw)
    if match is None or match.end() != 10 + int.from_bytes(match[1], "little"):
        raise InputError(f"{source}: expected a plain array in NumPy's format")
    shape = tuple(int(n) for n in match[4].decode().split(",") if n.strip())
    try:
        dtype = np.dtype(match[2].decode())
    except TypeError:
        raise InputError(f"{source}: type {match[2].decode()}; expected a number's") from None
    length = len(raw) - match.end()
    if len(shape) > _MOST_DIMENSIONS or length != math.prod(shape) * dtype.itemsize:
        raise InputError(
            f"{source}: {length} bytes of {dtype.str} {shape}; expected as many as that"
        )
    numbers = np.frombuffer(raw, dtype, offset=match.end())
    if match[3] == b"True":  # by columns
        return numbers.reshape(shape[::-1]).T
    return numbers.reshape(shape)
