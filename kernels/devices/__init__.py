"""Devices: where compiled kernels run.

    "local"     this machine
    "emulated"  a 64-bit Arm core in this process, which counts the instructions it executes;
                installed as the extra `arm`
    "rpc"       a board, or one of a fleet, through TVM's tracker and server; installed as the
                extra `rpc`. A `Board` says which; by this name, TVM's environment variables do

A device is one function: it takes a compiled module and the memory of a kernel, and gives what runs
it there.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Protocol

import numpy as np
import tvm

from kernels.devices.boards.board import Board, described
from kernels.devices.emulated_arm.instructions import Blocks, InstructionCount
from kernels.devices.targets import Target
from refbnn.errors import InputError

NAMES = ("local", "emulated", "rpc")

# What the devices of extras import, and the packages that hold it.
_EXTRAS = {
    "arm": {
        "unicorn": "unicorn",
        "elftools": "pyelftools",
        "capstone": "capstone",
        "ziglang": "ziglang",
    },
    "rpc": {"ziglang": "ziglang"},
}

__all__ = ["NAMES", "Board", "Device", "Loaded", "Memory", "described", "find"]


@dataclass(frozen=True)
class Memory:
    """The arrays that a kernel works on, in the order of its arguments, padding included.

    Parameters
    ----------
    inputs, weights, outputs : sequences of ndarray
    """

    inputs: Sequence[np.ndarray]
    weights: Sequence[np.ndarray]
    outputs: Sequence[np.ndarray]

    @property
    def arrays(self) -> list[np.ndarray]:
        """All of them."""
        return [*self.inputs, *self.weights, *self.outputs]

    def replaced(self, arrays: Sequence[np.ndarray]) -> Memory:
        """Other arrays in their places."""
        n, m = len(self.inputs), len(self.inputs) + len(self.weights)
        return Memory(arrays[:n], arrays[n:m], arrays[m:])


@dataclass(frozen=True)
class Loaded:
    """A kernel on a device.

    Parameters
    ----------
    run : callable without arguments
        Runs on the inputs in `memory` as they stand, and leaves the results in its outputs.
    memory : Memory
        Where the kernel finds its inputs and leaves its results.
    count : callable without arguments, or None
        Runs as `run` does, and counts instructions; None where they cannot be counted.
    blocks : callable without arguments, or None
        Runs as `run` does, and tells which code was executed how often; None as for `count`.
    time : callable without arguments, or None
        Runs it again and again for some milliseconds, on the inputs in `memory`; seconds of one
        run, by the device's own clock and without the call from Python. None on the emulated core.
    """

    run: Callable[[], object]
    memory: Memory
    count: Callable[[], InstructionCount] | None = None
    blocks: Callable[[], Blocks] | None = None
    time: Callable[[], float] | None = None


class Device(Protocol):
    """Somewhere to run kernels."""

    def __call__(self, executable: tvm.runtime.Executable, memory: Memory) -> Loaded:
        """Load a module whose function is called `main`, its memory holding these values."""


def find(device: str | Board, target: Target) -> Device:
    """Look up a device, for kernels compiled for that target.

    Parameters
    ----------
    device : {"local", "emulated", "rpc"} or Board
        "rpc" is the board that TVM's environment variables describe.
    target : Target

    Raises
    ------
    InputError
        If there is none, it cannot run such kernels, packages that it needs are not installed, or
        the tracker does not answer or has no such board.
    """
    match device:
        case "local":
            from kernels.devices import local

            here = platform.machine()
            if target.is_arm != (here in ("aarch64", "arm64")):
                raise InputError(
                    f"target {target.name!r} is for aarch64, and this machine is {here}; "
                    "expected device 'emulated' or 'rpc', or target 'host'"
                )
            return local.load
        case "emulated":
            if not target.is_arm:
                raise InputError(
                    f"target {target.name!r} is not for aarch64, as the emulated core is; "
                    "expected one such as 'cortex-a72'"
                )
            _require("arm", device)
            from kernels.devices.emulated_arm import emulated

            return partial(emulated.load, core=str(target.llvm["mcpu"]))
        case "rpc" | Board():
            board = described() if isinstance(device, str) else device
            _require("rpc", "rpc")
            from kernels.devices.boards import rpc, sessions

            sessions.require_known(board)
            return partial(rpc.load, board=board, target=target)
        case _:
            raise InputError(f"device {device!r} is unknown; expected one of: {', '.join(NAMES)}")


def _require(extra: str, device: str) -> None:
    """Refuse to go on where packages of an extra are not installed."""
    absent = [package for module, package in _EXTRAS[extra].items() if find_spec(module) is None]
    if absent:
        raise InputError(
            f"device {device!r}: without {', '.join(absent)}; "
            f"expected after: pip install 'refbnn[{extra}]'"
        )
