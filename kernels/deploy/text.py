"""Write the files of a deployed network as text, from the templates in `templates`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from string import Template

import numpy as np

import refbnn
from kernels.deploy.memory import ALIGNMENT, Library, Part, parameters
from kernels.deploy.statistics import Statistics
from kernels.deploy.test_vector import TOLERANCE, SelfTest, Vector
from kernels.program.program import Layout
from refbnn.layers import Normalise
from refbnn.network.network import Network

_MOST_CHANNELS = 4  # in one line of the header
_SHORT = {"variance": "var", "covariance": "cov"}
# Where the self test finds results in the work, for the first example.
_IN_WORK = {"mean": "mean", "variance": "second", "covariance": "second"}


@dataclass(frozen=True, eq=False)
class Written:
    """What the files are written from.

    Parameters
    ----------
    name : str
        Prefix of functions and files.
    library : Library
        Kernels; the first propagates moments, the second predicts if there is one.
    predicted : Statistics or None
    second : {"variance", "covariance"}
        What stands beside the mean.
    """

    name: str
    library: Library
    predicted: Statistics | None
    second: str

    @property
    def inputs(self) -> Layout:
        """Layout of the inputs."""
        return self.library.parts[0].program.inputs[0][0]

    @property
    def outputs(self) -> Layout:
        """Layout of the outputs."""
        return self.library.parts[0].program.outputs[0][0]

    @property
    def batch(self) -> int:
        """Examples of one call."""
        return self.library.parts[0].program.batch

    @property
    def has_variance(self) -> bool:
        """Whether the kernel gives one: mean, variance and status come out."""
        return len(self.library.parts[0].program.outputs) > 2

    def filled(self, template: str, **words: object) -> str:
        """Fill in a template; words that all have in common come from here."""
        path = Path(__file__).with_name("templates") / template
        return Template(path.read_text(encoding="utf-8")).substitute(
            words,
            name=self.name,
            upper=self.name.upper(),
            version=refbnn.__version__,
            alignment=ALIGNMENT,
            second_name=_SHORT[self.second],
        )


def header(written: Written, words: Mapping[str, str]) -> str:
    """Write NAME.h; further words of the template say how the network was compiled."""
    inputs, outputs, library = written.inputs.shape, written.outputs.shape, written.library
    predicted, numbers, predict = written.predicted, "", ""
    upper = written.name.upper()
    if predicted is not None:
        numbers = f"#define {upper}_{predicted.kind.upper()} {predicted.n}\n"
        widest = f"{predicted.widest:.3g}"
        predict = written.filled(f"predict_{predicted.kind}.h", widest=widest)
    of_second = f"{upper}_BATCH times {upper}_OUTPUTS numbers"
    if written.second == "covariance":
        of_second += f" squared: {upper}_OUTPUTS rows for each example"
    return written.filled(
        "network.h",
        batch=written.batch,
        inputs=prod(inputs),
        outputs=prod(outputs),
        input_shape=_shape(inputs),
        output_shape=_shape(outputs),
        outputs_text="every output",
        second=written.second,
        about_second=f"{_SHORT[written.second]}    {of_second}",
        numbers=numbers,
        predict=predict,
        lanes=library.parts[0].program.target.lanes,
        weights_bytes=library.weights().nbytes,
        weights_table="\n".join(_table(library)),
        crc=f"0x{library.crc():08X}",
        work_bytes=library.work_bytes(),
        members="\n".join(library.members()).replace("{upper}", upper),
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


def source(written: Written, test: SelfTest) -> str:
    """Write NAME.c: weights, the functions around the kernels; if those are C, they too."""
    library, batch = written.library, written.batch
    kernel = library.parts[0]
    in_c = isinstance(kernel.function.code, str)
    rows, columns, pitch = _rows(written.inputs, batch)
    predict = "" if written.predicted is None else _predict(written)
    results = list(_results(written))
    sizes = _sizes(written)
    return written.filled(
        "network.c",
        beginning=written.filled("functions.c") if in_c else "",
        weights=_weights(written),
        kernels="\n".join(_kernel(written.name, part) for part in library.parts),
        arguments=library.arguments(kernel),
        second=written.second,
        input_pitch=pitch,
        input_rows=rows,
        input_columns=columns,
        mean_numbers=sizes["mean"],
        second_numbers=sizes[written.second],
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
    _, _, pitch = _rows(part.program.outputs[0][0], written.batch)
    words: dict[str, object] = {}
    if predicted.kind == "targets":
        _, n, mean_pitch = _rows(written.outputs, written.batch)
        at = f"row * {mean_pitch} + i"
        if written.second == "covariance":
            _, _, second_pitch = _rows(part.program.inputs[1][0], written.batch)
            at = f"(row * {n} + i) * {second_pitch} + i"
        words["mean_pitch"] = mean_pitch
        words["epistemic"] = f"work->second[{at}]" if written.has_variance else "0.0f"
    arguments = written.library.arguments(part)
    return written.filled(f"predict_{predicted.kind}.c", arguments=arguments, pitch=pitch, **words)


def _results(written: Written) -> Iterable[str]:
    """Statements that copy the outputs of the kernel to the caller's arrays."""
    program, short = written.library.parts[0].program, _SHORT[written.second]
    for index, (to, own) in enumerate([("mean", "mean"), (short, "second")]):
        if index and not written.has_variance:
            numbers = _sizes(written)["mean"]
            yield f"  for (int i = 0; i < {numbers}; ++i) {to}[i] = 0.0f;"
            continue
        rows, columns, pitch = _rows(program.outputs[index][0], written.batch)
        yield f"  unpadded({to}, work->{own}, {pitch}, {rows}, {columns});"


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
            declared.append(
                f"  static const float expected_{place}[] = {{\n{_numbers(values)}  }};"
            )
            tolerance = _single(result.tolerance)
            compared.append(f"near(work->{place}, expected_{place}, {n}, {tolerance})")
        elif name == "probabilities" and not np.isnan(result.expected).any():
            values = np.float32(result.expected[: written.predicted.n])
            declared.append(f"  static const float expected_p[] = {{\n{_numbers(values)}  }};")
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


