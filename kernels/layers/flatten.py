"""Flatten: images as rows, channel after channel, row after row.

Nothing is computed. The pixels are copied, as the layouts of images are in another order and have
gaps: of the time of a LeNet-5, less than one part in a hundred.
"""

from __future__ import annotations

from functools import partial
from math import prod

import tvm
from tvm import te, tirx

from kernels.layers import images
from kernels.layers.images import Packs
from kernels.program.program import Activation, Program, Rows, Step


def add(program: Program, name: str, x: Activation) -> Activation:
    """Apply the layer to images.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks.
    x : Activation of images
    """
    source = images.images(x)
    _, height, width = source.shape
    layout = Rows(prod(source.shape), program.target.lanes)

    def feature(tensor):
        def at(i, k):
            place = source.index(k // (height * width), k // width % height, k % width)
            there = tensor[(i, *place)]
            return tirx.if_then_else(k < layout.n, there, tirx.const(0.0, "float32"))

        return at

    parts = {"mean": x.mean} if x.var is None else {"mean": x.mean, "var": x.var}
    rows = {
        part: te.compute(layout.tensor_shape(program.batch), feature(tensor), f"{name}_{part}")
        for part, tensor in parts.items()
    }
    program.steps.append(
        Step(
            workload=f"flatten {'x'.join(map(str, source.shape))} batch {program.batch}",
            by_hand={},
            space={},
            transform=partial(
                schedule,
                blocks=[f"{name}_{part}" for part in parts],
                height=height,
                width=width,
                lanes=source.lanes if isinstance(source, Packs) else 1,
            ),
        )
    )
    return Activation(layout, rows["mean"], rows.get("var"))


def schedule(
    sch: tvm.s_tir.Schedule, decisions, blocks: list[str], height: int, width: int, lanes: int
) -> None:
    """Say how it is computed: one decision a paragraph."""
    for block in blocks:
        # By channel, row and column: places in memory are then sums, where a loop over all pixels
        # divides for each (1400 instructions for 16 × 5 × 5 on the emulated A72, not 19 400).
        _, k = sch.get_loops(sch.get_sblock(block))
        pack, _, _, column = sch.split(k, [None, lanes, height, width])

        # A row as small as behind convolutions is unrolled; LLVM sees to others.
        if width <= 16:
            sch.unroll(column)

        # Zeros after the last pixel get a loop of their own, so that whole images test nothing.
        sch.annotate(pack, "pragma_loop_partition_hint", True)
