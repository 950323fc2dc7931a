"""Noise of any law from random words, in a kernel: the table of `refbnn.noise.word_table`.

One expression serves all laws: a law is its table, data. In float32 the error is at most
`SINGLE_ERROR` max(1, |z|).
"""

from __future__ import annotations

import numpy as np
from tvm import te, tirx

from kernels.devices import Board, targets
from kernels.program.kernel import Kernel
from kernels.program.kernel import build as build_program
from kernels.program.program import Plain, Program
from refbnn.noise.law import Law
from refbnn.noise.word_table import WordTable, word_table


def _i32(value: int):
    return tirx.const(value, "int32")


def _u32(value: int):
    return tirx.const(value, "uint32")


def value(word, table: WordTable, coefficients: te.Tensor):
    """The number of a law that belongs to a word.

    Parameters
    ----------
    word : TVM expression, uint32
        A load, because the expression is written out several times.
    table : WordTable
    coefficients : tensor of the table's shape, float32
    """
    # The two cuts around the word, from its comparisons with all cuts.
    lower, upper, sides = _u32(0), _u32(2**32 - 1), _i32(0)
    inner = [int(cut) for cut in table.cuts[1:-1]]
    for j, cut in enumerate(inner, start=1):
        lower = tirx.Select(word >= _u32(cut), _u32(cut), lower)
        sides = tirx.Select(word >= _u32(cut), _i32(2 * j * table.entries), sides)
    for cut in reversed(inner):
        upper = tirx.Select(word < _u32(cut), _u32(cut - 1), upper)
    below, above = word - lower, upper - word
    side = sides + tirx.Select(above < below, _i32(table.entries), _i32(0))
    d = te.min(below, above).astype("int32").astype("float32")

    # Written out wherever it is used, because an index may not contain variables.
    bits = tirx.reinterpret("int32", d + tirx.const(0.5, "float32"))
    index = tirx.shift_right(bits, _i32(table.shift)) + (side - _i32(table.first))
    one = int(np.float32(1.0).view(np.int32))
    rest = (bits & _i32((1 << table.shift) - 1)) | _i32(one)
    fraction = tirx.reinterpret("float32", rest) - tirx.const(1.0, "float32")
    tau = tirx.Var("tau", "float32")
    a0, a1, a2, a3 = (coefficients[index, k] for k in range(4))
    return tirx.Let(tau, fraction, ((a3 * tau + a2) * tau + a1) * tau + a0)


def build(
    law: Law, n: int, target: str = "host", schedule: str = "hand", device: str | Board = "local"
) -> Kernel:
    """Compile the table alone.

    Both schedules are one loop, left to LLVM. It loads from the table by gathers where the target
    has them.

    Parameters
    ----------
    law : Law
    n : int
        Number of words in one call.
    target, schedule, device
        As in `kernels.compile_network`.

    Returns
    -------
    Kernel
        Called with words, (n,) uint32; gives numbers of the law, (n,).
    """
    program = Program(targets.target(target), 1)
    words = te.placeholder((n,), "uint32", name="words")
    program.inputs.append((Plain((n,)), words))
    table = word_table(law)
    coefficients = program.weight("law", table.coefficients)
    z = te.compute((n,), lambda i: value(words[i], table, coefficients), name="z")
    program.outputs.append((Plain((n,)), z))
    return build_program(program, schedule, device=device)
