"""Locks of kernels, which a fork leaves free in the child, and what is made once by one thread.

A child of a fork has one thread, the one that forked. Had another thread held a lock at that
moment, as the calls of a web service do, nobody in the child would ever release it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")

_locks: WeakSet[Lock] = WeakSet()


def lock() -> Lock:
    """Make a lock."""
    made = Lock()
    _locks.add(made)
    return made


@dataclass(eq=False)
class Once(Generic[T]):
    """A function whose first call alone computes, in whichever thread it comes.

    Calls at the same time wait for it, and all return what it made. After a call that fails, the
    next one tries again.
    """

    make: Callable[[], T]
    _made: list[T] = field(default_factory=list, init=False)
    _lock: Lock = field(default_factory=lock, init=False, repr=False)

    def __call__(self) -> T:
        """Return what the function makes."""
        with self._lock:
            if not self._made:
                self._made.append(self.make())
            return self._made[0]


def _release_all() -> None:
    for held in list(_locks):
        held._at_fork_reinit()  # type: ignore[attr-defined]  # as the standard library's modules do


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_all)
