"""Memory of a training step: kept by the process, not returned to the system and asked for again.

A step makes and frees the same arrays of some megabytes each time. The C library of Linux hands
freed memory back to the system, which then has to clear every page anew: about a fifth of the time
of a step of LeNet-5. Two of its settings (`mallopt`, in glibc) keep it: blocks below the threshold
come from the heap, and the heap is not trimmed while less than 1 GiB of it is free. Elsewhere
nothing is changed.

Older glibc refuses a threshold of blocks above half the size of a thread's heap, 32 MiB on 64-bit
machines: there larger blocks go back to the system still.
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
