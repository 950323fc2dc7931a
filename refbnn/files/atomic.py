"""Files written whole or not at all.

The content goes to a temporary file beside the target, is forced to the disk (fsync), and only
then takes the target's name (rename, which POSIX makes atomic); then the folder is forced to the
disk. So neither a kill nor a loss of power leaves half a file under the target's name.

The temporary name follows from the target's. What a killed write leaves behind is taken over by the
next one, so that a run that is killed and resumed many times leaves one such file at most. Two
processes that write one target at the same time wait for each other, by a lock (flock) that ends
with the process that holds it, and the last one wins. Where the system or the file system has no
such locks, they are not told apart: give each a target of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from refbnn.errors import InputError

if sys.platform != "win32":
    import fcntl


@contextlib.contextmanager
def written_atomically(target: str | Path) -> Iterator[Path]:
    """Temporary file, empty, that takes the target's name when the block ends without an error.

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
        temporary = temporary_name(path)
        handle = _opened(temporary)
        try:
            yield temporary
            os.fsync(handle)
            os.chmod(temporary, 0o666 & ~umask())  # private until now
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)  # and with it the lock
        _sync_folder(path.parent)
    except OSError as error:
        raise InputError(
            f"{target}: {error.strerror or error}; expected a file to write to"
        ) from None


def temporary_name(path: Path) -> Path:
    """Hidden, beside the target, of its suffix, and told from those of other targets by a digest.

    The beginning of the target's name is kept for whoever finds it; together it is never longer
    than a file system allows where the target's name is not.
    """
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
    return path.with_name(f".{path.stem[:40]}-{digest}{path.suffix}")


def _opened(temporary: Path) -> int:
    """Handle of the empty temporary file, locked where there are locks."""
    while True:
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if sys.platform != "win32":
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(handle, fcntl.LOCK_EX)
            # While this waited, the file may have become the target, or have been removed.
            if temporary.exists() and os.path.samestat(os.fstat(handle), os.stat(temporary)):
                os.ftruncate(handle, 0)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    """Force a folder's names to the disk, where the system can: what is written is whole anyway."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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
