"""The user's cache of this library."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """Folder for what can be made or fetched again; it need not exist.

    `$XDG_CACHE_HOME/refbnn`, by default `~/.cache/refbnn`; on macOS `~/Library/Caches/refbnn`.
    """
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "refbnn"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refbnn"
