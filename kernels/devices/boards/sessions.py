"""Sessions on boards: requested from a tracker, opened again once they are lost.

A board serves one session at a time. All kernels of this process on one `Board` share a session,
which ends with the last of them.

The board's server ends a session at its timeout. A board that hangs does not, and TVM would wait
for its answer without end. This process therefore cuts the connection as well, a little later; a
caller that waits for it gets an error.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from weakref import WeakValueDictionary, finalize

from tvm.rpc import RPCSession, TrackerSession, connect_tracker

from kernels.devices.boards.board import Board
from kernels.devices.boards.deadlines import connections, cut, later, sockets
from refbnn.errors import InputError, quoted

_log = logging.getLogger(__name__)
_ANSWER = 10.0  # seconds for a tracker to answer; across the world it takes less than one
_POLL = 0.2  # seconds between two requests whether a board is free
_GRACE = 5.0  # seconds after a session's timeout, for the board's own message of its end


class Line:
    """Connection to a board: opens a session when there is none."""

    def __init__(self, board: Board):
        self.board = board
        self.lock = threading.Lock()  # held while a kernel uses the session: kernels share it
        self.process = os.getpid()
        self.n_uploads = 0
        self._session: RPCSession | None = None
        self._connections: list[socket.socket] = []

    @property
    def is_open(self) -> bool:
        """Whether there is a session, as far as this process knows."""
        return self._session is not None

    def session(self) -> RPCSession:
        """Return the open session, or open one on any free board.

        Raises
        ------
        InputError
            If the tracker does not answer, has no such board, or none becomes free within the
            duration of a session.
        ConnectionError
            If a free board does not answer.
        """
        if self._session is None:
            with closing(_connect(self.board)) as tracker:
                ports = _wait(tracker, self.board)
                self._session, self._connections = _open(tracker, self.board, ports)
        return self._session

    def upload(self, library: bytes) -> str:
        """Upload a library to the session's server, and return its name there."""
        self.n_uploads += 1
        name = f"kernel{self.n_uploads}.so"
        self.session().upload(bytearray(library), name)
        return name

    def drop(self) -> None:
        """Forget a lost session, and cut what is left of it, so that the board becomes free."""
        cut(self._connections)
        self._session = None


_lines: WeakValueDictionary[Board, Line] = WeakValueDictionary()
_lines_lock = threading.Lock()


def line(board: Board) -> Line:
    """Return this process's line to a board; make it if there is none."""
    with _lines_lock:
        found = _lines.get(board)
        if found is None or found.process != os.getpid():
            found = _lines[board] = Line(board)
        return found


def require_known(board: Board) -> None:
    """Raise InputError if the tracker does not answer or has no such board.

    Does nothing where a session is open already.
    """
    known = _lines.get(board)
    if known is None or not known.is_open:
        with closing(_connect(board)) as tracker:
            _ask(tracker, board)


def _connect(board: Board) -> TrackerSession:
    """Connect to the tracker."""
    try:
        with _timeout(_ANSWER):
            socket.create_connection(board.address).close()  # TVM would try again for a minute
            return connect_tracker(*board.address)
    except (OSError, RuntimeError, UnicodeError) as error:
        # RuntimeError: the server is no tracker. UnicodeError: the host's name is invalid.
        raise _no_answer(board, error) from None


def _no_answer(board: Board, error: Exception) -> InputError:
    return InputError(
        f"tracker {board.tracker}: {last_line(error)}; expected one, started by: "
        "python -m tvm.exec.rpc_tracker"
    )


def _open(
    tracker: TrackerSession, board: Board, ports: set[int]
) -> tuple[RPCSession, list[socket.socket]]:
    """Open a session; cut its connections, also returned, if it takes or lasts too long."""
    before = sockets().keys()
    opening = later(_ANSWER, lambda: cut(connections(before, ports)))
    try:
        session = tracker.request(board.key, session_timeout=board.timeout, max_retry=1)
    except (OSError, RuntimeError) as error:
        raise ConnectionError(last_line(error)) from None
    finally:
        opening.cancel()
    own = connections(before, ports)
    ending = later(board.timeout + _GRACE, lambda: cut(own))
    finalize(session, _cancel, ending, own)
    return session, own


def _cancel(timer: threading.Timer, own: list[socket.socket]) -> None:
    timer.cancel()
    for connection in own:
        connection.close()


def _ask(tracker: TrackerSession, board: Board) -> tuple[bool, set[int]]:
    """Ask the tracker whether one of the boards is free, and for the ports of all of them."""
    try:
        summary = tracker.summary()
    except (OSError, RuntimeError) as error:
        raise _no_answer(board, error) from None
    servers = [(s["key"].removeprefix("server:"), s["addr"]) for s in summary["server_info"]]
    keys = {key for key, _ in servers}
    if board.key not in keys:
        known = ", ".join(sorted(keys)) or "none: no board has a server that runs"
        raise InputError(
            f"tracker {board.tracker}: key {quoted(board.key)} is unknown; expected one of: {known}"
        )
    ports = {port for key, (_, port) in servers if key == board.key}
    return summary["queue_info"].get(board.key, {}).get("free", 0) > 0, ports


def _wait(tracker: TrackerSession, board: Board) -> set[int]:
    """Wait until one of the boards is free, and return the ports of all of them."""
    longest, end = board.timeout + _GRACE, None  # the duration of another client's session
    while True:
        free, ports = _ask(tracker, board)
        if free:
            return ports
        if end is None:
            end = time.monotonic() + longest
            _log.warning("%s: busy; waiting for up to %g s", board, longest)
        if time.monotonic() > end:
            raise InputError(f"{board}: busy for {longest:g} s; expected a free one")
        time.sleep(_POLL)


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """Set the timeout of sockets that are made within the context."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def last_line(error: Exception) -> str:
    """Last line of the message of an error, which in TVM's says what happened."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
