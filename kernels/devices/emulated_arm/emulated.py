"""The emulated Arm core as a device: kernels are called on it by TVM's convention.

A function f is `__tvm_ffi_f(self, arguments, n, result)`. Arguments are 16 bytes each (type,
padding, value or pointer). An array is a pointer to a DLTensor of the DLPack standard: 48 bytes,
with shape and strides as arrays of 64-bit integers elsewhere.
"""

from __future__ import annotations

import struct

import numpy as np
import tvm

from kernels.devices.emulated_arm.core import Core, EmulationError, EmulationLimitError
from kernels.devices.instructions import Blocks
from kernels.devices.linker import link, object_file
from kernels.devices.loaded import Loaded, Memory

_FUNCTION = "__tvm_ffi_main"
_TENSOR = 7  # kTVMFFIDLTensorPtr
_CPU = 1  # kDLCPU
_TYPE_CODES = {"i": 0, "u": 1, "f": 2}  # DLDataTypeCode, by the kinds of NumPy


def load(executable: tvm.runtime.Executable, memory: Memory, core: str) -> Loaded:
    """Load a module on the core of that name, as `kernels.devices.Device` specifies."""
    return start(object_file(executable), memory, core)


def start(code: bytes, memory: Memory, core: str, timeout: float = 300.0) -> Loaded:
    """Load an object file with a function `main`; a call may take `timeout` seconds."""
    machine = Core(core, link(code), timeout)
    weights = range(len(memory.inputs), len(memory.inputs) + len(memory.weights))
    placed = [
        machine.place(array, read_only=index in weights)
        for index, array in enumerate(memory.arrays)
    ]
    arguments = b"".join(
        struct.pack("<iiQ", _TENSOR, 0, _place_tensor(machine, address, array))
        for address, array in placed
    )
    result, _ = machine.place(np.zeros(16, np.uint8), read_only=False)
    call = (0, _place_bytes(machine, arguments), len(placed), result)

    def require_success(code: int) -> None:
        if code != 0:
            raise _raised(machine)

    def run() -> None:
        require_success(machine.call(_FUNCTION, *call))

    def blocks() -> Blocks:
        code, executed = machine.blocks(_FUNCTION, *call)
        require_success(code)
        return executed

    return Loaded(run, memory.replaced([array for _, array in placed]), blocks)


def _place_tensor(machine: Core, address: int, array: np.ndarray) -> int:
    """Put the DLTensor of an array into memory, and return its address."""
    strides = [stride // array.itemsize for stride in array.strides]
    shape = _place_bytes(machine, struct.pack(f"<{2 * array.ndim}q", *array.shape, *strides))
    dtype = _TYPE_CODES[array.dtype.kind], 8 * array.itemsize, 1
    return _place_bytes(
        machine,
        struct.pack("<Qiii", address, _CPU, 0, array.ndim)
        + struct.pack("<BBH", *dtype)
        + struct.pack("<QQQ", shape, shape + 8 * array.ndim, 0),
    )


def _place_bytes(machine: Core, values: bytes) -> int:
    return machine.place(np.frombuffer(values, np.uint8), read_only=True)[0]


def _raised(machine: Core) -> EmulationError:
    """Error of a kernel that returned a code, with the message that it left."""

    def pointer(address: int) -> int:
        return int.from_bytes(machine.read(address, 8), "little")

    def text(address: int) -> str:
        end = b""
        while not end.endswith(b"\0"):
            end += machine.read(address + len(end), 1)
        return end[:-1].decode()

    if not pointer(machine.address("raised_kind")):
        return EmulationLimitError(
            "emulated core: the kernel failed without a message: temporary memory may not "
            "suffice; expected a smaller batch"
        )
    n = int.from_bytes(machine.read(machine.address("raised_n_parts"), 4), "little")
    parts = pointer(machine.address("raised_parts"))
    message = "".join(text(pointer(parts + 8 * index)) for index in range(n))
    kind = text(pointer(machine.address("raised_kind")))
    return EmulationError(f"emulated core: {kind}: {' '.join(message.split())}")
