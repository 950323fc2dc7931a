"""Devices: where compiled kernels run.

    "local"     this machine
    "emulated"  a 64-bit Arm core in this process, which counts the instructions it executes;
                needs the extra `arm`
    "rpc"       a board, or one of a fleet, through TVM's tracker and server; needs the extra `rpc`.
                A `Board` says which; with the name "rpc", TVM's environment variables do

A device is one function, which loads a compiled module and the memory of a kernel: `find` looks it
up, `loaded` says what it gives.
"""

from kernels.devices.boards.board import Board, board_from_environment
from kernels.devices.by_name import NAMES, find
from kernels.devices.loaded import Device, Loaded, Memory

__all__ = ["NAMES", "Board", "Device", "Loaded", "Memory", "board_from_environment", "find"]
