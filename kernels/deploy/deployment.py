"""Deployment: write a network as C for a board without Python.

    NAME.h          sizes, layouts, and one function, NAME_propagate
    libNAME.a       kernel, weights and the function: no dependency, no heap, one object
    NAME_test.h     a test vector of the float64 reference, and the bits that the kernel gave here
    main.c          checks the library with it

or, as C source for any processor, NAME.c in place of the library.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

from kernels import devices, network
from kernels.deploy import text
from kernels.deploy.archive import Sizes, library, require_tools
from kernels.deploy.function import compiled
from kernels.deploy.names import PROGRAM, require_name
from kernels.deploy.test_vector import Vector, vector
from kernels.devices import targets
from kernels.devices.targets import Target
from kernels.program.compiled import add_checks, untuned
from kernels.program.program import Program
from refbnn.errors import InputError
from refbnn.files.folder import require_replaceable, write_folder
from refbnn.layers.moments import Moments
from refbnn.network.network import Network

_MOST = 20_000_000  # numbers as text, a quarter of a gigabyte; compilers need ten times that


@dataclass(frozen=True, eq=False)
class Deployed:
    """Result of a deployment; for C source there are neither sizes nor a kernel."""

    files: tuple[str, ...]  # names in the folder
    command: str  # builds the check in that folder
    sizes: Sizes | None  # sizes of the library
    vector: Vector  # test vector
    kernel: Moments | None  # result for the vector of the kernel that Python drives
    untuned: tuple[str, ...]  # with "tuned", workloads scheduled by hand for lack of a record


def deploy(
    net: Network,
    folder: str | Path,
    name: str,
    batch_size: int = 1,
    target: str = "host",
    schedule: str = "hand",
    form: str = "variance",
    records: str | Path | None = None,
    source: bool = False,
) -> Deployed:
    """Compile a network and write it to a folder.

    Parameters
    ----------
    net, batch_size, target, schedule, form, records
        As in `kernels.compile_network`.
    folder : path
        A new folder; or one that holds only files that this writes under that name.
    name : str
        A C identifier that begins with a letter.
    source : bool
        Write C source in place of a library.

    Raises
    ------
    InputError
        As in `kernels.compile_network`; also if the name or the folder is unsuitable, the network
        or the batch is too large for C, or compiler or emulator are not installed.
    """
    require_name(name)
    main_file = f"{name}.c" if source else f"lib{name}.a"
    ours = {f"{name}.h", f"{name}.c", f"lib{name}.a", f"{name}_test.h", "main.c", PROGRAM}
    require_replaceable(Path(folder), ours)
    cpu = targets.target(target)
    device = "local" if target == "host" else "emulated"
    if not source:
        require_tools()
        devices.find(device, cpu)

    program = network.program(net, batch_size, cpu, form)
    _require_few(program)
    add_checks(program)
    function = compiled(program, f"{name}_kernel", schedule, records, source)
    test = vector(net, (batch_size, *program.inputs[0][0].shape), form)
    how = _how(net, target, cpu, form, schedule, source)
    header = text.header(name, program, text.memory_bytes(program, function.work), how)
    around = text.source(name, program, function)
    content, sizes, driven = around.encode(), None, None
    if not isinstance(function.code, str):
        content, sizes = library(name, function.code, around, header, cpu)
        arguments = batch_size, target, schedule, form, records, device
        driven = network.compile_network(net, *arguments)(test.x)
    command = f"cc -O2 main.c {main_file if source else f'-L. -l{name}'} -lm -o {PROGRAM}"
    test_header = text.test_vector(name, test, len(net.layers), driven)
    main = text.main(name, main_file, command, driven is not None)
    files = {f"{name}.h": header.encode(), main_file: content}
    files |= {f"{name}_test.h": test_header.encode(), "main.c": main.encode()}
    write_folder(Path(folder), files, ours)
    by_hand = untuned(program, records) if schedule == "tuned" else ()
    return Deployed(tuple(files), command, sizes, test, driven, by_hand)


def _require_few(program: Program) -> None:
    """Raise InputError for a network or a batch too large to be written as C."""
    shapes = [layout.shape for layout, _ in [*program.inputs, *program.outputs]]
    n = sum(values.size for _, values in program.weights)
    n += program.batch * sum(prod(shape) for shape in shapes)
    if n > _MOST:
        raise InputError(
            f"{n} numbers of weights and test vector are too many for C; expected at most {_MOST}: "
            "choose a smaller network or batch"
        )


def _how(
    net: Network, target: str, cpu: Target, form: str, schedule: str, source: bool
) -> dict[str, str]:
    """Describe for the header how a network was compiled, and what a program needs."""
    if source:
        needs = "Needs C11, float of IEEE 754's 32 bits, and fmaf, sqrtf and floorf (libm)."
    elif cpu.is_arm:
        needs = "Needs the vector unit, switched on (without a system: CPACR_EL1.FPEN)."
    else:
        needs = f"Needs an x86-64 processor with the instructions of {cpu.llvm['mcpu']}."
    processor = f"{cpu.llvm['mcpu']}, {cpu.llvm['mtriple']}"
    return {
        "network": ", ".join(type(layer).__name__ for layer in net.layers),
        "compiled": "C source" if source else f"for {target} ({processor})",
        "form": form,
        "schedule": schedule,
        "about_inputs": text.about_inputs(net),
        "needs": f" * {needs}\n",
        "endianness": "" if source else " (little-endian)",
    }
