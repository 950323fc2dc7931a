"""Names: the prefix of a network's C functions, constants and files."""

from __future__ import annotations

import re
from pathlib import Path

from refbnn.errors import InputError, quoted

PROGRAM = "check"  # made of main.c by the command
# Other files of the folder, and libraries that a linker looks for by itself: libNAME.a would hide
# these.
_TAKEN = ("main", PROGRAM, "c", "m", "gcc", "gcc_s", "gcc_eh", "compiler_rt")


def require_name(name: str) -> None:
    """Raise InputError for a name that cannot be a prefix of C functions and files."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name):
        raise InputError(
            f"name {quoted(name)} is no prefix for C; expected letters, digits and _, first a "
            "letter, at most 63"
        )
    if name in _TAKEN:
        raise InputError(f"name {quoted(name)} is taken; expected none of: {', '.join(_TAKEN)}")


def name_after(file: Path) -> str:
    """Make a prefix from a file's name: other characters become _, and it begins with a letter."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", file.stem)[:50]
    return name if name[:1].isalpha() and name not in _TAKEN else f"net_{name.lstrip('_')}"
