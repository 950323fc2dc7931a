"""Write files whole or not at all.

The content goes to a temporary file beside the target, is forced to the disk (fsync), and only
then takes the target's name (rename, which is atomic by POSIX); then the folder is forced to the
disk. So neither a kill nor a loss of power leaves half a file under the target's name.

The temporary name depends on the target's name alone. The next write reuses the temporary file of a
killed one, so that a run that is killed and resumed many times leaves at most one. Two processes
that write one target at the same time wait for each other, by a lock (flock) that ends with the
process that holds it; the last one wins. Without such locks in the system or the file system, two
processes need different targets.
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
    """Yield an empty temporary file that takes the target's name when the block ends well.

    It has the target's suffix. After an error it is removed, and the old file stays. Links are
    followed; a target that is no regular file, such as a pipe, is written directly.

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
    """Hidden name beside the target: the start of its name, a digest of all of it, its suffix.

    It is never too long for a file system that allows the target's name.
    """
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
    return path.with_name(f".{path.stem[:40]}-{digest}{path.suffix}")


def _opened(temporary: Path) -> int:
    """Open, lock and empty the temporary file; its handle."""
    while True:
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if sys.platform != "win32":
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(handle, fcntl.LOCK_EX)
            # During the wait, the file may have become the target, or have been removed.
            if temporary.exists() and os.path.samestat(os.fstat(handle), os.stat(temporary)):
                os.ftruncate(handle, 0)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    """Force a folder's names to the disk, if the system can; the file is whole without it."""
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
    """Raise InputError unless the file can be written; to be called before long work."""
    path = Path(target)
    if not path.parent.is_dir():
        raise InputError(f"{target}: not writable, as there is no folder {path.parent}")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"{target}: not writable; expected a file to write to")


def umask() -> int:
    """Permission mask of the process, which can be read only by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
