"""Innermost loops of executed code, found by how often each instruction was executed.

A branch back to an address closes a loop. The loop is innermost if no instruction in it was
executed more often than that branch. Its body are the instructions executed as often, in every
iteration. Code that some iterations skip, such as setting sums to zero in the first, is left out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from kernels.devices.instructions import Blocks, disassembler

_BRANCHES = ("b", "cbz", "cbnz", "tbz", "tbnz")  # and b.eq, b.ne, ...
LABEL = "loop"


@dataclass(frozen=True)
class Loop:
    """One innermost loop.

    Parameters
    ----------
    iterations : int
        Number in all, however often the loop was entered.
    body : tuple of str
        Assembly of an iteration, for GNU's assembler or LLVM's; branches go to `LABEL`.
    """

    iterations: int
    body: tuple[str, ...]

    @property
    def instructions(self) -> int:
        """Number of instructions executed in all."""
        return self.iterations * len(self.body)


def innermost(blocks: Blocks) -> list[Loop]:
    """Find innermost loops, those that executed most instructions first."""
    executions: Counter[int] = Counter()
    text: dict[int, str] = {}
    back: dict[int, int] = {}  # from a branch to where it goes, at or before it
    for (address, code), n in blocks.items():
        for instruction in disassembler().disasm(code, address):
            at, name, operands = instruction.address, instruction.mnemonic, instruction.op_str
            executions[at] += n
            if name.partition(".")[0] in _BRANCHES:
                others, _, place = operands.rpartition("#")
                operands = f"{others}{LABEL}"
                if int(place, 16) <= at:
                    back[at] = int(place, 16)
            text[at] = f"{name} {operands}"
    loops = []
    for last, first in back.items():
        inside = [at for at in range(first, last + 4, 4) if executions[at]]
        if max(executions[at] for at in inside) == executions[last]:
            every = [at for at in inside if executions[at] == executions[last]]
            loops.append(Loop(executions[last], tuple([text[at] for at in every])))
    return sorted(loops, key=lambda loop: -loop.instructions)
