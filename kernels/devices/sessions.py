"""Sessions on boards: asked for at a tracker, opened again once they are lost.

A board serves one session at a time. All kernels of this process that are on one `Board` share one,
which ends with the last of them.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

from tvm.rpc import RPCSession, TrackerSession, connect_tracker

from kernels.devices.board import Board
from refbnn.errors import InputError

_log = logging.getLogger(__name__)
_ANSWER = 10.0  # seconds for a tracker to answer; across the world it takes less than one
_POLL = 0.2  # seconds between two questions whether a board is free


class Line:
    """To a board: a session, opened when there is none.

    Parameters
    ----------
    board : Board
    """

    def __init__(self, board: Board):
        self.board = board
        self.n_uploads = 0
        self._session: RPCSession | None = None

    def session(self) -> RPCSession:
        """The session as it stands, or a new one, on any of the boards.

        Raises
        ------
        InputError
            If the tracker does not answer, has no such board, or none is free for as long as a
            session may last.
        """
        if self._session is None:
            self._session = _requested(self.board)
        return self._session

    def upload(self, library: bytes) -> str:
        """Put a library where the session's server finds it; its name there."""
        self.n_uploads += 1
        name = f"kernel{self.n_uploads}.so"
        self.session().upload(bytearray(library), name)
        return name

    def drop(self) -> None:
        """Forget a session that is lost."""
        self._session = None


_lines: WeakValueDictionary[Board, Line] = WeakValueDictionary()


def line(board: Board) -> Line:
    """The line to that board, new if there is none."""
    found = _lines.get(board)
    if found is None:
        found = _lines[board] = Line(board)
    return found


def _requested(board: Board) -> RPCSession:
    """A session on one of the boards."""
    try:
        with _patience(_ANSWER):
            socket.create_connection(board.address).close()  # TVM would try again for a minute
            tracker = connect_tracker(*board.address)
    except (OSError, RuntimeError) as error:  # the latter: whatever is there is no tracker
        raise InputError(
            f"tracker {board.tracker}: {_words(error)}; expected one, started by: "
            "python -m tvm.exec.rpc_tracker"
        ) from None
    try:
        _wait(tracker, board)
        return tracker.request(board.key, session_timeout=board.timeout, max_retry=1)
    except (OSError, RuntimeError) as error:
        raise ConnectionError(_words(error)) from None
    finally:
        tracker.close()


def _wait(tracker: TrackerSession, board: Board) -> None:
    """Wait until one of the boards is free."""
    end = None
    while True:
        summary = tracker.summary()
        if summary["queue_info"].get(board.key, {}).get("free"):
            return
        keys = {server["key"].removeprefix("server:") for server in summary["server_info"]}
        if board.key not in keys:
            known = ", ".join(sorted(keys)) or "none: no board has a server that runs"
            raise InputError(
                f"tracker {board.tracker}: key {board.key!r} is unknown; expected one of: {known}"
            )
        if end is None:
            end = time.monotonic() + board.timeout
            _log.warning("%s: busy; waiting for up to %g s", board, board.timeout)
        if time.monotonic() > end:
            raise InputError(f"{board}: busy for {board.timeout:g} s; expected a free one")
        time.sleep(_POLL)


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """So long at most for every answer at sockets that are made meanwhile."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _words(error: Exception) -> str:
    """The last line of an error, which says what happened."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
