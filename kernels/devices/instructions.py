"""Executed instructions of 64-bit Arm, by class.

Classes
-------
    load, store     ld*, st*, of any register and width, a pair being one instruction; no prefetch
    fma             a product and a sum in one instruction, of vectors or floating-point scalars
    vector          all else that reads or writes a vector register, of which floating-point
                    scalars are the lowest lane: it is the vector unit that executes them
    scalar          the rest: integers, addresses, branches

Capstone decodes; every instruction is of 4 bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache

_FMA = frozenset({"fmla", "fmls", "fmlal", "fmlsl", "fmlal2", "fmlsl2"}) | frozenset(
    {"fmadd", "fmsub", "fnmadd", "fnmsub"}
)
_VECTOR_REGISTERS = frozenset("bhsdqv")  # initials of v0 and its parts: b0 (8 bits) to q0 (128)


@dataclass(frozen=True)
class InstructionCount:
    """Executed instructions."""

    load: int = 0
    store: int = 0
    fma: int = 0
    vector: int = 0
    scalar: int = 0

    @property
    def total(self) -> int:
        """Of all classes."""
        return sum(self.by_class.values())

    @property
    def by_class(self) -> dict[str, int]:
        """The same, by the name of the class."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


# How often each basic block was executed, by its address and its bytes.
Blocks = Mapping[tuple[int, bytes], int]


def count(blocks: Blocks) -> InstructionCount:
    """Sum over blocks of code.

    Raises
    ------
    ValueError
        If a block holds what is no instruction.
    """
    total: Counter[str] = Counter()
    for (_, code), executions in blocks.items():
        for name in _classes(code):
            total[name] += executions
    return InstructionCount(**total)


@cache
def disassembler():
    """Capstone's, of 64-bit Arm, which tells operands too."""
    import capstone  # of the extra `arm`

    found = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    found.detail = True
    return found


def _classes(code: bytes) -> list[str]:
    """Class of every instruction of a block."""
    import capstone

    names = []
    for instruction in disassembler().disasm(code, 0):
        name = instruction.mnemonic
        registers = [
            instruction.reg_name(operand.reg)
            for operand in instruction.operands
            if operand.type == capstone.CS_OP_REG
        ]
        if name.startswith("ld"):
            names.append("load")
        elif name.startswith("st"):
            names.append("store")
        elif name in _FMA:
            names.append("fma")
        elif any(_is_vector(register) for register in registers):
            names.append("vector")
        else:
            names.append("scalar")
    if 4 * len(names) != len(code):
        raise ValueError(f"no instruction at byte {4 * len(names)} of {code.hex()}")
    return names


def _is_vector(register: str) -> bool:
    """Whether it is v0 or a part of it; sp, the stack pointer, is none."""
    return register[0] in _VECTOR_REGISTERS and register[1:].isdigit()
