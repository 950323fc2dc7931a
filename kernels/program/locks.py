"""Locks of kernels, which a fork leaves free in the child.

A child of a fork has one thread, the one that forked. Had another thread held a lock at that
moment, as the calls of a web service do, nobody in the child would ever release it.
"""

from __future__ import annotations

import os
from threading import Lock
from weakref import WeakSet

_locks: WeakSet[Lock] = WeakSet()


def lock() -> Lock:
    """Make a lock."""
    made = Lock()
    _locks.add(made)
    return made


def _release_all() -> None:
    for held in list(_locks):
        held._at_fork_reinit()  # type: ignore[attr-defined]  # as the standard library's modules do


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_all)
