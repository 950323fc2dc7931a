"""Interruption: what a signal does while Meta Schedule's processes work."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tvm.support.popen_pool import PopenPoolExecutor


@contextmanager
def signals() -> Iterator[None]:
    """Let handlers of signals raise what they do, KeyboardInterrupt most often, through TVM.

    What is raised in Python that TVM calls, and so in the builder or the runner, would leave it as
    a nameless RuntimeError, or pass for the failure of a candidate.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread alone
        return
    raised: list[BaseException] = []
    before = {}

    def listening(handler):
        def handle(number, frame):
            try:
                handler(number, frame)
            except BaseException as error:
                raised.append(error)
                sys.unraisablehook = _no_pool(sys.unraisablehook)
                raise

        return handle

    for number in (signal.SIGINT, signal.SIGTERM):
        if callable(handler := signal.getsignal(number)):
            before[number] = handler
            signal.signal(number, listening(handler))
    try:
        yield
    except BaseException:
        if not raised:
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if raised:
        raise raised[0].with_traceback(None)


def _no_pool(hook):
    """The hook, but silent about a pool of processes that was cut off.

    Collected by a thread of its own, it cannot wait for that thread, and says so.
    """

    def silent(unraisable):
        if unraisable.object is not PopenPoolExecutor.__del__:
            hook(unraisable)

    return silent


@contextmanager
def silence() -> Iterator[None]:
    """Nothing on standard error from here, and for good from processes that start here.

    A worker that is interrupted while it still imports, or dies of a candidate, would print pages.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def ignoring() -> Callable[[], object]:
    """For processes of ours: a function that makes them deaf to an interrupt from the keyboard.

    It is ours, and ends them. A function within another is sent to them by value: they need not
    import this package, which takes a second.
    """

    def deaf() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    return deaf
