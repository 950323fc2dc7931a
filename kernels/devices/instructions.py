"""Executed instructions of 64-bit Arm, by class.

Classes
-------
    load, store     ld*, st*, of any register and width, a pair being one instruction; no prefetch
    fma             a product and a sum in one instruction, of vectors or floating-point scalars
    vector          all else that reads or writes a vector register; floating-point scalars, its
                    lowest lane, belong here, since the vector unit executes them
    scalar          the rest: integers, addresses, branches

Instructions of the first four classes have a size: the bytes of all registers that they load or
store, or of the register that they compute.

Capstone decodes; every instruction has 4 bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache

_FMA = frozenset({"fmla", "fmls", "fmlal", "fmlsl", "fmlal2", "fmlsl2"}) | frozenset(
    {"fmadd", "fmsub", "fnmadd", "fnmsub"}
)
# Bytes of registers by the initials of their names: parts of v0, b0 to q0, and integer registers.
_VECTOR = {"b": 1, "h": 2, "s": 4, "d": 8, "q": 16}
_SCALAR = {"w": 4, "x": 8}


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Parameters
    ----------
    kind : str
        Class, as above.
    size : int
        Bytes, as above; 0 for scalars.
    """

    kind: str
    size: int


@dataclass(frozen=True)
class InstructionCount:
    """Number of executed instructions, by class."""

    load: int = 0
    store: int = 0
    fma: int = 0
    vector: int = 0
    scalar: int = 0

    @property
    def total(self) -> int:
        """Number in all classes."""
        return sum(self.by_class.values())

    @property
    def by_class(self) -> dict[str, int]:
        """Numbers by the names of the classes."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


# Executions of each basic block, by its address and its bytes.
Blocks = Mapping[tuple[int, bytes], int]


def count(blocks: Blocks) -> InstructionCount:
    """Count instructions over blocks of code; ValueError if a block holds an invalid one."""
    total: Counter[str] = Counter()
    for (_, code), executions in blocks.items():
        for instruction in decoded(code):
            total[instruction.kind] += executions
    return InstructionCount(**total)


@cache
def disassembler():
    """Capstone's disassembler of 64-bit Arm, which gives operands too."""
    import capstone  # from the extra `arm`

    made = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    made.detail = True
    return made


def decoded(code: bytes) -> list[Instruction]:
    """Decode the instructions of a block; ValueError if one is invalid."""
    found = [_classified(instruction) for instruction in disassembler().disasm(code, 0)]
    if 4 * len(found) != len(code):
        raise ValueError(f"no instruction at byte {4 * len(found)} of {code.hex()}")
    return found


def _classified(instruction) -> Instruction:
    """Classify an instruction by its name and operands."""
    import capstone

    name = instruction.mnemonic
    registers = [o for o in instruction.operands if o.type == capstone.CS_OP_REG]
    vectors = [size for o in registers if (size := _bytes(instruction.reg_name(o.reg), o.vas))]
    scalars = [_SCALAR.get(instruction.reg_name(o.reg)[0], 8) for o in registers]
    if name.startswith(("ld", "st")):
        return Instruction("load" if name.startswith("ld") else "store", sum(vectors or scalars))
    if name in _FMA:
        return Instruction("fma", max(vectors))
    return Instruction("vector", max(vectors)) if vectors else Instruction("scalar", 0)


def _bytes(register: str, arrangement: int) -> int:
    """Bytes of a vector register as arranged, or of its part; 0 for others, such as sp."""
    import capstone.arm64 as arm

    initial, number = register[0], register[1:]
    if not number.isdigit():
        return 0
    if initial != "v":
        return _VECTOR.get(initial, 0)
    whole = (arm.ARM64_VAS_16B, arm.ARM64_VAS_8H, arm.ARM64_VAS_4S, arm.ARM64_VAS_2D)
    half = (arm.ARM64_VAS_8B, arm.ARM64_VAS_4H, arm.ARM64_VAS_2S, arm.ARM64_VAS_1D)
    return 16 if arrangement in whole else 8 if arrangement in half else 4
