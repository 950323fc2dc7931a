"""Names: what C functions, constants and files of a network begin with."""

from __future__ import annotations

import re
from pathlib import Path

from refbnn.errors import InputError

PROGRAM = "check"  # what the command makes of main.c
# Files of their own, and libraries that a linker looks for by itself: libNAME.a would hide these.
_TAKEN = ("main", PROGRAM, "c", "m", "gcc", "gcc_s", "gcc_eh", "compiler_rt")


def require_name(name: str) -> None:
    """Raise InputError for a name that cannot begin those of C functions and files."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name):
        raise InputError(
            f"name {name!r}; expected letters, digits and _, a letter first, 63 at most"
        )
    if name in _TAKEN:
        raise InputError(f"name {name!r} is taken; expected none of: {', '.join(_TAKEN)}")


def name_after(file: Path) -> str:
    """A name after a file's: other characters become _, a letter comes first; none taken."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", file.stem)[:50]
    return name if name[:1].isalpha() and name not in _TAKEN else f"net_{name.lstrip('_')}"
