"""Loops written out, for what te cannot say: as many rounds as the numbers ask for, and branches.

te computes each element of a tensor by one expression, over as many steps for all. A stage written
here is a loop over vectors of elements with statements inside, built by TVM's script builder. To
schedules it is a block within one loop, over the first axis: images can be merged over it, and the
loops inside stay as they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import s_tir, te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as script


def stage(
    name: str,
    shape: Sequence[int],
    inputs: Sequence[te.Tensor],
    constants: Sequence[te.Tensor],
    results: int,
    lanes: int,
    body: Callable,
) -> list[te.Tensor]:
    """Tensors of one shape that loops compute together.

    Parameters
    ----------
    name : str
        Of the block.
    shape : sequence of int
        Of each result; the last axis is a multiple of the lanes.
    inputs : sequence of tensors, each with the same first axis
        What the loops read.
    constants : sequence of tensors
        What else they read.
    results : int
        How many.
    lanes : int
    body : callable (ins, outs, place)
        Writes one vector of the results, by statements of the builder. `ins`, constants last, and
        `outs` are buffers, and place(lane) is the index of an element of the vector in `shape`.
    """

    def part(buffer, i):
        """What belongs to index i of the first axis; all of a constant."""
        constant = buffer.name in [tensor.op.name for tensor in constants]
        first, *others = [slice(0, extent) for extent in buffer.shape]
        return buffer[(first if constant else i, *others)]

    def statements(ins, outs):
        with IRBuilder() as builder:
            with script.serial(shape[0]) as first, script.sblock(name):
                i = script.axis.spatial(shape[0], first)
                script.reads(*[part(buffer, i) for buffer in ins])
                script.writes(*[part(buffer, i) for buffer in outs])
                with script.grid(*shape[1:-1], shape[-1] // lanes) as inner:
                    *middle, vector = [inner] if isinstance(inner, tirx.Var) else inner
                    body(ins, outs, lambda lane: (i, *middle, vector * lanes + lane))
            return builder.get()

    def buffers(tensors, names):
        return [
            tirx.decl_buffer(tensor, "float32", name)
            for tensor, name in zip(tensors, names, strict=True)
        ]

    shapes = [tuple(shape)] * results
    inputs = [*inputs, *constants]
    return te.extern(
        shapes,
        inputs,
        statements,
        name=name,
        dtype=["float32"] * results,
        in_buffers=buffers([t.shape for t in inputs], [t.op.name for t in inputs]),
        out_buffers=buffers(shapes, [f"{name}_v{result}" for result in range(results)]),
    )


def unwrapped(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """The function of te with these loops among its others: te puts a block around each."""
    realize = function.body
    root = realize.block
    blocks = root.body.seq if isinstance(root.body, tirx.SeqStmt) else [root.body]
    bare = [
        block.block.body if isinstance(block, s_tir.SBlockRealize) else block for block in blocks
    ]
    root = type(root)(
        root.iter_vars,
        root.reads,
        root.writes,
        root.name_hint,
        tirx.SeqStmt(bare) if len(bare) > 1 else bare[0],
        root.init,
        root.alloc_buffers,
        root.match_buffers,
        root.annotations,
    )
    return function.with_body(type(realize)(realize.iter_values, realize.predicate, root))
