"""The files of a deployed network as text: templates that lie beside, filled in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from kernels.deploy.function import Function
from kernels.deploy.test_vector import TOLERANCE, Vector
from kernels.program.compiled import INFINITY_BITS
from kernels.program.program import Layout, Program
from refbnn.layers.moments import Moments

ALIGNMENT = 64  # bytes: as TVM expects of arrays
_SINGLES = ALIGNMENT // 4  # float32 numbers

_BEGINNING_OF_C = """
#include <math.h>
#include <stdbool.h>
#include <string.h>

static inline float float_of(int32_t bits) {
  float number;
  memcpy(&number, &bits, sizeof number);
  return number;
}

static inline uint32_t bits_of(float number) {
  uint32_t bits;
  memcpy(&bits, &number, sizeof bits);
  return bits;
}
"""


def filled(template: str, **words: object) -> str:
    """Fill in the template of that name."""
    text = Path(__file__).with_name(template).read_text(encoding="utf-8")
    return Template(text).substitute(words)


def header(name: str, program: Program, memory_bytes: int, words: dict[str, Any]) -> str:
    """NAME.h; further words are those of the template that tell how the network was compiled."""
    inputs, outputs = (layout.shape for layout, _ in (program.inputs[0], program.outputs[0]))
    return filled(
        "network.h",
        name=name,
        upper=name.upper(),
        batch=program.batch,
        inputs=np.prod(inputs),
        outputs=np.prod(outputs),
        input_shape=_shape(inputs),
        output_shape=_shape(outputs),
        lanes=program.target.lanes,
        alignment=ALIGNMENT,
        weights_bytes=4 * sum(_whole(values.size) for _, values in program.weights),
        weights_table="\n".join(_table(program)),
        memory_bytes=memory_bytes,
        **words,
    )


def memory_bytes(program: Program, work: Sequence[tuple[str, int]]) -> int:
    """Static memory of a network: inputs, outputs and temporary memory; as `source` lays it out."""
    return sum(ALIGNMENT * -(-_bytes(c, n) // ALIGNMENT) for _, c, n in _arrays(program, work))


def source(name: str, program: Program, n_moments: int, function: Function) -> str:
    """NAME.c: weights, memory, the function around the kernel; of C the kernel too.

    Parameters
    ----------
    name : str
    program : Program
        With its checks.
    n_moments : int
        Outputs that are moments: mean and variance, or mean alone.
    function : Function
        NAME_kernel.
    """
    arrays = _arrays(program, function.work)
    weights = [f"(float *)weights + {offset}" for offset in _offsets(program)]
    names = [array for array, _, _ in arrays]
    arguments = [*names[:1], *weights, *names[1:]]
    types = ["float"] * (1 + len(weights)) + [c_type for _, c_type, _ in arrays[1:]]
    kernel = function.code
    if not isinstance(kernel, str):
        kernel = (
            f'__attribute__((visibility("hidden"))) void {name}_kernel(\n'
            f"    {', '.join(f'{c_type} *' for c_type in types)});\n"
        )
    (layout, _), *_ = program.inputs
    rows, columns, pitch = _rows(layout, program.batch)
    out_layout, _ = program.outputs[0]
    out_rows, out_columns, out_pitch = _rows(out_layout, program.batch)
    results = [
        f"  copy_rows({moment}, {out_columns}, output_{index}, {out_pitch}, {out_rows}, "
        f"{out_columns});"
        for index, moment in enumerate(("mean", "var")[:n_moments])
    ]
    if n_moments == 1:
        results.append(f"  for (int i = 0; i < {out_rows * out_columns}; ++i) var[i] = 0;")
    codes = ("BAD_INPUT", "BAD_MEAN", "BAD_VARIANCE")
    return filled(
        "network.c",
        name=name,
        upper=name.upper(),
        beginning=_BEGINNING_OF_C if isinstance(function.code, str) else "",
        infinity_bits=f"{INFINITY_BITS:#x}u",
        weights=_weights(program),
        memory="\n".join(f"static _Alignas({ALIGNMENT}) {c} {a}[{n}];" for a, c, n in arrays),
        kernel=kernel,
        input_pitch=pitch,
        input_rows=rows,
        input_columns=columns,
        arguments=", ".join(arguments),
        checks="\n".join(
            f"  if (output_{n_moments + index}[0] >= INFINITY_BITS) return {name.upper()}_{code};"
            for index, code in enumerate(codes[: 1 + n_moments])
        ),
        results="\n".join(results),
    )


def main(name: str, library: str, command: str, bits: bool) -> str:
    """main.c"""
    compared = """\
  int same = memcmp(mean, kernel_mean, sizeof mean) == 0;
  same &= memcmp(var, kernel_var, sizeof var) == 0;
  printf("bits of the kernel as Python drives it: %s\\n", same ? "the same" : "OTHERS");"""
    return filled(
        "main.c",
        name=name,
        upper=name.upper(),
        library=library,
        command=command,
        bits=compared if bits else "",
    )


def test_vector(name: str, vector: Vector, n_layers: int, kernel: Moments | None) -> str:
    """NAME_test.h; with what the kernel gave here, if that is to be compared."""
    bits = ""
    if kernel is not None:
        bits = (
            "\n/* Results of the same kernel, driven from Python. */\n"
            f"static const float kernel_mean[] = {{\n{_numbers(kernel.mean)}}};\n\n"
            f"static const float kernel_var[] = {{\n{_numbers(kernel.var)}}};\n"
        )
    return filled(
        "network_test.h",
        name=name,
        tolerance=TOLERANCE,
        layers=n_layers,
        mean_tolerance=repr(vector.mean_tolerance),
        var_tolerance=repr(vector.var_tolerance),
        x=_numbers(vector.x),
        mean=_numbers(vector.expected.mean),
        var=_numbers(vector.expected.var),
        kernel=bits,
    )


def _arrays(program: Program, work: Sequence[tuple[str, int]]) -> list[tuple[str, str, int]]:
    """Static arrays: name, type in C and length of the input, the outputs and temporary memory."""
    (_, x), *_ = program.inputs
    own = [("input", "float", _length(x))]
    for index, (_, tensor) in enumerate(program.outputs):
        c_type = "float" if str(tensor.dtype.dtype) == "float32" else "uint32_t"
        own.append((f"output_{index}", c_type, _length(tensor)))
    return own + [(f"work_{index}", c_type, n) for index, (c_type, n) in enumerate(work)]


def _length(tensor) -> int:
    return int(np.prod([int(n) for n in tensor.shape]))


def _bytes(c_type: str, n: int) -> int:
    return n * (4 if c_type == "float" else np.dtype(c_type.removesuffix("_t")).itemsize)


def _rows(layout: Layout, batch: int) -> tuple[int, int, int]:
    """Rows of an array, numbers in one, and how far apart they begin in the kernel's memory."""
    *rows, pitch = layout.tensor_shape(batch)
    return int(np.prod(rows)), layout.shape[-1], pitch


