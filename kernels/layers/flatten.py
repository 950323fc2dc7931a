"""Flatten: images as rows, channel after channel, row after row.

The layer copies the pixels, because the layouts of images have another order and gaps. The copy
takes less than one hundredth of the time of a LeNet-5.
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

    blocks = [f"{name}_{part}" for part in ("mean", "var")][: len(x.tensors)]
    mean, *var = (
        te.compute(layout.tensor_shape(program.batch), feature(tensor), block)
        for tensor, block in zip(x.tensors, blocks, strict=True)
    )
    lanes = source.lanes if isinstance(source, Packs) else 1
    workload = f"flatten {'x'.join(map(str, source.shape))} batch {program.batch}"
    transform = partial(schedule, blocks=blocks, height=height, width=width, lanes=lanes)
    program.steps.append(Step(workload, {}, {}, transform))
    return Activation(layout, mean, var[0] if var else None)


def schedule(
    sch: tvm.s_tir.Schedule, decisions, blocks: list[str], height: int, width: int, lanes: int
) -> None:
    """Say how it is computed: one decision a paragraph."""
    there = {sch.get(block).name_hint for block in sch.get_child_blocks(sch.get_sblock("root"))}
    for block in blocks:
        if block not in there:  # variances of outputs, of which the covariance tells more
            continue

        # Loops over channel, row and column: addresses are then sums. One loop over all pixels
        # would divide for each (19 400 instructions for 16 × 5 × 5 on the emulated A72, not 1400).
        _, k = sch.get_loops(sch.get_sblock(block))
        pack, _, _, column = sch.split(k, [None, lanes, height, width])

        # A short row, as behind convolutions, is unrolled; LLVM takes care of others.
        if width <= 16:
            sch.unroll(column)

        # Zeros after the last pixel get a loop of their own, so that whole images test nothing.
        sch.annotate(pack, "pragma_loop_partition_hint", True)
