"""Write NAME.c: weights, and the functions around the kernels; if those are C, they too."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kernels.deploy.memory import Library, Part, parameters
from kernels.deploy.statistics import Statistics
from kernels.deploy.test_vector import SelfTest
from kernels.deploy.written import Written, c_name, numbers, rows, sizes


def source(written: Written, test: SelfTest) -> str:
    """Write NAME.c: weights, the functions around the kernels; if those are C, they too."""
    library, batch = written.library, written.batch
    kernel = library.parts[0]
    in_c = isinstance(kernel.function.code, str)
    n_rows, columns, pitch = rows(written.inputs, batch)
    predict = "" if written.predicted is None else _predict(written, written.predicted)
    results = list(_results(written))
    size = sizes(written)
    return written.filled(
        "network.c",
        beginning=written.filled("functions.c") if in_c else "",
        weights=_weights(written),
        kernels="\n".join(_kernel(written.name, part) for part in library.parts),
        arguments=library.arguments(kernel),
        second=written.second,
        input_pitch=pitch,
        input_rows=n_rows,
        input_columns=columns,
        mean_numbers=size["mean"],
        second_numbers=size[written.second],
        results="\n".join(results),
        predict=predict,
        crc=_crc_loop(library),
        **_of_self_test(written, test),
    )


def _kernel(name: str, part: Part) -> str:
    """A kernel in C, or the declaration of one that is in an object file of its own."""
    if isinstance(part.function.code, str):
        return part.function.code
    types = ", ".join(parameters(part))
    return f'__attribute__((visibility("hidden"))) void {name}_{part.name}(\n    {types});\n'


def _predict(written: Written, predicted: Statistics) -> str:
    """Functions that predict."""
    part = written.library.parts[1]
    _, _, pitch = rows(part.program.outputs[0][0], written.batch)
    words: dict[str, object] = {}
    if predicted.kind == "targets":
        _, n, mean_pitch = rows(written.outputs, written.batch)
        at = f"row * {mean_pitch} + i"
        if written.second == "covariance":
            _, _, second_pitch = rows(part.program.inputs[1][0], written.batch)
            at = f"(row * {n} + i) * {second_pitch} + i"
        words["mean_pitch"] = mean_pitch
        words["epistemic"] = f"work->second[{at}]" if written.has_variance else "0.0f"
    arguments = written.library.arguments(part)
    return written.filled(f"predict_{predicted.kind}.c", arguments=arguments, pitch=pitch, **words)


def _results(written: Written) -> Iterable[str]:
    """Statements that copy the outputs of the kernel to the caller's arrays."""
    program, short = written.library.parts[0].program, c_name(written.second)
    for index, (to, own) in enumerate([("mean", "mean"), (short, "second")]):
        if index and not written.has_variance:
            n = sizes(written)["mean"]
            yield f"  for (int i = 0; i < {n}; ++i) {to}[i] = 0.0f;"
            continue
        n_rows, columns, pitch = rows(program.outputs[index][0], written.batch)
        yield f"  unpadded({to}, work->{own}, {pitch}, {n_rows}, {columns});"


def _crc_loop(library: Library) -> str:
    """Statements that run over the weights, if there are any."""
    n = library.weights().size
    if not n:
        return ""
    return (
        f"  for (size_t i = 0; i < {n}; ++i) {{\n"
        "    uint32_t bits;\n"
        "    memcpy(&bits, &weights[i], sizeof bits);\n"
        "    for (int digit = 0; digit < 8; ++digit, bits >>= 4)\n"
        "      crc = (crc >> 4) ^ table[(crc ^ bits) & 15u];\n"
        "  }\n"
    )


def _of_self_test(written: Written, test: SelfTest) -> dict[str, str]:
    """Words of the template: expected results, and the comparisons."""
    outputs = [layout for layout, _ in written.library.parts[0].program.outputs]
    places = {"mean": ("mean", outputs[0].shape[-1])}
    if written.has_variance:
        places[written.second] = ("second", outputs[1].shape[-1])
    of_moments = [_compared(test, name, *place) for name, place in places.items()]
    declared = [declaration for declaration, _ in of_moments]
    lines = [f"  if (!({' && '.join(comparison for _, comparison in of_moments)})) return 0;"]
    predicted, last = written.predicted, "1"
    if predicted is not None:
        lines.append("  statistics(work);")
        if predicted.kind == "classes":
            if not np.isnan(test.results["probabilities"].expected).any():
                declaration, last = _compared(test, "probabilities", "p", predicted.n)
                declared.append(declaration)
        else:
            declaration, last = _compared(test, "aleatoric", "aleatoric", predicted.n)
            declared.append(declaration)
    tests = "\n".join([*lines, f"  return {last};"])
    return {"expected": "\n".join(declared), "tests": tests, "unit": f"{test.unit.hex()}f"}


def _compared(test: SelfTest, result: str, place: str, width: int) -> tuple[str, str]:
    """Declaration of an expected result, and its comparison with an array of the work.

    One row of the array, `width` numbers at most: what stands behind it is padding.
    """
    expected = test.results[result].expected[:width].astype(np.float32)
    tolerance = f"{np.float32(test.results[result].tolerance)!s}f"
    return (
        f"  static const float expected_{place}[] = {{\n{numbers(expected)}  }};",
        f"near(work->{place}, expected_{place}, {len(expected)}, {tolerance})",
    )


def _weights(written: Written) -> str:
    """Declare all weights as one array, if there are any."""
    packed = written.library.weights()
    if not packed.size:
        return ""
    aligned = f"{written.name.upper()}_ALIGNED"
    declared = f"static const {aligned} float weights[{packed.size}]"
    return f"{declared} = {{\n{numbers(packed)}}};\n"