def _whole(n: int) -> int:
    """Numbers rounded up to the alignment."""
    return -(-n // _SINGLES) * _SINGLES


def _offsets(program: Program) -> list[int]:
    """Where each array of weights begins, in numbers."""
    ends = np.cumsum([0, *(_whole(values.size) for _, values in program.weights)])
    return ends[:-1].tolist()


def _weights(program: Program) -> str:
    """All weights in one array, where there are any."""
    if not program.weights:
        return ""
    padded = [np.pad(v.ravel(), (0, _whole(v.size) - v.size)) for _, v in program.weights]
    packed = np.concatenate(padded)
    declared = f"static const _Alignas({ALIGNMENT}) float weights[{packed.size}]"
    return f"{declared} = {{\n{_numbers(packed)}}};\n"


def _table(program: Program) -> Iterable[str]:
    yield " *   byte        shape                          array"
    for offset, (tensor, values) in zip(_offsets(program), program.weights, strict=True):
        yield f" *   {4 * offset:<11} {_shape(values.shape):<30} {tensor.op.name}"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _numbers(values: np.ndarray) -> str:
    """Numbers as C writes them, some to a line; the shortest that are read as the same."""
    suffix = "f" if values.dtype == np.float32 else ""
    flat = values.ravel()
    lines = (flat[i : i + 8] for i in range(0, flat.size, 8))
    return "".join(f"  {', '.join(f'{number!s}{suffix}' for number in line)},\n" for line in lines)
