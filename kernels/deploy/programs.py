"""Write what stands beside a library: programs that check and use it, and files for build systems.

The check compares the library with the test vector; the example decides.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kernels.deploy.names import PROGRAM
from kernels.deploy.test_vector import TOLERANCE, Vector
from kernels.deploy.written import Written, c_name, numbers


def main_file(name: str, source: bool) -> str:
    """Name of the file that holds the network."""
    return f"{name}.c" if source else f"lib{name}.a"


def files(name: str, source: bool) -> list[str]:
    """Names of all files of a deployed network."""
    both = [f"{name}.h", f"{name}_test.h", "main.c", "decide.c", "CMakeLists.txt"]
    return [*both, main_file(name, source), *([] if source else [f"{name}.pc"])]


def command(name: str, source: bool, program: str, made: str) -> str:
    """The line that builds a program."""
    network = f"{name}.c" if source else f"-L. -l{name}"
    return f"cc -O2 {program} {network} -lm -o {made}"


def written(
    what: Written,
    vector: Vector,
    n_layers: int,
    kernel: Mapping[str, np.ndarray] | None,
    abstain_above: float | None,
) -> dict[str, str]:
    """Write all of these files.

    Parameters
    ----------
    what : Written
    vector : Vector
    n_layers : int
    kernel : mapping or None
        Results of the kernel that Python drives, for a library; None for C source.
    abstain_above : float or None
        Threshold of the example, in nats.

    Returns
    -------
    dict
        Text by file name.
    """
    name, source = what.name, kernel is None
    found = {
        f"{name}_test.h": _test_vector(what, vector, n_layers, kernel),
        "main.c": _main(what, vector, bits=not source),
        "CMakeLists.txt": what.filled(f"cmake_{'source' if source else 'library'}.txt"),
    }
    if not source:
        found[f"{name}.pc"] = what.filled("network.pc")
    if what.predicted is not None and what.predicted.kind == "classes":
        threshold = "INFINITY" if abstain_above is None else f"{np.float32(abstain_above)!s}f"
        build = command(name, source, "decide.c", "decide")
        found["decide.c"] = what.filled("decide.c", command=build, threshold=threshold)
    return found


def _main(what: Written, vector: Vector, bits: bool) -> str:
    """Write main.c; `bits` to compare the results with the bits that the kernel gave here."""
    arrays: list[str] = []
    checks: list[str] = []
    same: list[str] = []
    for name, result in vector.results.items():
        c, n = c_name(name), result.expected.size
        test = f"{what.name}_test_{c}"
        arrays.append(f"{c}[{n}]")
        start = "  int holds =" if not checks else "  holds &="
        tolerance = f"{what.name.upper()}_TEST_{c.upper()}_TOLERANCE"
        checks.append(f'{start} check("{name}", {c}, {test}, {n}, {tolerance});')
        start = "  int same =" if not same else "  same &="
        same.append(f"{start} memcmp({c}, {what.name}_kernel_{c}, sizeof {c}) == 0;")
    same.append(
        '  printf("bits of the kernel as Python drives it: %s\\n", same ? "the same" : "OTHERS");\n'
    )
    predicted, source = what.predicted, not bits
    return what.filled(
        "main.c",
        library=main_file(what.name, source),
        command=command(what.name, source, "main.c", PROGRAM),
        arrays=", ".join(arrays),
        predict="" if predicted is None else what.filled(f"main_{predicted.kind}.c"),
        checks="\n".join(checks),
        bits="\n".join(same) if bits else "",
    )


def _test_vector(
    what: Written, vector: Vector, n_layers: int, kernel: Mapping[str, np.ndarray] | None
) -> str:
    """Write NAME_test.h, with the kernel's own results if their bits are to be compared."""
    parts = []
    for name, result in vector.results.items():
        c = c_name(name)
        tolerance = f"{what.name.upper()}_TEST_{c.upper()}_TOLERANCE"
        parts.append(
            f"\n#define {tolerance} {float(result.tolerance)!r}\n"
            f"static const double {what.name}_test_{c}[] = {{\n{numbers(result.expected)}}};\n"
        )
    if kernel is not None:
        parts.append("\n/* Results of the same kernel, driven from Python. */\n")
        for name in vector.results:
            own = numbers(kernel[name].astype(np.float32))
            parts.append(f"static const float {what.name}_kernel_{c_name(name)}[] = {{\n{own}}};\n")
    x = vector.x
    return what.filled(
        "network_test.h",
        tolerance=TOLERANCE,
        layers=n_layers,
        range=f"[{x.min():.3g}, {x.max():.3g}]",
        x=numbers(x),
        results="".join(parts),
    )
