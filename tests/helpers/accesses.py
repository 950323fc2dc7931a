"""Which places a scheduled kernel touches: every index of every loop, evaluated.

Of a kernel lowered to loops over flat buffers, before they become vectors. An index is affine in
loop variables but for `//`, `%`, min and max: evaluated over all turns of all loops at once, an
array with one axis a loop. What depends on data, such as an entry of a table, is not looked at.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm
from tvm import s_tir, tirx

_PASSES = (
    s_tir.transform.CanonicalizeLoop,
    s_tir.transform.LowerInitBlock,
    s_tir.transform.PlanAndUpdateBufferAllocationLocation,
    s_tir.transform.ConvertBlocksToOpaque,
    s_tir.transform.CompactBufferAllocation,
    s_tir.transform.LowerMatchBuffer,
    tirx.transform.StmtSimplify,
    s_tir.transform.LowerOpaqueBlock,
    tirx.transform.FlattenBuffer,
    s_tir.transform.LoopPartition,
)
_BINARY = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "FloorDiv": np.floor_divide,
    "FloorMod": np.mod,
    "Min": np.minimum,
    "Max": np.maximum,
    "LT": np.less,
    "LE": np.less_equal,
    "GT": np.greater,
    "GE": np.greater_equal,
    "EQ": np.equal,
    "NE": np.not_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
}


def outside(module: tvm.IRModule) -> list[str]:
    """Accesses beyond a buffer's first or last entry, as text; none in a sound kernel."""
    for make in _PASSES:
        module = make()(module)
    walk = _Walk({}, np.True_, 0, [])
    walk.statement(module["main"].body)
    return walk.found


@dataclass
class _Walk:
    """Walk down a program.

    Parameters
    ----------
    values : of loop variables, by variable
    inside : array of bool
        In which turns of the loops this place is reached.
    loops : int
        How many are around it.
    found : list of str
    """

    values: dict[Any, np.ndarray]
    inside: Any
    loops: int
    found: list[str]

    def statement(self, s) -> None:
        """Look at a statement and all below it."""
        match type(s).__name__:
            case "SeqStmt":
                for part in s.seq:
                    self.statement(part)
            case "For":
                self.loop(s)
            case "IfThenElse":
                self.under(s.condition).statement(s.then_case)
                if s.else_case is not None:
                    self.under(s.condition, negated=True).statement(s.else_case)
            case "AttrStmt":
                self.statement(s.body)
            case "BufferStore":
                self.value(s.value)
                self.access(s.buffer, s.indices)
            case "Evaluate":
                self.value(s.value)
            case "Bind":
                self.values[s.var] = self.value(s.value)
            case "AllocBuffer" | "DeclBuffer":
                pass
            case kind:
                raise NotImplementedError(kind)

    def loop(self, s) -> None:
        """Give the variable all its values, along an axis of its own; none where data decide."""
        if not isinstance(s.extent, tirx.IntImm):
            self.value(s.extent)
            replace(self, values=dict(self.values)).statement(s.body)
            return
        turns = np.arange(int(s.min), int(s.min) + int(s.extent))
        axes = (-1,) + (1,) * self.loops
        below = replace(self, values=dict(self.values), loops=self.loops + 1)
        below.values[s.loop_var] = turns.reshape(axes)
        below.statement(s.body)

    def under(self, condition, negated: bool = False) -> "_Walk":
        """The same walk where a condition holds, or does not."""
        holds = self.value(condition)
        if holds is None:
            return self
        return replace(self, inside=self.inside & (~holds if negated else holds))

    def access(self, buffer, indices) -> None:
        """Compare an index with its buffer's size."""
        (index,), (size,) = indices, buffer.shape
        at = self.value(index)
        if at is None:
            return
        beyond = self.inside & ((at < 0) | (at >= int(size)))
        if np.any(beyond):
            self.found.append(f"{buffer.name}[{index}], of {size}")

    def value(self, e):
        """Evaluate an expression at all turns; None where it depends on data."""
        kind = type(e).__name__
        if hasattr(e, "b"):
            a, b = self.value(e.a), self.value(e.b)
            known = kind in _BINARY and a is not None and b is not None
            return _BINARY[kind](a, b) if known else None
        match kind:
            case "IntImm":
                return np.asarray(int(e.value))
            case "Var":
                return self.values.get(e)
            case "Broadcast":
                return self.value(e.value)
            case "Ramp":
                first = self.value(e.base)
                lanes = np.arange(int(e.lanes)).reshape((-1,) + (1,) * self.loops)
                return None if first is None else first + int(e.stride) * lanes
            case "Not":
                a = self.value(e.a)
                return None if a is None else ~a
            case "Cast":
                return self.value(e.value)
            case "TensorLoad":
                self.access(e.source, e.indices)
                return None
            case "Select":
                # Both are evaluated, whatever the condition.
                return self.chosen(e.condition, self.value(e.true_value), self.value(e.false_value))
            case "Let":
                self.values[e.var] = self.value(e.value)
                return self.value(e.body)
            case "Call" if e.op.name.endswith("if_then_else"):
                condition, there, elsewhere = e.args
                return self.chosen(
                    condition,
                    self.under(condition).value(there),
                    self.under(condition, negated=True).value(elsewhere),
                )
            case "Call" if e.op.name.endswith("likely"):
                return self.value(e.args[0])
            case "Call":
                for argument in e.args:
                    self.value(argument)
                return None
        if kind in ("FloatImm", "StringImm"):
            return None
        raise NotImplementedError(kind)

    def chosen(self, condition, there, elsewhere):
        """One of two values."""
        holds = self.value(condition)
        known = holds is not None and there is not None and elsewhere is not None
        return np.where(holds, there, elsewhere) if known else None
