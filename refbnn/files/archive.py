"""Read the members of a zip file from an unknown source, within limits.

Checkpoints and the files of `torch.save` and `numpy.savez` are zip files (PKWARE, .ZIP File Format
Specification 6.3). A zip file may state any size for its members, hold a member twice, or let
members overlap, so that a few kilobytes unpack to gigabytes. The sizes that the file's directory
states are checked before reading; `zipfile` never unpacks more than stated and checks each sum.
Compressed members may together be 20 times as long as the file, or 34 MB if that is more: weights
hardly shrink, but a small file of equal scales does.
"""

from __future__ import annotations

import contextlib
import struct
import zipfile
import zlib
from pathlib import Path

from refbnn.errors import InputError, cut, quoted

LARGEST = 2**31  # bytes of a file, and of its unpacked members
_MOST_UNPACKED, _ALWAYS_UNPACKED = 20, 2**25  # times the bytes of the file; bytes
MOST_MEMBERS = 100_000

_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,  # also text that is not UTF-8
    OverflowError,
    NotImplementedError,  # a compression or version that zipfile does not know
    RuntimeError,  # an encrypted member
)


def unpacked_limit(length: int) -> int:
    """Most bytes that a compressed file of this length may unpack to."""
    return min(LARGEST, max(_MOST_UNPACKED * length, _ALWAYS_UNPACKED))


def read_members(path: Path, expected: str, *, stored: bool) -> dict[str, bytes]:
    """Content of every member by name, in the file's order.

    `expected` says in errors what the file should be. With `stored`, members must be uncompressed;
    together they are then no longer than the file.

    Raises
    ------
    InputError
        If the file is absent, is no whole zip file, repeats a name, or exceeds a limit.
    """
    if not path.is_file():
        raise InputError(f"{path}: not a file; expected {expected}")
    try:
        length = path.stat().st_size
        most = length if stored else unpacked_limit(length)
        if length > LARGEST:
            raise InputError(f"{path}: {length} bytes; expected at most {LARGEST}")
        with contextlib.closing(zipfile.ZipFile(path)) as archive:
            infos = archive.infolist()
            _check(path, infos, length, most, stored)
            return {info.filename: archive.read(info) for info in infos}
    except InputError:
        raise
    except _BROKEN as error:
        raise InputError(f"{path}: cannot be read ({cut(error)}); expected {expected}") from None


def _check(path: Path, infos: list[zipfile.ZipInfo], length: int, most: int, stored: bool) -> None:
    """InputError unless the directory of a file of that length is plain and moderate."""
    if len(infos) > MOST_MEMBERS:
        raise InputError(f"{path}: {len(infos)} members; expected at most {MOST_MEMBERS}")
    names = set()
    for info in infos:
        if info.filename in names:
            raise InputError(f"{path}: holds {quoted(info.filename)} twice; expected it once")
        names.add(info.filename)
        if stored and info.compress_type != zipfile.ZIP_STORED:
            raise InputError(f"{path}: {quoted(info.filename)} is compressed; expected it stored")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(
                f"{path}: {quoted(info.filename)} is compressed by method {info.compress_type}; "
                "expected it stored or deflated, as numpy.savez does"
            )
    packed = sum(info.compress_size for info in infos)  # `zipfile` asks for memory for each
    if packed > length:
        raise InputError(f"{path}: members of {packed} packed bytes; expected at most {length}")
    claimed = sum(info.file_size for info in infos)
    if claimed > most:
        raise InputError(f"{path}: members of {claimed} bytes together; expected at most {most}")
