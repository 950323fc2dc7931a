"""Count the operations on real numbers that tensors are computed from.

Each counts as one, also a division or a root; a fused multiply-add as two. A subexpression that
occurs twice in an expression counts once. Loops that are written out (`kernels.program.loops`)
count the least: one round where data decide the number of rounds, and the shorter of two branches.
"""

from __future__ import annotations

from math import prod

import tvm
from tvm import te, tirx

_PARTS = ("a", "b", "value", "body", "condition", "true_value", "false_value")
_CALLS = {"refbnn.kept": 0, "tirx.fma": 2}  # any other call: 1


def count(tensors: list[te.Tensor]) -> int:
    """Count the operations from the inputs to these tensors."""
    stages, waiting = {}, [tensor.op for tensor in tensors]
    while waiting:
        op = waiting.pop()
        if op.name in stages or isinstance(op, te.PlaceholderOp):
            continue
        if isinstance(op, te.ComputeOp):
            extents = [int(axis.dom.extent) for axis in [*op.axis, *op.reduce_axis]]
            # Mean and variance are two expressions that share most operations: the larger counts.
            stages[op.name] = prod(extents) * max(_in_expression(part) for part in op.body)
        else:
            stages[op.name] = _in_statement(op.body)
        waiting += [tensor.op for tensor in op.input_tensors]
    return sum(stages.values())


def _in_statement(s) -> int:
    """Count the operations of a statement in loops that are written out."""
    match s:
        case tirx.For():
            rounds = int(s.extent) if isinstance(s.extent, tirx.IntImm) else 1
            return rounds * _in_statement(s.body)
        case tirx.SeqStmt():
            return sum(_in_statement(part) for part in s.seq)
        case tirx.IfThenElse():
            otherwise = 0 if s.else_case is None else _in_statement(s.else_case)
            return _in_expression(s.condition) + min(_in_statement(s.then_case), otherwise)
        case tvm.s_tir.SBlockRealize():
            return _in_statement(s.block.body)
        case tirx.BufferStore() | tirx.Bind():
            return _in_expression(s.value)
        case tirx.AllocBuffer():
            return 0
    raise NotImplementedError(type(s).__name__)


def _in_expression(expression) -> int:
    """Count the operations of one expression, each subexpression once."""
    visited: set[int] = set()
    n, waiting = 0, [expression]
    while waiting:
        e = waiting.pop()
        if hash(e) in visited or isinstance(e, te.Tensor):
            continue
        visited.add(hash(e))
        if isinstance(e, tirx.Reduce):
            n += len(e.source)  # one sum a source; each part of a joint reduction holds all sources
            waiting += list(e.source)
            continue
        below = [getattr(e, name) for name in _PARTS if hasattr(e, name)]
        own = int(hasattr(e, "b"))
        if isinstance(e, tvm.ir.Call):
            below = list(e.args)
            own = 0 if _reads(e) else _CALLS.get(e.op.name, 1)
        n += own * (own > 0 and str(below[0].ty).startswith("float"))
        waiting += below
    return n


def _reads(call) -> bool:
    """Whether a call reads an entry of a tensor."""
    return bool(call.args) and isinstance(call.args[0], te.Tensor)
