"""Loops written out, for what te cannot express: branches, and iterations that depend on data.

te computes each element of a tensor by one expression, with equally many steps for all. A stage
written here is a loop over vectors of elements with statements inside, built by TVM's script
builder. Schedules see it as a block within one loop, over the first axis: they can merge loops over
images, and the loops inside stay as they are written.
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
    together: int = 1,
) -> list[te.Tensor]:
    """Tensors of one shape that loops compute together.

    Parameters
    ----------
    name : str
        Name of the block.
    shape : sequence of int
        Shape of each result; the last axis is a multiple of the lanes.
    inputs : sequence of tensors, each with the same first axis
        Tensors that are read image by image.
    constants : sequence of tensors
        Tensors that every image reads whole.
    results : int
        Number of results.
    lanes : int
    body : callable (ins, outs, place)
        Writes one vector of the results, by statements of the builder. `ins`, constants last, and
        `outs` are buffers, and place(lane) is the index of an element of the vector in `shape`.
    together : int
        Number of vectors that body writes, neighbours on the last axis but one; `place` is then a
        list of such functions, shorter for the last ones.
    """
    tensors = [*inputs, *constants]
    shapes, types = [tuple(shape)] * results, ["float32"] * results
    whole = {tensor.op.name for tensor in constants}
    return te.extern(
        shapes,
        tensors,
        lambda ins, outs: _nest(name, shape, ins, outs, whole, lanes, body, together),
        name=name,
        dtype=types,
        in_buffers=[tirx.decl_buffer(t.shape, "float32", t.op.name) for t in tensors],
        out_buffers=[
            tirx.decl_buffer(shape, "float32", f"{name}_v{result}")
            for result, shape in enumerate(shapes)
        ],
    )


def _nest(name, shape, ins, outs, whole, lanes, body, together):
    """Write a block within one loop, around loops over the vectors; parameters as of `stage`.

    The block reads all of the buffers that are named in `whole`.
    """

    def part(buffer, i):
        first, *others = [slice(0, extent) for extent in buffer.shape]
        return buffer[(first if buffer.name in whole else i, *others)]

    def loops(i, first, count, size):
        """Vectors from `first` on, `size` of them together, `count` times."""
        extents = [*shape[1:-2], count, shape[-1] // lanes]
        with script.grid(*extents[-len(shape) + 1 :]) as inner:
            *middle, vector = [inner] if isinstance(inner, tirx.Var) else inner

            def place(beside):
                row = [*middle[:-1], middle[-1] * size + (first + beside)] if middle else []
                return lambda lane: (i, *row, vector * lanes + lane)

            places = [place(beside) for beside in range(size)]
            body(ins, outs, places if together > 1 else places[0])

    count, rest = divmod(shape[-2] if len(shape) > 2 else 1, together)
    with IRBuilder() as builder:
        with script.serial(shape[0]) as first, script.sblock(name):
            i = script.axis.spatial(shape[0], first)
            script.reads(*[part(buffer, i) for buffer in ins])
            script.writes(*[part(buffer, i) for buffer in outs])
            if count:
                loops(i, 0, count, together)
            if rest:
                loops(i, count * together, 1, rest)
        return builder.get()


def by_rows(
    name: str,
    rows: int,
    inputs: Sequence[te.Tensor],
    constants: Sequence[te.Tensor],
    results: Sequence[tuple[Sequence[int], str]],
    work: Sequence[tuple[Sequence[int], str]],
    body: Callable,
) -> list[te.Tensor]:
    """Tensors that loops compute together, row after row.

    Parameters
    ----------
    name : str
        Name of the block.
    rows : int
        Number of rows.
    inputs : sequence of tensors, each with a first axis of that length
        Tensors that are read row by row.
    constants : sequence of tensors
        Tensors that every row reads whole.
    results : sequence of (shape, type), each with a first axis of that length
    work : sequence of (shape, type)
        Arrays that every row uses anew, or writes a part of.
    body : callable (ins, outs, row)
        Writes one row of the results, by statements of the builder. `ins` are buffers, constants
        last, and `outs` are the results and `work`.
    """
    tensors = [*inputs, *constants]
    shapes = [*results, *work]

    def nest(ins, outs):
        with IRBuilder() as builder:
            with script.serial(rows) as first, script.sblock(name):
                row = script.axis.spatial(rows, first)

                def part(buffer, by_row):
                    axis, *others = [slice(0, extent) for extent in buffer.shape]
                    return buffer[(row if by_row else axis, *others)]

                script.reads(*[part(b, k < len(inputs)) for k, b in enumerate(ins)])
                script.writes(*[part(b, k < len(results)) for k, b in enumerate(outs)])
                body(ins, outs, row)
            return builder.get()

    return te.extern(
        [tuple(shape) for shape, _ in shapes],
        tensors,
        nest,
        name=name,
        dtype=[kind for _, kind in shapes],
        in_buffers=[tirx.decl_buffer(t.shape, t.dtype, t.op.name) for t in tensors],
        out_buffers=[
            tirx.decl_buffer(shape, kind, f"{name}_v{index}")
            for index, (shape, kind) in enumerate(shapes)
        ],
    )


def unwrapped(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Put these loops among the function's others: te wraps a block around each."""
    body = function.body.block.body
    blocks = body.seq if isinstance(body, tirx.SeqStmt) else [body]
    bare = [
        block.block.body if isinstance(block, s_tir.SBlockRealize) else block for block in blocks
    ]
    return with_body(function, tirx.SeqStmt(bare) if len(bare) > 1 else bare[0])


def with_body(function: tirx.PrimFunc, body: tirx.Stmt, *buffers: tirx.Buffer) -> tirx.PrimFunc:
    """Replace the body of a function's root block, which may allocate more buffers."""
    realize = function.body
    root = realize.block
    block = type(root)(
        root.iter_vars,
        root.reads,
        root.writes,
        root.name_hint,
        body,
        root.init,
        [*root.alloc_buffers, *buffers],
        root.match_buffers,
        root.annotations,
    )
    return function.with_body(type(realize)(realize.iter_values, realize.predicate, block))
