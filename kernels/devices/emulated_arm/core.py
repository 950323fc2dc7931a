"""An Arm core in this process: memory with guard pages, a call, and a count of instructions.

Unicorn (the processors of QEMU, without their machines) executes 64-bit Arm. The core has no
operating system: a program that accesses memory it was not given, or executes an instruction the
core does not have, ends with an error that says where.

Counting is exact: the core calls a hook at the start of every basic block, and a block without
faults is executed to its end. The hook must be set before code is translated, and costs a
microsecond a block. A second core therefore does the counting, on the same memory.
"""

from __future__ import annotations

import io
import mmap
from bisect import bisect_right
from collections import Counter
from functools import cached_property
from threading import Timer

import numpy as np
from elftools.elf.elffile import ELFFile
from unicorn import (
    UC_ARCH_ARM64,
    UC_HOOK_BLOCK,
    UC_HOOK_MEM_INVALID,
    UC_MODE_ARM,
    UC_PROT_EXEC,
    UC_PROT_READ,
    UC_PROT_WRITE,
    Uc,
    UcError,
)
from unicorn.arm64_const import (
    UC_ARM64_REG_CPACR_EL1,
    UC_ARM64_REG_LR,
    UC_ARM64_REG_PC,
    UC_ARM64_REG_SP,
    UC_ARM64_REG_W0,
    UC_ARM64_REG_X0,
    UC_ARM64_REG_X1,
    UC_ARM64_REG_X2,
    UC_ARM64_REG_X3,
    UC_CPU_ARM64_A53,
    UC_CPU_ARM64_A57,
    UC_CPU_ARM64_A72,
    UC_CPU_ARM64_MAX,
)

from kernels.devices.instructions import Blocks
from refbnn.errors import InputError

# Cores that Unicorn knows. For others it emulates one with all features, such as half precision.
_MODELS = {
    "cortex-a53": UC_CPU_ARM64_A53,
    "cortex-a57": UC_CPU_ARM64_A57,
    "cortex-a72": UC_CPU_ARM64_A72,
}
_VECTORS_ON = 0b11 << 20  # CPACR_EL1.FPEN: without it every vector instruction is a trap

_PAGE = 4096
_GUARD = 1 << 16  # least distance of two pieces of memory, in bytes
_ALIGNMENT = 64  # bytes, which TVM expects of every array
_DATA = 1 << 32  # where arrays begin, above the program
_STACK_TOP = 1 << 39
_STACK = 1 << 20  # bytes
_EXIT = 0x1000  # return address of the program; no memory is there


class EmulationError(RuntimeError):
    """The emulated program made a fault; the message says which, and where."""


class EmulationLimitError(EmulationError, InputError):
    """The emulated program needs more time, or more memory, than it is given."""


