"""Write files whole or not at all.

The content goes to a temporary file beside the target, is forced to the disk (fsync), and only
then takes the target's name (rename, which is atomic by POSIX); then the folder is forced to the
disk. So neither a kill nor a loss of power leaves half a file under the target's name.

The temporary file is hidden, has a random name, is created exclusively and never through a link. A
process that writes holds a lock on it (flock), which ends with the process. The next write of the
same target removes what killed ones left: regular files of that target's temporary names, of this
user, that nobody has locked. Two processes that write one target at the same time do not disturb
each other; the last one wins. Without such locks in the system or the file system, nothing is
removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from refbnn.errors import InputError, cut, quoted

if sys.platform != "win32":
    import fcntl

_EXPECTED = "expected a file to write to"


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
    path = resolved(target)
    try:
        if path.exists() and not path.is_file():
            yield Path(target)
            return
        remove_leftovers(path)
        handle, temporary = _created(path)
        try:
            yield temporary
            if not os.path.samestat(os.fstat(handle), os.lstat(temporary)):
                raise OSError("another file took the place of the temporary one")
            os.fsync(handle)
            os.chmod(temporary, 0o666 & ~umask())  # private until now
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)  # and with it the lock
        sync_folder(path.parent)
    except OSError as error:
        raise InputError(f"{target}: {error.strerror or error}; {_EXPECTED}") from None


def resolved(target: str | Path) -> Path:
    """Absolute path without links; InputError if the system cannot have such a name."""
    try:
        return Path(os.path.realpath(target))
    except ValueError:  # a NUL byte, or text that the file system's encoding does not have
        raise InputError(f"{quoted(os.fspath(target))}: no name of a file; {_EXPECTED}") from None


def temporary_names(path: Path) -> tuple[str, str]:
    """Start and end of the temporary names beside a target; random letters stand between them.

    The start holds the start of the target's name and a digest of all of it. A name is never too
    long for a file system that allows the target's name.
    """
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
    return f".{path.stem[:40]}-{digest}-", path.suffix


def _created(path: Path) -> tuple[int, Path]:
    """Create and lock a temporary file; its handle and path."""
    start, end = temporary_names(path)
    while True:
        # mkstemp creates exclusively, without following a link, readable for the owner alone.
        handle, name = tempfile.mkstemp(end, start, path.parent)
        lock(handle, wait=True)
        if os.path.lexists(name):
            return handle, Path(name)
        os.close(handle)  # before it was locked, another process took it for a leftover


def lock(handle: int, *, wait: bool) -> bool:
    """Lock an open file or folder for this process; False if another one has locked it.

    Where the system or the file system has no locks, this returns False too.
    """
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def leftovers(path: Path, folders: bool = False) -> Iterator[Path]:
    """Temporary files, or folders, that killed writes of this target left; each is locked.

    They are this user's own and no links. The lock is held until the next one is asked for.
    """
    start, end = temporary_names(path)
    pattern = re.compile(rf"{re.escape(start)}[a-z0-9_]{{8}}{re.escape(end)}")
    is_kind = stat.S_ISDIR if folders else stat.S_ISREG
    try:
        names = [name for name in os.listdir(path.parent) if pattern.fullmatch(name)]
    except OSError:
        return
    for name in names:
        found = path.with_name(name)
        try:
            # Without waiting, should a pipe have this name.
            flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
            handle = os.open(found, flags)
        except OSError:
            continue
        try:
            status = os.fstat(handle)
            own = sys.platform != "win32" and status.st_uid == os.geteuid()
            if own and is_kind(status.st_mode) and lock(handle, wait=False):
                yield found
        finally:
            os.close(handle)


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files that killed writes of this target left."""
    for found in leftovers(path):
        with contextlib.suppress(OSError):
            found.unlink()


def sync_folder(folder: Path) -> None:
    """Force a folder's names to the disk, if the system can; the files are whole without it."""
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
    """Raise InputError unless the file can be written; to be called before long work.

    A nameless file is created in the folder for this: permissions alone do not tell of a file
    system that is read-only or full.
    """
    path = resolved(target)
    if not path.parent.is_dir():
        raise InputError(f"{target}: not writable, as there is no folder {Path(target).parent}")
    if path.is_dir() or (path.exists() and not os.access(path, os.W_OK)):
        raise InputError(f"{target}: not writable; {_EXPECTED}")
    if (not path.exists() or path.is_file()) and (reason := refusal(path.parent)):
        raise InputError(f"{target}: not writable ({reason}); {_EXPECTED}")


def refusal(folder: Path) -> str:
    """Why no file can be created in a folder, in the system's words; "" if one can."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return cut(error.strerror or error)
    return ""


def umask() -> int:
    """Permission mask of the process, which can be read only by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
