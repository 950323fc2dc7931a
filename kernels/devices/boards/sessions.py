"""Sessions on boards: asked for at a tracker, opened again once they are lost.

A board serves one session at a time. All kernels of this process that are on one `Board` share one,
which ends with the last of them.

A session lasts no longer than the board's timeout: its server sees to that. A board that has
stopped altogether does not, and TVM would wait for its answer without end. So the connection is cut
from here as well, a little later; what waits for it is then told that it is lost.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from weakref import WeakValueDictionary, finalize

from tvm.rpc import RPCSession, TrackerSession, connect_tracker

from kernels.devices.boards.board import Board
from kernels.devices.boards.deadlines import connections, cut, later, sockets
from refbnn.errors import InputError

_log = logging.getLogger(__name__)
_ANSWER = 10.0  # seconds for a tracker to answer; across the world it takes less than one
_POLL = 0.2  # seconds between two questions whether a board is free
_GRACE = 5.0  # seconds after a session's end in which the board's own word of it may arrive


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
        self._connections: list[socket.socket] = []

    @property
    def is_open(self) -> bool:
        """Whether there is a session, as far as is known here."""
        return self._session is not None

    def session(self) -> RPCSession:
        """The session as it stands, or a new one, on any of the boards.

        Raises
        ------
        InputError
            If the tracker does not answer, has no such board, or none is free for as long as a
            session may last.
        ConnectionError
            If a board that was free does not answer.
        """
        if self._session is None:
            with closing(_connected(self.board)) as tracker:
                ports = _wait(tracker, self.board)
                self._session, self._connections = _opened(tracker, self.board, ports)
        return self._session

    def upload(self, library: bytes) -> str:
        """Put a library where the session's server finds it; its name there."""
        self.n_uploads += 1
        name = f"kernel{self.n_uploads}.so"
        self.session().upload(bytearray(library), name)
        return name

    def drop(self) -> None:
        """Forget a session that is lost; what is left of it must not keep the board."""
        cut(self._connections)
        self._session = None


_lines: WeakValueDictionary[Board, Line] = WeakValueDictionary()


def line(board: Board) -> Line:
    """The line to that board, new if there is none."""
    found = _lines.get(board)
    if found is None:
        found = _lines[board] = Line(board)
    return found


def require_known(board: Board) -> None:
    """Ask the tracker for a board, without taking it; nothing where there is a session already.

    Raises
    ------
    InputError
        If the tracker does not answer, or has no such board.
    """
    known = _lines.get(board)
    if known is None or not known.is_open:
        with closing(_connected(board)) as tracker:
            _look(tracker, board)


def _connected(board: Board) -> TrackerSession:
    """A connection to the tracker."""
    try:
        with _patience(_ANSWER):
            socket.create_connection(board.address).close()  # TVM would try again for a minute
            return connect_tracker(*board.address)
    except (OSError, RuntimeError, UnicodeError) as error:
        # RuntimeError: what is there is no tracker. UnicodeError: no name of a host.
        raise _no_answer(board, error) from None


def _no_answer(board: Board, error: Exception) -> InputError:
    return InputError(
        f"tracker {board.tracker}: {last_line(error)}; expected one, started by: "
        "python -m tvm.exec.rpc_tracker"
    )


def _opened(
    tracker: TrackerSession, board: Board, ports: set[int]
) -> tuple[RPCSession, list[socket.socket]]:
    """A session and its connections; cut off if it is too long in the making, or lasts too long."""
    before = sockets().keys()
    making = later(_ANSWER, lambda: cut(connections(before, ports)))
    try:
        session = tracker.request(board.key, session_timeout=board.timeout, max_retry=1)
    except (OSError, RuntimeError) as error:
        raise ConnectionError(last_line(error)) from None
    finally:
        making.cancel()
    own = connections(before, ports)
    lasting = later(board.timeout + _GRACE, lambda: cut(own))
    finalize(session, _call_off, lasting, own)
    return session, own


def _call_off(timer: threading.Timer, own: list[socket.socket]) -> None:
    timer.cancel()
    for connection in own:
        connection.close()


def _look(tracker: TrackerSession, board: Board) -> tuple[bool, set[int]]:
    """Whether one of the boards is free, and the ports of all of them."""
    try:
        summary = tracker.summary()
    except (OSError, RuntimeError) as error:
        raise _no_answer(board, error) from None
    servers = [(s["key"].removeprefix("server:"), s["addr"]) for s in summary["server_info"]]
    keys = {key for key, _ in servers}
    if board.key not in keys:
        known = ", ".join(sorted(keys)) or "none: no board has a server that runs"
        raise InputError(
            f"tracker {board.tracker}: key {board.key!r} is unknown; expected one of: {known}"
        )
    ports = {port for key, (_, port) in servers if key == board.key}
    return summary["queue_info"].get(board.key, {}).get("free", 0) > 0, ports


def _wait(tracker: TrackerSession, board: Board) -> set[int]:
    """Wait until one of the boards is free; the ports of all of them."""
    longest, end = board.timeout + _GRACE, None  # as a session of somebody else
    while True:
        free, ports = _look(tracker, board)
        if free:
            return ports
        if end is None:
            end = time.monotonic() + longest
            _log.warning("%s: busy; waiting for up to %g s", board, longest)
        if time.monotonic() > end:
            raise InputError(f"{board}: busy for {longest:g} s; expected a free one")
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


def last_line(error: Exception) -> str:
    """What happened, as the last line of an error of TVM's says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
