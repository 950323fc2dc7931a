"""Write the files of a deployed network as text, from the templates in this folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from string import Template

import numpy as np
from tvm import te

from kernels.deploy.function import Function, c_type_of, item_bytes
from kernels.deploy.test_vector import TOLERANCE, Vector
from kernels.program.program import Layout, Program
from refbnn.layers import Normalise
from refbnn.layers.moments import Moments
from refbnn.network.network import Network

ALIGNMENT = 64  # bytes: as TVM expects of arrays
_SINGLES = ALIGNMENT // 4  # float32 numbers
_MOST_CHANNELS = 4  # in one line of the header


def filled(template: str, name: str, **words: object) -> str:
    """Fill in a template for the network of that name."""
    text = Path(__file__).with_name(template).read_text(encoding="utf-8")
    return Template(text).substitute(words, name=name, upper=name.upper())


def header(name: str, program: Program, memory_bytes: int, words: dict[str, str]) -> str:
    """Write NAME.h; further words of the template say how the network was compiled."""
    inputs, outputs = (layout.shape for layout, _ in (program.inputs[0], program.outputs[0]))
    return filled(
        "network.h",
        name,
        batch=program.batch,
        inputs=prod(inputs),
        outputs=prod(outputs),
        input_shape=_shape(inputs),
        output_shape=_shape(outputs),
        lanes=program.target.lanes,
        alignment=ALIGNMENT,
        weights_bytes=4 * sum(_whole(values.size) for _, values in program.weights),
        weights_table="\n".join(_table(program)),
        memory_bytes=memory_bytes,
        **words,
    )


def about_inputs(net: Network) -> str:
    """Lines of a comment: what the network does to its inputs, and the range in training."""
    lines = []
    if net.layers and isinstance(net.layers[0], Normalise):
        lines.append("inputs      x as measured: the network itself computes (x - m)/s first, with")
        for letter, values in (("m", net.layers[0].mean), ("s", net.layers[0].sd)):
            lines.append(f"            {letter} = {_in_words(np.atleast_1d(values))}")
    if net.input_range is not None:
        low, high = net.input_range
        lines.append(f"trained on  x from {low:.9g} to {high:.9g}: expects the same scale")
    return "".join(f" *   {line}\n" for line in lines)


def _in_words(values: np.ndarray) -> str:
    """One number, one a channel, or how many there are."""
    if len(values) <= _MOST_CHANNELS:
        return ", ".join(f"{value:.9g}" for value in values)
    return f"{len(values)} numbers from {values.min():.9g} to {values.max():.9g}"


def memory_bytes(program: Program, work: Sequence[tuple[str, int]]) -> int:
    """Count the static memory of a network, as `source` lays it out: inputs, outputs, work."""
    sizes = [n * item_bytes(c_type) for _, c_type, n in _arrays(program, work)]
    return sum(ALIGNMENT * -(-size // ALIGNMENT) for size in sizes)


def source(name: str, program: Program, function: Function) -> str:
    """Write NAME.c: weights, memory, the function around the kernel; if it is C, the kernel too.

    Parameters
    ----------
    name : str
    program : Program
        With its checks: the outputs are mean, variance where there is one, and the status.
    function : Function
        NAME_kernel.
    """
    arrays = _arrays(program, function.work)
    weights = [f"(float *)weights + {offset}" for offset in _offsets(program)]
    names = [array for array, _, _ in arrays]
    types = ["float"] * (1 + len(weights)) + [c_type for _, c_type, _ in arrays[1:]]
    in_c = isinstance(function.code, str)
    rows, columns, pitch = _rows(program.inputs[0][0], program.batch)
    return filled(
        "network.c",
        name,
        beginning="\n" + filled("functions.c", name) if in_c else "",
        weights=_weights(program),
        memory="\n".join(f"static _Alignas({ALIGNMENT}) {c} {a}[{n}];" for a, c, n in arrays),
        kernel=function.code if in_c else _declaration(name, types),
        input_pitch=pitch,
        input_rows=rows,
        input_columns=columns,
        arguments=", ".join([*names[:1], *weights, *names[1:]]),
        status=f"output_{len(program.outputs) - 1}[0]",
        results="\n".join(_results(program, len(program.outputs) - 1)),
    )


def _declaration(name: str, types: Sequence[str]) -> str:
    """Declare a kernel that is in an object file of its own."""
    return (
        f'__attribute__((visibility("hidden"))) void {name}_kernel(\n'
        f"    {', '.join(f'{c_type} *' for c_type in types)});\n"
    )


def _results(program: Program, n_moments: int) -> Iterable[str]:
    """Statements that copy the outputs of the kernel to the caller's mean and variance."""
    rows, columns, pitch = _rows(program.outputs[0][0], program.batch)
    for index, moment in enumerate(("mean", "var")[:n_moments]):
        yield f"  copy_rows({moment}, {columns}, output_{index}, {pitch}, {rows}, {columns});"
    if n_moments == 1:
        yield f"  for (int i = 0; i < {rows * columns}; ++i) var[i] = 0;"


def main(name: str, library: str, command: str, bits: bool) -> str:
    """Write main.c; `bits` to compare the results with the bits that the kernel gave here."""
    compared = """\
  int same = memcmp(mean, kernel_mean, sizeof mean) == 0;
  same &= memcmp(var, kernel_var, sizeof var) == 0;
  printf("bits of the kernel as Python drives it: %s\\n", same ? "the same" : "OTHERS");"""
    return filled("main.c", name, library=library, command=command, bits=compared if bits else "")


def test_vector(name: str, vector: Vector, n_layers: int, kernel: Moments | None) -> str:
    """Write NAME_test.h, with the kernel's own results if their bits are to be compared."""
    bits = ""
    if kernel is not None:
        bits = (
            "\n/* Results of the same kernel, driven from Python. */\n"
            f"static const float kernel_mean[] = {{\n{_numbers(kernel.mean)}}};\n\n"
            f"static const float kernel_var[] = {{\n{_numbers(kernel.var)}}};\n"
        )
    return filled(
        "network_test.h",
        name,
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
    """List the static arrays: name, C type and length of input, outputs and temporary memory."""

    def array(name: str, tensor: te.Tensor) -> tuple[str, str, int]:
        return name, c_type_of(tensor.dtype.dtype), prod(int(n) for n in tensor.shape)

    own = [array("input", program.inputs[0][1])]
    own += [array(f"output_{i}", tensor) for i, (_, tensor) in enumerate(program.outputs)]
    return own + [(f"work_{index}", c_type, n) for index, (c_type, n) in enumerate(work)]


def _rows(layout: Layout, batch: int) -> tuple[int, int, int]:
    """Count rows, numbers in a row, and numbers from row to row in the kernel's memory."""
    *rows, pitch = layout.tensor_shape(batch)
    return prod(rows), layout.shape[-1], pitch


def _whole(n: int) -> int:
    """Round a number of float32 numbers up to the alignment."""
    return -(-n // _SINGLES) * _SINGLES


def _offsets(program: Program) -> list[int]:
    """Offset of each array of weights, in numbers."""
    ends = np.cumsum([0, *(_whole(values.size) for _, values in program.weights)])
    return ends[:-1].tolist()


def _weights(program: Program) -> str:
    """Declare all weights as one array, if there are any."""
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
    """Write numbers for C, eight to a line: the shortest decimals that are read as the same."""
    suffix = "f" if values.dtype == np.float32 else ""
    flat = values.ravel()
    lines = (flat[i : i + 8] for i in range(0, flat.size, 8))
    return "".join(f"  {', '.join(f'{number!s}{suffix}' for number in line)},\n" for line in lines)
