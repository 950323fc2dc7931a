"""What an operator executes on the emulated core, beside what it has to.

    floor = operations / (2 · lanes)

fused multiply-adds of whole vectors, each with a product and a sum a lane: the arithmetic of
`kernels.roofline`, without loads. Weights have to be loaded besides, `lanes` numbers a vector; an
instruction can load two vectors, so that fewer instructions may do it. A batch that fits no tile
loads them more than once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kernels import roofline
from kernels.devices.innermost_loops import Loop, innermost
from kernels.devices.instructions import InstructionCount, count
from kernels.kernel import build
from kernels.network import program
from kernels.targets import Target
from refbnn.network import Network


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
    net: Network, batch: int, target: Target, schedules: Sequence[str], records: Path | None
) -> list[Counted]:
    """Count every operator of the network by itself.

    Parameters
    ----------
    net : Network
    batch : int
    target : Target
    schedules : names, as of `kernels.compile_network`
    records : Path, optional
        Folder of records of tuning.
    """
    rng = np.random.default_rng(0)
    found = []
    whole = program(net, batch, target)
    for layer, (name, make) in zip(net.layers, whole.operators, strict=True):
        alone = make()
        work = roofline.work(layer, alone, "variance")
        instructions, loops = {}, {}
        for schedule in schedules:
            kernel = build(alone, schedule, records, "emulated")
            assert kernel.blocks is not None  # of the emulated core
            for view in kernel.inputs:
                view[...] = rng.random(view.shape)
            blocks = kernel.blocks()
            instructions[schedule] = count(blocks)
            loops[schedule] = next(iter(innermost(blocks)), None)
        found.append(
            Counted(
                name=name,
                floor=-(-work.operations // (2 * target.lanes)),
                weight_vectors=-(-work.n_weights // target.lanes),
                products=work.products,
                instructions=instructions,
                loops=loops,
            )
        )
    return found
