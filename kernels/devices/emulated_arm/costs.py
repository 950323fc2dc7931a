"""Proxy cycles: executed instructions weighted by a core's throughput.

They choose between schedules where no board is at hand. Proxy cycles do not measure time: they
leave out latencies, caches, address translation, mispredicted branches and a full instruction
window, and count divisions and square roots as any other vector instruction.

Formula
-------
A unit (loads, stores, vector arithmetic) has p ports of w bytes. An instruction that moves or
makes s bytes (`kernels.devices.instructions`) is u = ⌈s/w⌉ operations of its unit, at
least one; scalar instructions and branches are one. The core begins d operations in one cycle. A
basic block b, executed n_b times, then takes at least, with U the operations of a unit in it,

    t_b = max( Σ U / d,  max over units of U / p )        proxy = Σ_b n_b t_b

as long as its busiest unit: loads run beside arithmetic, and one execution of a loop's body begins
where the one before ends. The sum is over blocks, since the loop after a prologue full of loads
does not hide it; the maximum over the whole program would.

Where a load is issued alone, as on an in-order core, its cycles are added: t_b = U_load / p + the
maximum of the others.

Check: among 25 tiles each of 784→100 and 100→100 at batches 1 and 10, the tile with the fewest
proxy cycles on the A72 also had the fewest cycles by llvm-mca 14's model of that core, which has
latencies and dependences but no caches, in all four cases (rank correlations 0.88 to 0.98).

Sources
-------
The guides' own tables were not at hand: the models named here quote them.

A72: Arm, Cortex-A72 Software Optimization Guide, UAN 0016A (2015): pipelines 2.1 (one for loads,
one for stores, F0 and F1), dispatch of three operations 4.1, vector loads and stores 3.12, 3.13,
3.17 and 3.18, arithmetic 3.15. Widths as in LLVM's machine model (AArch64SchedA57.td, its model of
the A72, too): arithmetic on 128 bits takes both F pipes, a load of two such registers the load pipe
twice, a store of one the store pipe twice. Eight single-precision operations a cycle were measured
(wlog.flatlib.jp/2015/10/30/n1787), four lanes of one multiply-add.

A76: Arm, Cortex-A76 Software Optimization Guide, PJDOC-466751330-7215, issue 10.0: four
instructions a cycle 4.1, two pipes for loads 3.13 and 3.18, two of 128 bits for arithmetic 3.16,
one store of 128 bits a cycle 3.14; widths as in SLOTHY's model of that core, made from the guide.

A53: two instructions a cycle, in order; there is no public guide. LLVM's machine model
(AArch64SchedA53.td, after "Cortex-A53 Software Optimisation Specification - Instruction Timings",
1.0), and for loads Tencent/ncnn, docs/developer-guide/arm-a53-a55-dual-issue.md: one of 128 bits
takes two cycles in which no multiply-add is issued, one of 64 bits one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from kernels.devices.instructions import Blocks, decoded
from refbnn.errors import InputError


@dataclass(frozen=True)
class Unit:
    """Unit of a core that executes one kind of instructions.

    Parameters
    ----------
    ports : int
        Operations in one cycle.
    width : int
        Bytes of one operation.
    """

    ports: int
    width: int


@dataclass(frozen=True)
class Throughput:
    """Operations that a core can do in one cycle.

    Parameters
    ----------
    issued : int
        Operations of any kind that begin.
    load, store, arithmetic : Unit
    loads_alone : bool
        Whether nothing is issued together with a load.
    """

    issued: int
    load: Unit
    store: Unit
    arithmetic: Unit
    loads_alone: bool = False


# By LLVM's name of the core.
_CORES = {
    "cortex-a53": Throughput(2, Unit(1, 8), Unit(1, 16), Unit(1, 16), loads_alone=True),
    "cortex-a72": Throughput(3, Unit(1, 16), Unit(1, 8), Unit(2, 8)),
    "cortex-a76": Throughput(4, Unit(2, 16), Unit(1, 16), Unit(2, 16)),
}

_UNITS = {"fma": "arithmetic", "vector": "arithmetic"}  # units of classes of other names


def throughput(core: str) -> Throughput:
    """Look up the throughput of a core, by LLVM's name; InputError if it has none."""
    if core not in _CORES:
        raise InputError(
            f"core {core!r} has no table of costs; expected one of: {', '.join(_CORES)}"
        )
    return _CORES[core]


def proxy_cycles(blocks: Blocks, core: Throughput) -> float:
    """Proxy cycles of executed code; ValueError if a block holds an invalid instruction."""
    return sum(executions * _of_block(code, core) for (_, code), executions in blocks.items())


def _of_block(code: bytes, core: Throughput) -> float:
    """t_b of the formula."""
    units = {"load": core.load, "store": core.store, "arithmetic": core.arithmetic}
    operations: Counter[str] = Counter()
    for instruction in decoded(code):
        name = _UNITS.get(instruction.kind, instruction.kind)
        width = units[name].width if name in units else 1
        operations[name] += max(1, -(-instruction.size // width))
    cycles = {name: operations[name] / unit.ports for name, unit in units.items()}
    if not core.loads_alone:
        return max(operations.total() / core.issued, *cycles.values())
    others = (operations.total() - operations["load"]) / core.issued
    return cycles["load"] + max(others, cycles["store"], cycles["arithmetic"])
