"""Members of a zip file that somebody else wrote, read within limits.

Checkpoints, and what `torch.save` and `numpy.savez` write, are zip files (PKWARE, .ZIP File Format
Specification 6.3). A zip file may claim any size for what it holds, hold a member twice, or let
members overlap, so that a few kilobytes unpack to gigabytes. What is read here is limited
beforehand by the sizes that the file's directory states, and `zipfile` never unpacks more than
stated and checks each sum.
"""

from __future__ import annotations

import contextlib
import struct
import zipfile
import zlib
from pathlib import Path

from refbnn.errors import InputError

LARGEST = 2**31  # bytes of a file, and of what it unpacks to
MOST_MEMBERS = 100_000

_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,  # also of text that is no UTF-8
    OverflowError,
    NotImplementedError,  # a compression or version that zipfile does not know
    RuntimeError,  # an encrypted member
)


def read_members(path: Path, expected: str, *, stored: bool) -> dict[str, bytes]:
    """Content of every member, by name, in the file's order.

    Parameters
    ----------
    path : Path
    expected : str
        What the file should be, for errors.
    stored : bool
        Whether members must lie there uncompressed. Together they are then not longer than the
        file.

    Raises
    ------
    InputError
        If the file is absent, is no whole zip file, repeats a name, or exceeds a limit.
    """
    if not path.is_file():
        raise InputError(f"{path}: not a file; expected {expected}")
    try:
        length = path.stat().st_size
        most = length if stored else LARGEST
        if length > LARGEST:
            raise InputError(f"{path}: {length} bytes; expected at most {LARGEST}")
        with contextlib.closing(zipfile.ZipFile(path)) as archive:
            infos = archive.infolist()
            _check(path, infos, most, stored)
            return {info.filename: archive.read(info) for info in infos}
    except InputError:
        raise
    except _BROKEN as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be read ({reason}); expected {expected}") from None


def _check(path: Path, infos: list[zipfile.ZipInfo], most: int, stored: bool) -> None:
    if len(infos) > MOST_MEMBERS:
        raise InputError(f"{path}: {len(infos)} members; expected at most {MOST_MEMBERS}")
    seen = set()
    for info in infos:
        if info.filename in seen:
            raise InputError(f"{path}: holds {info.filename[:80]!r} twice; expected it once")
        seen.add(info.filename)
        if stored and info.compress_type != zipfile.ZIP_STORED:
            raise InputError(f"{path}: {info.filename[:80]!r} is compressed; expected it stored")
    claimed = sum(info.file_size for info in infos)
    if claimed > most:
        raise InputError(f"{path}: members of {claimed} bytes together; expected at most {most}")
