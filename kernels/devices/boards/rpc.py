"""Boards as devices, through TVM's tracker and server.

This process keeps a kernel's library and its arrays; a session has only copies. A session that
times out or dies therefore costs time but no results: the next one, on any free board of that key,
gets the library and the arrays again, and repeats the work.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import tvm
from tvm.error import RPCError, RPCSessionTimeoutError

from kernels.devices.boards.board import Board
from kernels.devices.boards.sessions import Line, last_line, line
from kernels.devices.linker import object_file, shared_library
from kernels.devices.loaded import Loaded, Memory
from kernels.devices.local import timer
from kernels.devices.targets import Target
from refbnn.errors import InputError

Result = TypeVar("Result")

_log = logging.getLogger(__name__)
# Architectures, as `uname -m` prints them, by e_machine of ELF files.
_MACHINES = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}


def load(
    executable: tvm.runtime.Executable, memory: Memory, board: Board, target: Target
) -> Loaded:
    """Load a module on a board, as `kernels.devices.Device` specifies.

    Raises
    ------
    InputError
        Here or when the kernel runs: if the tracker does not answer or has no such key, no board
        becomes free within the duration of a session, the board has another architecture than the
        target, or the last of `board.attempts` sessions in a row fails.
    """
    return start(object_file(executable), memory, board, target)


def start(code: bytes, memory: Memory, board: Board, target: Target) -> Loaded:
    """Load an object file with a function `main`; otherwise as `load`."""
    kernel = _Kernel(shared_library(code), memory, line(board), target)
    kernel.attempt(lambda placed: None)
    return Loaded(run=kernel.run, memory=memory, time=kernel.time)


@dataclass(frozen=True)
class _Placed:
    """A kernel's copy in a session: its function, its timer, its arrays."""

    session: tvm.rpc.RPCSession
    run: Callable[..., object]
    time: Callable[[], float]
    tensors: list[tvm.runtime.Tensor]


class _Kernel:
    """A library for a target and its memory, copied into the board's current session."""

    def __init__(self, library: bytes, memory: Memory, line: Line, target: Target):
        self.library, self.memory, self.line, self.target = library, memory, line, target
        self._last: _Placed | None = None

    def run(self) -> None:
        """Copy the inputs to the board, run, and copy the outputs back."""

        def work(placed: _Placed) -> None:
            self._put_inputs(placed)
            placed.run(*placed.tensors)
            outputs = self.memory.outputs
            for array, tensor in zip(outputs, placed.tensors[-len(outputs) :], strict=True):
                array[...] = tensor.numpy()

        self.attempt(work)

    def time(self) -> float:
        """Measure the seconds of one run."""

        def work(placed: _Placed) -> float:
            self._put_inputs(placed)
            return placed.time()

        return self.attempt(work)

    def attempt(self, work: Callable[[_Placed], Result]) -> Result:
        """Do work in a session; repeat it in another if the session is lost.

        Raises
        ------
        InputError
            As in `load`, and in a child of a fork: it shares its parent's connection.
        """
        if self.line.process != os.getpid():
            raise InputError(
                f"{self.line.board}: the kernel was compiled before this process was forked; "
                "expected one that is compiled in it"
            )
        with self.line.lock:
            return self._attempt(work)

    def _attempt(self, work: Callable[[_Placed], Result]) -> Result:
        board = self.line.board
        for attempt in range(1, board.attempts + 1):
            try:
                return work(self._placed())
            except (RuntimeError, OSError) as error:
                if isinstance(error, RPCError) and not isinstance(error, RPCSessionTimeoutError):
                    raise  # an error of the kernel: the session goes on
                self.line.drop()
                self._last = None
                reason = last_line(error)
            _log.warning("%s: session %d of %d lost: %s", board, attempt, board.attempts, reason)
        sessions = f"{board.attempts} session{'s' if board.attempts > 1 else ''}"
        raise InputError(
            f"{board}: lost {sessions} in a row; expected a board that "
            f"runs target {self.target.name!r} in less than {board.timeout:g} s"
        )

    def _put_inputs(self, placed: _Placed) -> None:
        inputs = self.memory.inputs
        for array, tensor in zip(inputs, placed.tensors[: len(inputs)], strict=True):
            tensor.copyfrom(array)

    def _placed(self) -> _Placed:
        """Copy the kernel into the session, unless it is there already."""
        session = self.line.session()
        if self._last is not None and self._last.session is session:
            return self._last
        name = self.line.upload(self.library)
        try:
            module = session.load_module(name)
        except RPCError as error:
            raise self._refusal(session, error) from None
        cpu = session.cpu()
        tensors = [tvm.runtime.tensor(array, cpu) for array in self.memory.arrays]
        self._last = _Placed(session, module["main"], timer(module, cpu, tensors), tensors)
        return self._last

    def _refusal(self, session: tvm.rpc.RPCSession, error: RPCError) -> InputError:
        """Explain why a board did not load the library.

        Most systems report a file for another processor as "not found". The server's own program
        tells the board's architecture: e_machine is in bytes 18 and 19 of an ELF file.
        """
        try:
            own = bytes(session.download("/proc/self/exe"))
        except RPCError:
            own = b""
        here, there = (int.from_bytes(file[18:20], "little") for file in (self.library, own))
        if own[:4] == b"\x7fELF" and here != there:
            names = [_MACHINES.get(n, f"ELF machine {n}") for n in (there, here)]
            return InputError(
                f"{self.line.board} is {names[0]}, but target {self.target.name!r} is for "
                f"{names[1]}; choose a target for {names[0]}, or another board"
            )
        reason = " ".join(str(error).split())
        return InputError(f"{self.line.board} cannot load the kernel: {reason}")
