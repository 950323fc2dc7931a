"""Lookup of devices by name; their modules are imported on demand, since some need extras."""

from __future__ import annotations

import platform
from functools import partial
from importlib.util import find_spec

from kernels.devices.boards.board import Board, board_from_environment
from kernels.devices.loaded import Device
from kernels.devices.targets import Target
from refbnn.errors import InputError
from refbnn.numerics.arguments import require_known

NAMES = ("local", "emulated", "rpc")

# Modules that an extra brings, and their packages.
_EXTRAS = {
    "arm": {
        "unicorn": "unicorn",
        "elftools": "pyelftools",
        "capstone": "capstone",
        "ziglang": "ziglang",
    },
    "rpc": {"ziglang": "ziglang"},
}


def find(device: str | Board, target: Target) -> Device:
    """Look up a device, for kernels compiled for that target.

    Parameters
    ----------
    device : {"local", "emulated", "rpc"} or Board
        "rpc" is the board that TVM's environment variables name.
    target : Target

    Raises
    ------
    InputError
        If the name is unknown, the device cannot run kernels for this target, packages that it
        needs are not installed, or the tracker does not answer or has no such board.
    """
    if not isinstance(device, Board):
        require_known(device, NAMES, "device")
    match device:
        case "local":
            from kernels.devices import local

            here = platform.machine()
            if target.is_arm != (here in ("aarch64", "arm64")):
                raise InputError(
                    f"target {target.name!r} is for aarch64, and this machine is {here}; "
                    "choose device 'emulated' or 'rpc', or target 'host'"
                )
            return local.load
        case "emulated":
            if not target.is_arm:
                raise InputError(
                    f"target {target.name!r} is not for aarch64, the emulated core's architecture; "
                    "choose one such as 'cortex-a72'"
                )
            _require("arm", device)
            from kernels.devices.emulated_arm import emulated

            return partial(emulated.load, core=str(target.llvm["mcpu"]))
        case _:
            board = board_from_environment() if isinstance(device, str) else device
            _require("rpc", "rpc")
            from kernels.devices.boards import rpc, sessions

            sessions.require_known(board)
            return partial(rpc.load, board=board, target=target)


def _require(extra: str, device: str) -> None:
    """Raise InputError unless the packages of an extra are installed."""
    absent = [package for module, package in _EXTRAS[extra].items() if find_spec(module) is None]
    if absent:
        raise InputError(
            f"device {device!r} cannot run without {', '.join(absent)}; "
            f"install the extra: pip install 'refbnn[{extra}]'"
        )
