"""The user's cache of this library."""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """Folder for what can be made or fetched again; it need not exist.

    `$XDG_CACHE_HOME/refbnn`, by default `~/.cache/refbnn`; on macOS `~/Library/Caches/refbnn`. For
    a user without a home folder, as in some containers, this is no folder that can be made: nothing
    is cached.
    """
    named = os.environ.get("XDG_CACHE_HOME", "")
    if sys.platform != "darwin" and os.path.isabs(named):
        return Path(named) / "refbnn"
    try:
        home = Path.home()
    except RuntimeError:
        return Path(os.devnull) / "refbnn"
    within = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return home / within / "refbnn"


def compiled_folder() -> Path:
    """Existing folder for Numba's compiled loops, in the cache.

    Where nothing can be written there, a temporary folder of this process, which its end removes:
    Numba refuses to load functions that it can keep nowhere.
    """
    folder = cache_folder() / "numba"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    import shutil
    import tempfile

    # Private and of a random name: Numba unpickles what it finds there.
    temporary, process = tempfile.mkdtemp(prefix="refbnn-numba-"), os.getpid()

    def remove() -> None:
        if os.getpid() == process:  # not in a child
            shutil.rmtree(temporary, ignore_errors=True)

    atexit.register(remove)
    return Path(temporary)
