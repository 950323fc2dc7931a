"""Boards: one machine or a fleet of them, under one key at a tracker of TVM's.

Every board runs TVM's server, which reports itself to the tracker under a key; whoever asks the
tracker for that key gets a board that is free. Where no board is described, it is the one that
TVM's own environment variables name.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from refbnn.errors import InputError

VARIABLES = "TVM_TRACKER_HOST", "TVM_TRACKER_PORT", "TVM_TRACKER_KEY"
# Seconds, a day. TVM's server waits in milliseconds of 32 bits, and dies of more than 24 days.
_LONGEST = 86_400


@dataclass(frozen=True)
class Board:
    """Any one board of those that a tracker has under a key.

    Parameters
    ----------
    tracker : str
        HOST:PORT of the tracker.
    key : str
        What the boards' servers call themselves.
    timeout : float, seconds, more than 0 and at most a day
        A session that lasts longer is ended by the board: others may wait for it, or it hangs.
    attempts : int, at least 1
        Sessions that may end before their work is done, until that is an error.

    Raises
    ------
    InputError
        If an argument is none of these.
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
        if not (isinstance(self.timeout, int | float) and 0 < self.timeout <= _LONGEST):
            raise InputError(
                f"timeout {self.timeout!r}; expected seconds, more than 0 and at most {_LONGEST}"
            )
        if not (isinstance(self.attempts, int) and self.attempts >= 1):
            raise InputError(f"attempts {self.attempts!r}; expected at least 1, a whole number")

    @property
    def address(self) -> tuple[str, int]:
        """The tracker's host and port."""
        host, _, port = self.tracker.rpartition(":")
        return host.strip("[]"), int(port)

    def __str__(self) -> str:
        return f"board {self.key!r} of tracker {self.tracker}"


def described(tracker: str | None = None, key: str | None = None) -> Board:
    """A board; what is not given is taken from TVM's environment variables.

    Raises
    ------
    InputError
        If one of those is needed and not set, or is wrong.
    """
    host, port, name = VARIABLES
    if tracker is None:
        tracker = f"{_variable(host, '--tracker')}:{_variable(port, '--tracker')}"
    return Board(tracker, _variable(name, "--key") if key is None else key)


def _variable(name: str, option: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise InputError(
            f"device 'rpc': the environment variable {name} is not set; expected it, "
            f"or option {option}"
        )
    return value
