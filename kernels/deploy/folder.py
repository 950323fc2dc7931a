"""Write a folder of files whole or not at all.

The files go to a temporary folder beside it, which then takes its name. A run that stops before
leaves what was there, and at most a hidden folder beside it. A folder that already has files is
replaced only if they are an earlier run's: naming another folder by mistake loses nothing.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from refbnn.errors import InputError
from refbnn.files.atomic import umask


def require_replaceable(folder: Path, names: Collection[str]) -> None:
    """Raise InputError unless the folder can be made, or holds only files of these names."""
    if folder.is_dir():
        others = sorted(f.name for f in folder.iterdir() if f.name not in names or f.is_dir())
        if others:
            raise InputError(
                f"{folder} holds {others[0]}; expected a new folder, or one that an earlier run of "
                "the same name wrote"
            )
    elif folder.exists() or folder.is_symlink():
        raise InputError(f"{folder} is not a folder; expected a folder to write to")
    parent = Path(os.path.realpath(folder)).parent
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise InputError(f"{folder} is not writable; expected a folder to write to")


def write_folder(folder: Path, files: Mapping[str, bytes], names: Collection[str]) -> None:
    """Write files into a folder of their own, in place of files of these names.

    Raises
    ------
    InputError
        If it cannot be written, or holds other files.
    """
    require_replaceable(folder, names)
    target = Path(os.path.realpath(folder))
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name[:40]}-", dir=target.parent) as work:
            new, old = Path(work) / "new", Path(work) / "old"
            new.mkdir()
            for name, content in files.items():
                (new / name).write_bytes(content)
            new.chmod(0o777 & ~umask())
            if target.exists():
                target.rename(old)
            try:
                new.rename(target)
            except BaseException:
                if old.exists():
                    old.rename(target)
                raise
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written: {error.strerror or error}; expected a folder to write to"
        ) from None