class Core:
    """An emulated core with a program in its memory.

    Parameters
    ----------
    model : str
        LLVM's name of the core.
    program : bytes
        A static ELF file.
    timeout : float, s
        A call that takes longer raises EmulationLimitError.
    """

    def __init__(self, model: str, program: bytes, timeout: float = 300.0):
        self._model = _MODELS.get(model, UC_CPU_ARM64_MAX)
        self._timeout = timeout
        self._pieces: list[tuple[int, mmap.mmap, int]] = []  # address, memory, access rights
        self._next = _DATA
        self._executed: Counter[tuple[int, int]] = Counter()
        self._place(_STACK_TOP - _STACK, _STACK, UC_PROT_READ | UC_PROT_WRITE)
        elf = ELFFile(io.BytesIO(program))
        for segment in elf.iter_segments("PT_LOAD"):
            self._load(segment)
        symbols = [*elf.get_section_by_name(".symtab").iter_symbols()]  # type: ignore[union-attr]
        self._symbols = {s.name: s["st_value"] for s in symbols if s.name}
        self._functions = sorted(
            (s["st_value"], s.name) for s in symbols if s["st_info"]["type"] == "STT_FUNC"
        )

    def _load(self, segment) -> None:
        """Put a segment of the program at its address."""
        rights = {4: UC_PROT_READ, 2: UC_PROT_WRITE, 1: UC_PROT_EXEC}
        allowed = sum(uc for elf, uc in rights.items() if segment["p_flags"] & elf)
        ahead = segment["p_vaddr"] % _PAGE
        memory = self._place(segment["p_vaddr"] - ahead, ahead + segment["p_memsz"], allowed)
        memory[ahead : ahead + segment["p_filesz"]] = segment.data()

    def _place(self, address: int, size: int, allowed: int) -> mmap.mmap:
        """Map whole pages of memory at an address."""
        memory = mmap.mmap(-1, -(-size // _PAGE) * _PAGE)
        self._pieces.append((address, memory, allowed))
        return memory

    def place(self, array: np.ndarray, read_only: bool) -> tuple[int, np.ndarray]:
        """Copy an array into the core's memory, before the first call.

        The copy ends at the end of a page, as near as alignment allows; no memory follows.

        Returns
        -------
        (int, ndarray)
            Address, and a view of the copy.
        """
        size = -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        ahead = -size % _PAGE
        allowed = UC_PROT_READ if read_only else UC_PROT_READ | UC_PROT_WRITE
        memory = self._place(self._next, ahead + size, allowed)
        address = self._next + ahead
        self._next += len(memory) + _GUARD
        view = np.frombuffer(memory, array.dtype, array.size, ahead).reshape(array.shape)
        view[...] = array
        return address, view

    def call(self, function: str, *arguments: int) -> int:
        """Call a function with at most four integers or addresses; returns its integer.

        Raises
        ------
        EmulationError
            If it makes a fault or time is up.
        """
        return self._call(self._plain, function, arguments)

    def blocks(self, function: str, *arguments: int) -> tuple[int, Blocks]:
        """Call a function as `call` does, and count how often each basic block is executed."""
        self._executed.clear()
        result = self._call(self._counting, function, arguments)
        return result, {
            (address, self.read(address, size)): executions
            for (address, size), executions in self._executed.items()
        }

    def read(self, address: int, size: int) -> bytes:
        """Bytes at an address."""
        return bytes(self._plain.mem_read(address, size))

    def address(self, symbol: str) -> int:
        """Address of a symbol of the program."""
        return self._symbols[symbol]

    @cached_property
    def _plain(self) -> Uc:
        return self._machine()

    @cached_property
    def _counting(self) -> Uc:
        executed = self._executed

        def begin(_machine, address, size, _data):
            executed[address, size] += 1

        machine = self._machine()
        machine.hook_add(UC_HOOK_BLOCK, begin)
        return machine

    def _machine(self) -> Uc:
        machine = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
        machine.ctl_set_cpu_model(self._model)
        for address, memory, allowed in self._pieces:
            pointer = np.frombuffer(memory, np.uint8).ctypes.data
            machine.mem_map_ptr(address, len(memory), allowed, pointer)
        machine.reg_write(UC_ARM64_REG_CPACR_EL1, _VECTORS_ON)
        return machine

    def _call(self, machine: Uc, function: str, arguments: tuple[int, ...]) -> int:
        registers = (UC_ARM64_REG_X0, UC_ARM64_REG_X1, UC_ARM64_REG_X2, UC_ARM64_REG_X3)
        for register, argument in zip(registers, arguments, strict=False):
            machine.reg_write(register, argument)
        machine.reg_write(UC_ARM64_REG_SP, _STACK_TOP)
        machine.reg_write(UC_ARM64_REG_LR, _EXIT)
        touched: list[int] = []

        def note(_machine, _kind, address, _size, _value, _data):
            touched.append(address)
            return False  # leaves it an error

        hook = machine.hook_add(UC_HOOK_MEM_INVALID, note)
        # A timer of our own: Unicorn's polls the clock so often that it takes half of the time.
        timer = Timer(self._timeout, machine.emu_stop)
        timer.start()
        try:
            machine.emu_start(self._symbols[function], _EXIT)
        except UcError as error:
            raise EmulationError(self._message(machine, error, touched)) from None
        finally:
            timer.cancel()
            timer.join()
            machine.hook_del(hook)
        if machine.reg_read(UC_ARM64_REG_PC) != _EXIT:
            raise EmulationLimitError(
                f"emulated core: not done after {self._timeout:g} s; give it less work, such as a "
                "smaller batch"
            )
        return machine.reg_read(UC_ARM64_REG_W0)

    def _message(self, machine: Uc, error: UcError, touched: list[int]) -> str:
        where = machine.reg_read(UC_ARM64_REG_PC)
        index = bisect_right(self._functions, (where, "\uffff")) - 1
        name = self._functions[index][1] if index >= 0 else "no function"
        place = f"in {name}, instruction at {where:#x}"
        if touched and _STACK_TOP - (1 << 32) <= touched[0] < _STACK_TOP - _STACK:
            return f"emulated core: stack overflow {place}; it has {_STACK >> 10} KiB"
        what = f", memory at {touched[0]:#x}" if touched else ""
        return f"emulated core: {error} {place}{what}"
