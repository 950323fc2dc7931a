"""Read arrays in NumPy's own format from an unknown source.

    byte 0x93, NUMPY, version 1.0, length of the header, header, numbers

NumPy evaluates the header as a Python literal, which fails in many ways on hostile files, and
allocates memory for any shape it states. Here the header is matched as text, since NumPy writes one
form alone for plain arrays. As many bytes as it states must follow; no object is unpickled. A size
of 0 does not hide an absurd one beside it, which NumPy could not shape.

Source: NumPy, numpy/lib/format.py.
"""

from __future__ import annotations

import math
import re

import numpy as np

from refbnn.errors import InputError, cut

_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(..){'descr': '(\|[biu]1|[<>](?:[iu][248]|f[248]))', "
    rb"'fortran_order': (False|True), "
    rb"'shape': \(((?:\d{1,19},|\d{1,19}(?:, \d{1,19}){1,31})?)\), } *\n",
    re.DOTALL,
)
_MOST_ENTRIES = 2**40  # of the sizes that are not 0


def parse(raw: bytes, source: str) -> np.ndarray:
    """Read-only array from all bytes of a .npy file or member; `source` names it in errors.

    InputError unless they are a whole plain array, version 1, of integers, floats of up to 64 bits,
    or booleans.
    """
    match = _HEADER.match(raw)
    if match is None or match.end() != 10 + int.from_bytes(match[1], "little"):
        raise InputError(
            f"{source}: expected a plain array of numbers in NumPy's format, version 1"
        )
    shape = tuple(int(n) for n in match[4].decode().split(",") if n)
    dtype = np.dtype(match[2].decode())
    length = len(raw) - match.end()
    absurd = math.prod(max(size, 1) for size in shape) > _MOST_ENTRIES
    if absurd or length != math.prod(shape) * dtype.itemsize:
        raise InputError(
            f"{source}: {length} bytes do not make {dtype.str} {cut(shape)}; expected all"
        )
    if dtype.kind == "b" and raw[match.end() :].strip(b"\0\1"):
        raise InputError(f"{source}: a boolean that is neither 0 nor 1; expected booleans")
    numbers = np.frombuffer(raw, dtype, offset=match.end())
    if match[3] == b"True":  # by columns
        return numbers.reshape(shape[::-1]).T
    return numbers.reshape(shape)
