"""Interruption: signals and standard error while Meta Schedule's processes work."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tvm.support.popen_pool import PopenPoolExecutor


@contextmanager
def forward_signals() -> Iterator[None]:
    """Raise from this block what signal handlers raise, KeyboardInterrupt most often.

    An exception raised in Python code that TVM calls, such as the builder or the runner, would
    otherwise leave TVM as a nameless RuntimeError, or count as the failure of a candidate.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread alone
        return
    raised: list[BaseException] = []
    before = {}

    def noting(handler):
        def handle(number, frame):
            try:
                handler(number, frame)
            except BaseException as error:
                raised.append(error)
                sys.unraisablehook = _without_pools(sys.unraisablehook)
                raise

        return handle

    for number in (signal.SIGINT, signal.SIGTERM):
        if callable(handler := signal.getsignal(number)):
            before[number] = handler
            signal.signal(number, noting(handler))
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


def _without_pools(hook):
    """Make the hook silent about interrupted process pools.

    The garbage collector may delete a pool in the pool's own thread, which cannot wait for itself
    and reports that.
    """

    def filtered(unraisable):
        if unraisable.object is not PopenPoolExecutor.__del__:
            hook(unraisable)

    return filtered


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Discard standard error in this block; processes that start in it discard it for good.

    A worker that is interrupted while it imports, or dies of a candidate, would print pages.
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


def interrupt_ignorer() -> Callable[[], object]:
    """Make a function that lets a worker process ignore an interrupt from the keyboard.

    This process gets the interrupt too, and ends its workers. The function is nested, so that it
    is sent by value: a worker need not import this package, which takes a second.
    """

    def ignore_interrupt() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    return ignore_interrupt
