"""Write a folder of files whole or not at all.

The files go to a temporary folder beside it, which is forced to the disk and then takes its name. A
folder that is there already changes places with the new one in one step (Linux: renameat2 with
RENAME_EXCHANGE), so that a run that is killed at any moment leaves either the old one or the new
one. Where the system cannot do so, the old folder is moved aside first; if a run is killed between
the two steps, the next one puts it back. The next run also removes hidden folders that killed runs
left, see `refbnn.files.atomic`.

A folder that already has files is replaced only if they are an earlier run's: naming another folder
by mistake loses nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from refbnn.errors import InputError, cut
from refbnn.files.atomic import (
    leftovers,
    lock,
    refusal,
    resolved,
    sync_folder,
    temporary_names,
    umask,
)

_EXPECTED = "expected a folder to write to"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # Linux, fcntl.h and fs.h


def require_replaceable(folder: Path, names: Collection[str]) -> None:
    """Raise InputError unless the folder can be made, or holds only files of these names."""
    target = resolved(folder)
    if folder.is_dir():
        others = sorted(f.name for f in folder.iterdir() if f.name not in names or f.is_dir())
        if others:
            raise InputError(
                f"{folder} holds {cut(others[0])}; expected a new folder, or one that an earlier "
                "run of the same name wrote"
            )
    elif folder.exists() or folder.is_symlink():
        raise InputError(f"{folder} is not a folder; {_EXPECTED}")
    if not target.parent.is_dir():
        raise InputError(f"{folder} is not writable, as there is no {target.parent}; {_EXPECTED}")
    if reason := refusal(target.parent):
        raise InputError(f"{folder} is not writable ({reason}); {_EXPECTED}")


def write_folder(folder: Path, files: Mapping[str, bytes], names: Collection[str]) -> None:
    """Write files into a folder of their own, in place of files of these names.

    Raises
    ------
    InputError
        If it cannot be written, or holds other files.
    """
    target = resolved(folder)
    try:
        _clean_up(target)
        require_replaceable(folder, names)
        with _temporary_folder(target) as work:
            new = work / "new"
            new.mkdir()
            for name, content in files.items():
                with open(new / name, "xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            new.chmod(0o777 & ~umask())
            sync_folder(new)
            _switch(new, target, work / "old")
            sync_folder(target.parent)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written: {error.strerror or error}; {_EXPECTED}"
        ) from None


@contextlib.contextmanager
def _temporary_folder(target: Path) -> Iterator[Path]:
    """Yield a hidden folder beside the target, locked while it is used, then removed."""
    start, end = temporary_names(target)
    with tempfile.TemporaryDirectory(end, start, target.parent) as work:
        handle = os.open(work, os.O_RDONLY)
        try:
            lock(handle, wait=True)
            yield Path(work)
        finally:
            os.close(handle)


def _clean_up(target: Path) -> None:
    """Remove what killed runs left; put the old folder back if it had only been moved aside."""
    for found in leftovers(target, folders=True):
        if (found / "old").is_dir() and not target.exists():
            (found / "old").rename(target)
        shutil.rmtree(found, ignore_errors=True)


def _switch(new: Path, target: Path, old: Path) -> None:
    """Give the target's name to the new folder; an old one ends up elsewhere."""
    if target.exists():
        if _exchanged(new, target):
            return
        target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        if old.exists():
            old.rename(target)
        raise


def _exchanged(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; False if the system cannot."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)  # absent from some C libraries
    words = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return renameat2 is not None and renameat2(*words) == 0
