"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from refbnn.errors import InputError


@contextlib.contextmanager
def written_atomically(target: str | Path) -> Iterator[Path]:
    """Temporary file that takes the target's name when the block ends without an error.

    After an error it is removed, and what was there stays. Links are followed; what is no regular
    file, such as a pipe, is written to itself and not replaced.

    Yields
    ------
    Path
        Where to write; it has the target's suffix.

    Raises
    ------
    InputError
        If the target cannot be written.
    """
    path = Path(os.path.realpath(target))
    try:
        if path.exists() and not path.is_file():
            yield Path(target)
            return
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem[:40]}-", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
        try:
            yield Path(name)
            os.chmod(name, 0o666 & ~umask())  # mkstemp makes files private
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{target}: {error.strerror or error}; expected a file to write to"
        ) from None


def write_text(target: str | Path, text: str) -> None:
    """Write a text file whole or not at all; InputError if it cannot be written."""
    with written_atomically(target) as path:
        path.write_text(text, encoding="utf-8")


def require_writable(target: str | Path) -> None:
    """InputError unless a file of that name could be written: asked before long work."""
    path = Path(target)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"{target}: not writable; expected a file to write to")


def umask() -> int:
    """The process's, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
