"""Read arrays in NumPy's own format from an unknown source.

    byte 0x93, NUMPY, version 1.0, length of the header, header, numbers

NumPy evaluates the header as a Python literal, which fails in many ways on hostile files, and
allocates memory for any shape it states. Here the header is matched as text, since NumPy writes one
form alone for plain arrays. As many bytes as it states must follow; no object is unpickled.

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
    """Read-only array from all bytes of a .npy file or member; `source` names it in errors.

    InputError unless they are a whole plain array of numbers or booleans, version 1.
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
        raise InputError(f"{source}: {length} bytes do not make {dtype.str} {shape}; expected all")
    numbers = np.frombuffer(raw, dtype, offset=match.end())
    if match[3] == b"True":  # by columns
        return numbers.reshape(shape[::-1]).T
    return numbers.reshape(shape)
