"""Write NAME.c: weights, and the functions around the kernels; if those are C, they too."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kernels.deploy.memory import Library, Part, parameters
from kernels.deploy.test_vector import SelfTest
from kernels.deploy.written import Written, c_name, numbers, rows, sizes

# Where the self test finds results in the work, for the first example.
_IN_WORK = {"mean": "mean", "variance": "second", "covariance": "second"}


def source(written: Written, test: SelfTest) -> str:
    """Write NAME.c: weights, the functions around the kernels; if those are C, they too."""
    library, batch = written.library, written.batch
    kernel = library.parts[0]
    in_c = isinstance(kernel.function.code, str)
    n_rows, columns, pitch = rows(written.inputs, batch)
    predict = "" if written.predicted is None else _predict(written)
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


def _predict(written: Written) -> str:
    """Functions that predict."""
    predicted, part = written.predicted, written.library.parts[1]
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
    declared, compared = [], []
    for name, result in test.results.items():
        if name in _IN_WORK:
            if name == "variance" and not written.has_variance:
                continue
            place = "mean" if name == "mean" else "second"
            index = 0 if place == "mean" else 1
            layout = written.library.parts[0].program.outputs[index][0]
            # One row of the memory: what stands behind it is padding.
            n = min(len(result.expected), layout.shape[-1])
            values = np.float32(result.expected[:n])
            declared.append(f"  static const float expected_{place}[] = {{\n{numbers(values)}  }};")
            tolerance = _single(result.tolerance)
            compared.append(f"near(work->{place}, expected_{place}, {n}, {tolerance})")
        elif name == "probabilities" and not np.isnan(result.expected).any():
            values = np.float32(result.expected[: written.predicted.n])
            declared.append(f"  static const float expected_p[] = {{\n{numbers(values)}  }};")
            tolerance = _single(result.tolerance)
            compared.append(f"near(work->p, expected_p, {len(values)}, {tolerance})")
    first = [text for text in compared if "work->p," not in text]
    lines = [f"  if (!({' && '.join(first)})) return 0;"]
    if written.predicted is not None:
        lines.append("  statistics(work);")
    rest = [text for text in compared if "work->p," in text]
    lines.append(f"  return {' && '.join(rest) or '1'};")
    expected = "\n".join(declared)
    return {"expected": expected, "tests": "\n".join(lines), "unit": f"{test.unit.hex()}f"}


def _single(value: float) -> str:
    return f"{np.float32(value)!s}f"


def _weights(written: Written) -> str:
    """Declare all weights as one array, if there are any."""
    packed = written.library.weights()
    if not packed.size:
        return ""
    aligned = f"{written.name.upper()}_ALIGNED"
    declared = f"static const {aligned} float weights[{packed.size}]"
    return f"{declared} = {{\n{numbers(packed)}}};\n"
