"""Boards: one machine or a fleet, registered under one key at TVM's tracker.

Every board runs TVM's server, which reports to the tracker under a key. The tracker gives a free
board to a client that asks for that key.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from refbnn.errors import InputError
from refbnn.numerics.arguments import whole_number

VARIABLES = "TVM_TRACKER_HOST", "TVM_TRACKER_PORT", "TVM_TRACKER_KEY"
# A day, in seconds. TVM's server counts milliseconds in 32 bits, and dies of more than 24 days.
_LONGEST = 86_400


@dataclass(frozen=True)
class Board:
    """Any board that a tracker has under a key.

    Parameters
    ----------
    tracker : str
        HOST:PORT of the tracker.
    key : str
        Key under which the boards' servers were started.
    timeout : float, seconds, more than 0 and at most a day
        Longest duration of a session. The board ends it then, since it may hang or others wait.
    attempts : int, at least 1
        Sessions that may fail in a row before that is an error.

    Raises
    ------
    InputError
        If an argument is invalid.

    Examples
    --------
    >>> from kernels.devices import Board
    >>> print(Board("192.168.0.7:9190", "rpi4"))
    board 'rpi4' of tracker 192.168.0.7:9190
    """

    tracker: str
    key: str
    timeout: float = 600.0
    attempts: int = 3

    def __post_init__(self):
        host, _, port = str(self.tracker).rpartition(":")
        if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise InputError(f"tracker {self.tracker!r}; expected HOST:PORT")
        key = self.key if isinstance(self.key, str) else ""
        if not key or any(c.isspace() or c == ":" for c in key):
            raise InputError(f"key {self.key!r}; expected a word without colons, such as 'rpi4'")
        real = isinstance(self.timeout, int | float | np.integer | np.floating)
        if not (real and 0 < self.timeout <= _LONGEST):
            raise InputError(
                f"timeout {self.timeout!r}; expected seconds, more than 0 and at most {_LONGEST}"
            )
        whole_number(self.attempts, 1, "attempts")

    @property
    def address(self) -> tuple[str, int]:
        """The tracker's host and port."""
        host, _, port = self.tracker.rpartition(":")
        return host.strip("[]"), int(port)

    def __str__(self) -> str:
        return f"board {self.key!r} of tracker {self.tracker}"


def board_from_environment(tracker: str | None = None, key: str | None = None) -> Board:
    """A board by tracker and key; TVM's environment variables give what is left out.

    Raises
    ------
    InputError
        If a variable is needed but not set, or is invalid.
    """
    host, port, name = VARIABLES
    if tracker is None:
        tracker = f"{_variable(host, '--tracker')}:{_variable(port, '--tracker')}"
    return Board(tracker, _variable(name, "--key") if key is None else key)


def _variable(name: str, option: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise InputError(
            f"device 'rpc': the environment variable {name} is not set; set it, or use {option}"
        )
    return value
