"""IDX files: the array format in which MNIST and Fashion-MNIST are published.

    offset  size  meaning
    0       2     zero
    2       1     type code: 08 uint8, 09 int8, 0B int16, 0C int32, 0D float32, 0E float64
    3       1     d, the number of dimensions
    4       4 d   the d sizes, unsigned 32-bit
    4+4d          the values, last index fastest

All numbers are big-endian. A file may be compressed with gzip; that is recognised by its first two
bytes, never by its name.

Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits" (1998),
section "The IDX file format".

A file from outside is hostile until it is parsed: its header may claim any size, so nothing is
allocated because of a claim, and a claim of more than the file's bytes can unpack to is refused
(`refbnn.files.archive.unpacked_limit`: 20 times the compressed bytes, or 34 MB; MNIST's images
unpack to 5 times theirs). The payload is read in pieces of one mebibyte, and up to one byte past
the claim: that byte shows that a file is too long, and makes gzip verify its checksum.
"""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from refbnn.errors import InputError, cut
from refbnn.files.archive import unpacked_limit
from refbnn.files.atomic import written_atomically

TYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
LARGEST = 2**31  # bytes of payload; the whole of MNIST is 47 MB
MOST_DIMENSIONS = 32
_PIECE = 2**20


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an IDX file, plain or gzip-compressed, as a writable array of native byte order.

    Raises
    ------
    InputError
        The file is absent or unreadable, is not IDX, claims more than it can hold, more than 2 GiB
        or more than 32 dimensions, holds more or fewer bytes than its header claims, or is a broken
        gzip.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: not a file; expected an IDX file, plain or gzip")
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not compressed:
                return _parse(raw, path, LARGEST)
            limit = unpacked_limit(os.fstat(raw.fileno()).st_size)
            with gzip.GzipFile(fileobj=raw) as plain:
                return _parse(plain, path, limit)
    except (EOFError, zlib.error, OSError) as error:
        reason = cut(error)
        raise InputError(f"{path}: cannot be read ({reason}); expected a whole IDX file") from error


def write_idx(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write an array as a gzip-compressed IDX file, whole or not at all; replace one that exists.

    The array has one to 32 dimensions and is of type uint8, int8, int16, int32, float32 or float64,
    in any byte order. The same array gives the same bytes wherever the same zlib compresses them:
    the gzip header holds neither time nor name.

    Raises
    ------
    InputError
        IDX has no code for the type or the dimensions, or the file cannot be written.
    """
    path, array = Path(path), np.asarray(array)
    big_endian = array.dtype.newbyteorder(">")
    code = next((code for code, dtype in TYPES.items() if dtype == big_endian), None)
    if code is None:
        names = ", ".join(dtype.newbyteorder("=").name for dtype in TYPES.values())
        raise InputError(f"{path}: IDX cannot hold {array.dtype}; expected one of {names}")
    if not 1 <= array.ndim <= MOST_DIMENSIONS or array.nbytes > LARGEST:
        raise InputError(
            f"{path}: shape {array.shape} does not fit; "
            f"expected 1 to {MOST_DIMENSIONS} dimensions and at most {LARGEST} bytes"
        )
    header = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    with (
        written_atomically(path) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=raw, mtime=0) as packed,
    ):
        packed.write(header + array.astype(big_endian).tobytes())


def _parse(stream: IO[bytes] | gzip.GzipFile, path: Path, most: int) -> np.ndarray:
    """Array of a stream that can hold `most` bytes."""
    magic = _read(stream, 4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise InputError(
            f"{path}: begins with {magic.hex() or 'nothing'}; "
            "expected an IDX header (two zero bytes, type, dimensions)"
        )
    code, ndim = magic[2], magic[3]
    if code not in TYPES:
        known = ", ".join(f"{known:02x}" for known in TYPES)
        raise InputError(f"{path}: IDX type code {code:02x}; expected one of {known}")
    if not 1 <= ndim <= MOST_DIMENSIONS:
        raise InputError(f"{path}: {ndim} dimensions; expected 1 to {MOST_DIMENSIONS}")
    sizes = _read(stream, 4 * ndim)
    if len(sizes) < 4 * ndim:
        raise InputError(f"{path}: ends inside its header; expected {ndim} sizes of 4 bytes")
    shape, dtype = struct.unpack(f">{ndim}I", sizes), TYPES[code]
    # A size of 0 must not hide an absurd one beside it: NumPy cannot shape such an array.
    if math.prod(max(size, 1) for size in shape) * dtype.itemsize > LARGEST:
        raise InputError(f"{path}: claims the shape {cut(shape)}; expected at most {LARGEST} bytes")
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > most:
        raise InputError(
            f"{path}: claims {claimed} bytes of values; expected at most {most} in a file of its "
            "size (is it whole?)"
        )
    payload = _read(stream, claimed + 1)
    if len(payload) != claimed:
        held = "more" if len(payload) > claimed else f"only {len(payload)}"
        raise InputError(
            f"{path}: holds {held} bytes of values; "
            f"expected {claimed} for shape {cut(shape)} of {dtype.newbyteorder('=').name}"
        )
    return np.frombuffer(payload, dtype).astype(dtype.newbyteorder("="), copy=False).reshape(shape)


def _read(stream: IO[bytes] | gzip.GzipFile, most: int) -> bytearray:
    """Read up to `most` bytes, allocating only for what is really there."""
    held = bytearray()
    while len(held) < most and (piece := stream.read(min(_PIECE, most - len(held)))):
        held += piece
    return held
