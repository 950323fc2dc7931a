"""Subnormal numbers: below 2⁻¹²⁶ a float32 number counts as 0, while a network runs on x86.

A variance that ReLU or pooling leaves far below others, 10⁻³⁰ say, times a weight's variance, and
that squared, ends among them. An x86 processor computes with each such number in microcode, a
hundred times as long as with another, though what they add to any result is below its rounding: in
a trained LeNet-5 they took half of the time.

MXCSR, the processor's control register, has two bits for them (Intel, Software Developer's Manual,
vol. 1, §10.2.3): 15 "flush to zero", for results, and 6 "denormals are zeros", for operands. Both
are set at the beginning of the function, and the register is put back at its end, so that whoever
calls computes as before. Arm cores compute with subnormal numbers as fast as with others.

Range: a result, and each term of a sum, moves by 2⁻¹²⁶ at most, times what follows it.
"""

from __future__ import annotations

import tvm
from tvm import tirx

_FLUSH = 1 << 15 | 1 << 6


def flushed(module: tvm.IRModule) -> tvm.IRModule:
    """The module of one scheduled function, between setting these bits and putting them back.

    Parameters
    ----------
    module : IRModule
        Of a function "main", for x86.
    """
    function = module["main"]
    realize = function.body
    root = realize.block
    state = tirx.decl_buffer((2,), "uint32", name="mxcsr")  # as it was; with the bits

    def register(action: str, index: int):
        place = tirx.address_of(tirx.BufferLoad(state, [index]))
        return tirx.Evaluate(tirx.call_llvm_intrin("void", f"llvm.x86.sse.{action}mxcsr", place))

    with_bits = tirx.bitwise_or(tirx.BufferLoad(state, [0]), tirx.const(_FLUSH, "uint32"))
    body = tirx.SeqStmt(
        [
            register("st", 0),
            tirx.BufferStore(state, with_bits, [1]),
            register("ld", 1),
            root.body,
            register("ld", 0),
        ]
    )
    root = type(root)(
        root.iter_vars,
        root.reads,
        root.writes,
        root.name_hint,
        body,
        root.init,
        [*root.alloc_buffers, state],
        root.match_buffers,
        root.annotations,
    )
    realize = type(realize)(realize.iter_values, realize.predicate, root)
    return tvm.IRModule({"main": function.with_body(realize)})
