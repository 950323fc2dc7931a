"""Devices: where compiled kernels run.

    "local"     this machine
    "emulated"  a 64-bit Arm core in this process, which counts the instructions it executes;
                installed as the extra `arm`
    "rpc"       a board, or one of a fleet, through TVM's tracker and server; installed as the
                extra `rpc`. A `Board` says which; by this name, TVM's environment variables do

A device is one function: it takes a compiled module and the memory of a kernel, and gives what runs
it there.
"""

from kernels.devices.boards.board import Board, described
from kernels.devices.by_name import NAMES, find
from kernels.devices.loaded import Device, Loaded, Memory

__all__ = ["NAMES", "Board", "Device", "Loaded", "Memory", "described", "find"]
