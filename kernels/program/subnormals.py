"""Subnormal numbers: below 2⁻¹²⁶ a float32 number counts as 0, while a network runs on x86.

A variance that ReLU or pooling leaves far below others, 10⁻³⁰ say, becomes subnormal when it is
multiplied by a weight's variance, or squared. An x86 processor computes with subnormal numbers in
microcode, a hundred times slower than with others, though what they add to any result is below its
rounding: in a trained LeNet-5 they took half of the time.

MXCSR, the processor's control register, has two bits for them (Intel, Software Developer's Manual,
vol. 1, §10.2.3): 15 "flush to zero", for results, and 6 "denormals are zeros", for operands. The
function sets both at its beginning and restores the register at its end, so that the caller
computes as before. Arm cores compute with subnormal numbers as fast as with others.

Range: a result, and each term of a sum, moves by 2⁻¹²⁶ at most, times what follows it.
"""

from __future__ import annotations

import tvm
from tvm import tirx

from kernels.program.loops import with_body

_FLUSH = 1 << 15 | 1 << 6


def flushed(module: tvm.IRModule) -> tvm.IRModule:
    """Set these bits around the body of a scheduled function for x86, "main"."""
    function = module["main"]
    state = tirx.decl_buffer((2,), "uint32", name="mxcsr")  # as it was; with the bits

    def register(action: str, index: int):
        place = tirx.address_of(tirx.BufferLoad(state, [index]))
        return tirx.Evaluate(tirx.call_llvm_intrin("void", f"llvm.x86.sse.{action}mxcsr", place))

    with_bits = tirx.bitwise_or(tirx.BufferLoad(state, [0]), tirx.const(_FLUSH, "uint32"))
    statements = [
        register("st", 0),
        tirx.BufferStore(state, with_bits, [1]),
        register("ld", 1),
        function.body.block.body,
        register("ld", 0),
    ]
    return tvm.IRModule({"main": with_body(function, tirx.SeqStmt(statements), state)})
