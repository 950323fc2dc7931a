"""Keep freed memory in the process: a training step frees and asks for the same arrays each time.

The C library of Linux returns freed blocks of some megabytes to the system, which has to clear
every page again: about a fifth of the time of a LeNet-5 step. Two settings of glibc (`mallopt`)
keep them: blocks below the threshold come from the heap, and the heap is not trimmed while less
than 1 GiB of it is free. They hold for the whole process, so commands set them, not the library.
Other systems are left as they are.

Older glibc refuses a threshold above half the size of a thread's heap, 32 MiB on 64-bit machines:
larger blocks still return to the system there.
"""

from __future__ import annotations

import ctypes
import functools
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT = 1 << 30  # bytes
_KEPT_BY_OLDER = 32 << 20  # bytes


@functools.cache
def keep_freed_memory() -> None:
    """Set both thresholds, once a process; no effect where the C library does not have them."""
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    if not mallopt(_M_MMAP_THRESHOLD, _KEPT):  # 0: refused, and nothing changed
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BY_OLDER)
    mallopt(_M_TRIM_THRESHOLD, _KEPT)
