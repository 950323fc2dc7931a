"""Boards through TVM's tracker and server.

What a kernel works on stays here: its library, and its arrays as the host last saw them. A session
holds copies alone. So a session that times out or dies costs time and not results: the next one,
on whatever board of that key is free, gets the library and the arrays again, and does the work.
"""

from __future__ import annotations

import logging
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
# By e_machine of ELF files, as `uname -m` says it.
_MACHINES = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}


def load(
    executable: tvm.runtime.Executable, memory: Memory, board: Board, target: Target
) -> Loaded:
    """Load a module; as `kernels.devices.Device` says, on that board.

    Raises
    ------
    InputError
        Here or when it runs: if the tracker does not answer or has no such key, no board is free
        for as long as a session may last, the board is of another architecture than the target, or
        session after session ends before its work is done.
    """
    return start(object_file(executable), memory, board, target)


def start(code: bytes, memory: Memory, board: Board, target: Target) -> Loaded:
    """Load an object file with a function called `main`; otherwise as `load`."""
    kernel = _Kernel(shared_library(code), memory, line(board), target)
    kernel.attempt(lambda placed: None)
    return Loaded(run=kernel.run, memory=memory, time=kernel.time)


@dataclass(frozen=True)
class _Placed:
    """A kernel in a session: its function, its clock, its arrays."""

    session: tvm.rpc.RPCSession
    run: Callable[..., object]
    time: Callable[[], float]
    tensors: list[tvm.runtime.Tensor]


class _Kernel:
    """A library and its memory, put into whatever session there is.

    Parameters
    ----------
    library : bytes
    memory : Memory
    line : Line
    target : Target
        Of the library.
    """

    def __init__(self, library: bytes, memory: Memory, line: Line, target: Target):
        self.library, self.memory, self.line, self.target = library, memory, line, target
        self._last: _Placed | None = None

    def run(self) -> None:
        """Inputs there, run, outputs back."""

        def work(placed: _Placed) -> None:
            self._put_inputs(placed)
            placed.run(*placed.tensors)
            outputs = self.memory.outputs
            for array, tensor in zip(outputs, placed.tensors[-len(outputs) :], strict=True):
                array[...] = tensor.numpy()

        self.attempt(work)

    def time(self) -> float:
        """Seconds of one run."""

        def work(placed: _Placed) -> float:
            self._put_inputs(placed)
            return placed.time()

        return self.attempt(work)

    def attempt(self, work: Callable[[_Placed], Result]) -> Result:
        """Do work in a session, and again in another where one is lost."""
        board = self.line.board
        for attempt in range(1, board.attempts + 1):
            try:
                return work(self._placed())
            except (RuntimeError, OSError) as error:
                if isinstance(error, RPCError) and not isinstance(error, RPCSessionTimeoutError):
                    raise  # the kernel's own: the session goes on
                self.line.drop()
                self._last = None
                said = last_line(error)
            _log.warning("%s: session %d of %d lost: %s", board, attempt, board.attempts, said)
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
        """Where the kernel is; put into the session if it is not there."""
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
        """Why a board did not load the library.

        A file for another processor is "not found" to most systems. The server's own program tells
        what they would load: e_machine is in bytes 18 and 19 of an ELF file.
        """
        try:
            own = bytes(session.download("/proc/self/exe"))
        except RPCError:
            own = b""
        here, there = (int.from_bytes(file[18:20], "little") for file in (self.library, own))
        if own[:4] == b"\x7fELF" and here != there:
            return InputError(
                f"{self.line.board}: is {_MACHINES.get(there, f'ELF machine {there}')}, and target "
                f"{self.target.name!r} is for {_MACHINES.get(here, f'ELF machine {here}')}; "
                "expected a target or a board to match"
            )
        return InputError(f"{self.line.board}: {' '.join(str(error).split())}; expected to load it")
