"""Deadlines for TVM's connections: it would wait for an answer without end."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable, Set
from contextlib import suppress


def sockets() -> dict[int, int]:
    """List the open sockets of this process: file descriptors by inode."""
    found = {}
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # closed by now, as the descriptor of the listing itself is
            status = os.fstat(int(name))
            if stat.S_ISSOCK(status.st_mode):
                found[status.st_ino] = int(name)
    return found


def connections(before: Set[int], ports: set[int]) -> list[socket.socket]:
    """Duplicate this process's connections to these ports, except sockets that existed before.

    TVM does not tell which connection it has opened.
    """
    found = []
    for inode, file in sockets().items():
        if inode not in before:
            connection = socket.socket(fileno=os.dup(file))
            try:
                there = connection.getpeername()[1] in ports
            except (OSError, IndexError):  # not connected, or to no port
                there = False
            if there:
                found.append(connection)
            else:
                connection.close()
    return found


def cut(connections: list[socket.socket]) -> None:
    """End connections: a caller that waits for an answer gets an error."""
    for connection in connections:
        with suppress(OSError):  # ended by the other side
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()


def later(seconds: float, do: Callable[[], None]) -> threading.Timer:
    """Run a function after a time, unless the timer is cancelled or the program ends."""
    timer = threading.Timer(seconds, do)
    timer.daemon = True
    timer.start()
    return timer