def main(written: Written, vector: Vector, library: str, command: str, bits: bool) -> str:
    """Write main.c; `bits` to compare the results with the bits that the kernel gave here."""
    arrays, checks, same = [], [], []
    for name, result in vector.results.items():
        c, n = _c_name(name), result.expected.size
        test = f"{written.name}_test_{c}"
        arrays.append(f"{c}[{n}]")
        start = "  int holds =" if not checks else "  holds &="
        tolerance = f"{written.name.upper()}_TEST_{c.upper()}_TOLERANCE"
        checks.append(f'{start} check("{name}", {c}, {test}, {n}, {tolerance});')
        start = "  int same =" if not same else "  same &="
        same.append(f"{start} memcmp({c}, {written.name}_kernel_{c}, sizeof {c}) == 0;")
    same.append(
        '  printf("bits of the kernel as Python drives it: %s\\n", same ? "the same" : "OTHERS");\n'
    )
    predicted = written.predicted
    predict = "" if predicted is None else written.filled(f"main_{predicted.kind}.c")
    return written.filled(
        "main.c",
        library=library,
        command=command,
        arrays=", ".join(arrays),
        predict=predict,
        checks="\n".join(checks),
        bits="\n".join(same) if bits else "",
    )


def test_vector(
    written: Written, vector: Vector, n_layers: int, kernel: Mapping[str, np.ndarray] | None
) -> str:
    """Write NAME_test.h, with the kernel's own results if their bits are to be compared."""
    parts = []
    for name, result in vector.results.items():
        c = _c_name(name)
        tolerance = f"{written.name.upper()}_TEST_{c.upper()}_TOLERANCE"
        parts.append(
            f"\n#define {tolerance} {float(result.tolerance)!r}\n"
            f"static const double {written.name}_test_{c}[] = {{\n{_numbers(result.expected)}}};\n"
        )
    if kernel is not None:
        parts.append("\n/* Results of the same kernel, driven from Python. */\n")
        for name in vector.results:
            c = _c_name(name)
            numbers = _numbers(np.float32(kernel[name]))
            parts.append(f"static const float {written.name}_kernel_{c}[] = {{\n{numbers}}};\n")
    x = vector.x
    return written.filled(
        "network_test.h",
        tolerance=TOLERANCE,
        layers=n_layers,
        range=f"[{x.min():.3g}, {x.max():.3g}]",
        x=_numbers(x),
        results="".join(parts),
    )


def _c_name(result: str) -> str:
    """Name of a result's array in C."""
    return _SHORT.get(result, result)


def _sizes(written: Written) -> dict[str, int]:
    """Numbers of mean, variance and covariance that a call hands out."""
    n = prod(written.outputs.shape)
    return {
        "mean": written.batch * n,
        "variance": written.batch * n,
        "covariance": written.batch * n * n,
    }


def _rows(layout: Layout, batch: int) -> tuple[int, int, int]:
    """Count rows, numbers in a row, and numbers from row to row in the kernel's memory."""
    *rows, pitch = layout.tensor_shape(batch)
    return prod(rows), layout.shape[-1], pitch


def _weights(written: Written) -> str:
    """Declare all weights as one array, if there are any."""
    packed = written.library.weights()
    if not packed.size:
        return ""
    aligned = f"{written.name.upper()}_ALIGNED"
    declared = f"static const {aligned} float weights[{packed.size}]"
    return f"{declared} = {{\n{_numbers(packed)}}};\n"


def _table(library: Library) -> Iterable[str]:
    yield " *   byte        shape                          array"
    for offset, shape, name in library.table():
        yield f" *   {offset:<11} {_shape(shape):<30} {name}"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _numbers(values: np.ndarray) -> str:
    """Write numbers for C, eight to a line: the shortest decimals that are read as the same."""
    suffix = "f" if values.dtype == np.float32 else ""
    flat = values.ravel()

    def word(number) -> str:
        return "NAN" if np.isnan(number) else f"{number!s}{suffix}"

    lines = (flat[i : i + 8] for i in range(0, flat.size, 8))
    return "".join(f"  {', '.join(map(word, line))},\n" for line in lines)
