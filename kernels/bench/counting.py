"""What an operator executes on the emulated core, beside what it has to.

    floor = operations / (2 · lanes)

fused multiply-adds of whole vectors, each with a product and a sum a lane: the arithmetic of
`kernels.bench.roofline`, without loads. Weights have to be loaded besides, `lanes` numbers a
vector; an instruction can load two vectors, so that fewer instructions may do it. A batch that fits
no tile loads them more than once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kernels.bench.operators import one_by_one
from kernels.devices.emulated_arm.innermost_loops import Loop, innermost
from kernels.devices.instructions import InstructionCount, count
from kernels.devices.targets import Target
from refbnn.network.network import Network


@dataclass(frozen=True)
class Counted:
    """One layer of the compiled network by itself.

    Parameters
    ----------
    name : str
        Its index and kind.
    floor : int
        Fused multiply-adds that it needs at least.
    weight_vectors : int
        To load at least.
    products : int
        Multiply-accumulates: of a weight and an input.
    instructions : dict of schedule to InstructionCount
    loops : dict of schedule to Loop, or None
        That which executes most of them.
    """

    name: str
    floor: int
    weight_vectors: int
    products: int
    instructions: dict[str, InstructionCount]
    loops: dict[str, Loop | None]


def operators(
    net: Network, x: np.ndarray, target: Target, schedules: Sequence[str], records: Path | None
) -> list[Counted]:
    """Count every operator of the network by itself; parameters as of `comparison.calls`."""
    found = []
    for operator in one_by_one(net, x, target):
        work, instructions, loops = operator.work, {}, {}
        for schedule in schedules:
            kernel = operator.kernel(schedule, records, "emulated")
            assert kernel.blocks is not None  # of the emulated core
            blocks = kernel.blocks()
            instructions[schedule] = count(blocks)
            loops[schedule] = next(iter(innermost(blocks)), None)
        found.append(
            Counted(
                name=operator.name,
                floor=-(-work.operations // (2 * target.lanes)),
                weight_vectors=-(-work.n_weights // target.lanes),
                products=work.products,
                instructions=instructions,
                loops=loops,
            )
        )
    return found
