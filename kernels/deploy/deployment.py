"""Deployment: write a network as C for a board without Python.

    NAME.h          sizes, layouts, and three functions: NAME_check, NAME_propagate, NAME_predict
    libNAME.a       kernels, weights and the functions: no dependency, no heap, one object
    NAME_test.h     a test vector of the float64 reference, and the bits that the kernel gave here
    main.c          checks the library with it

or, as C source for any processor, NAME.c in place of the library.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from kernels import devices, network
from kernels.deploy import text
from kernels.deploy.archive import Sizes, library, require_tools
from kernels.deploy.function import compiled
from kernels.deploy.memory import Library, Part
from kernels.deploy.names import PROGRAM, require_name
from kernels.deploy.statistics import Statistics, statistics
from kernels.deploy.test_vector import Vector, self_test, vector
from kernels.devices import targets
from kernels.devices.targets import Target
from kernels.program.compiled import CompiledNetwork, add_checks, untuned
from kernels.program.kernel import build
from kernels.program.program import Program
from refbnn.errors import InputError
from refbnn.files.folder import require_replaceable, write_folder
from refbnn.network import schema
from refbnn.network.file import encoded, network_arrays
from refbnn.network.network import Network

_MOST = 20_000_000  # numbers as text, a quarter of a gigabyte; compilers need ten times that


@dataclass(frozen=True, eq=False)
class Deployed:
    """Result of a deployment; for C source there are neither sizes nor results of a kernel."""

    files: tuple[str, ...]  # names in the folder
    command: str  # builds the check in that folder
    work_bytes: int  # memory that a caller owns
    sizes: Sizes | None  # sizes of the library
    vector: Vector  # test vector
    kernel: dict[str, np.ndarray] | None  # its results by the kernel that Python drives
    untuned: tuple[str, ...]  # with "tuned", workloads scheduled by hand for lack of a record


@dataclass(frozen=True)
class Options:
    """How a network is compiled; as in `kernels.compile_network`, but for `source`.

    Parameters
    ----------
    batch_size, target, schedule, form, records, method
        As there.
    source : bool
        Write C source in place of a library.
    """

    batch_size: int = 1
    target: str = "host"
    schedule: str = "hand"
    form: str = "variance"
    records: str | Path | None = None
    source: bool = False
    method: str = "pfp"

    @property
    def cpu(self) -> Target:
        """The processor."""
        return targets.target(self.target)

    @property
    def device(self) -> str:
        """Where Python drives the kernel."""
        return "local" if self.target == "host" else "emulated"

    def drive(self, net: Network) -> CompiledNetwork:
        """Compile the kernel that Python drives."""
        return network.compile_network(
            net,
            self.batch_size,
            self.target,
            self.schedule,
            self.form,
            self.records,
            self.device,
            self.method,
        )


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
    method: str = "pfp",
) -> Deployed:
    """Compile a network and write it to a folder.

    Parameters
    ----------
    net, batch_size, target, schedule, form, records, method
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
    options = Options(batch_size, target, schedule, form, records, source, method)
    require_name(name)
    main_file = f"{name}.c" if source else f"lib{name}.a"
    ours = {f"{name}.h", f"{name}.c", f"lib{name}.a", f"{name}_test.h", "main.c", PROGRAM}
    require_replaceable(Path(folder), ours)
    cpu = options.cpu
    if not source:
        require_tools()
        devices.find(options.device, cpu)

    program = network.program(net, batch_size, cpu, form, method)
    _require_few(program)
    predicted = statistics(net, program, method)
    add_checks(program)
    written = _compiled(program, predicted, name, options)
    shape = (batch_size, *program.inputs[0][0].shape)
    test = vector(net, shape, form, method, predicted)
    example = self_test(net, shape, form, method, predicted)
    header = text.header(written, _how(net, options, predicted))
    around = text.source(written, example)
    content, sizes, driven = around.encode(), None, None
    if not source:
        codes = [part.function.code for part in written.library.parts]
        functions = [f"{name}_{part}" for part in ("check", "propagate", *_predicts(predicted))]
        content, sizes = library(name, codes, around, header, cpu, functions)
        driven = _driven(net, options, test, predicted)
    command = f"cc -O2 main.c {main_file if source else f'-L. -l{name}'} -lm -o {PROGRAM}"
    test_header = text.test_vector(written, test, len(net.layers), driven)
    main = text.main(written, test, main_file, command, driven is not None)
    files = {f"{name}.h": header.encode(), main_file: content}
    files |= {f"{name}_test.h": test_header.encode(), "main.c": main.encode()}
    write_folder(Path(folder), files, ours)
    by_hand = untuned(program, records) if schedule == "tuned" else ()
    work_bytes = written.library.work_bytes()
    return Deployed(tuple(files), command, work_bytes, sizes, test, driven, by_hand)


def _compiled(
    program: Program, predicted: Statistics | None, name: str, options: Options
) -> text.Written:
    """Compile the kernels."""

    def part(kind: str, own: Program, arrays: tuple[str, ...]) -> Part:
        how = options.schedule, options.records, options.source
        return Part(kind, own, compiled(own, f"{name}_{kind}", *how), arrays)

    moments = ("mean", "second")[: len(program.outputs) - 1]
    parts = [part("kernel", program, ("input", *moments, "status"))]
    if predicted is not None:
        results = ("p", "found") if predicted.kind == "classes" else ("aleatoric",)
        parts.append(part("statistics", predicted.program, (*moments, *results)))
    second = "covariance" if options.method == "linearised" else "variance"
    return text.Written(name, Library(tuple(parts)), predicted, second)


def _predicts(predicted: Statistics | None) -> tuple[str, ...]:
    return () if predicted is None else ("predict",)


def _driven(
    net: Network, options: Options, test: Vector, predicted: Statistics | None
) -> dict[str, np.ndarray]:
    """Results of the kernel that Python drives, for the test vector."""
    fast = options.drive(net)
    moments = fast(test.x)
    found = {"mean": moments.mean}
    if "covariance" in test.results:
        found["covariance"] = moments.cov
    else:
        found["variance"] = moments.var
    if predicted is None:
        return found
    how = options.schedule, options.records, options.device
    results = build(predicted.program, *how)(*fast.kernel.outputs)
    if predicted.kind == "targets":
        return {**found, "aleatoric": results[0]}
    p, (aleatoric, entropy, mutual_information, unsuited) = results
    entropies = np.array([entropy, mutual_information, aleatoric])
    p[unsuited != 0.0], entropies[:, unsuited != 0.0] = np.nan, np.nan
    return {**found, "probabilities": p, "entropies": entropies}


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


def _how(net: Network, options: Options, predicted: Statistics | None) -> dict[str, str]:
    """Describe for the header how a network was compiled, and what a program needs."""
    cpu, factor = options.cpu, net.variance_factor
    if options.source:
        needs = "Needs C99, float of IEEE 754's 32 bits, and fmaf, sqrtf, ceilf, floorf (libm)."
    elif cpu.is_arm:
        needs = "Needs the vector unit, switched on (without a system: CPACR_EL1.FPEN)."
    else:
        needs = f"Needs an x86-64 processor with the instructions of {cpu.llvm['mcpu']}."
    processor = f"{cpu.llvm['mcpu']}, {cpu.llvm['mtriple']}"
    if options.method == "linearised":
        method = "linearised, with covariances; no variance factor"
    else:
        method = f"pfp: independent Gaussian moments; variances of weights times {factor:.9g}"
    if predicted is None:
        outputs = "of the last layer; they are no row, so nothing is predicted from them"
    elif predicted.kind == "targets":
        outputs = f"targets of a regression, likelihood {net.likelihood}: {predicted.n}"
    elif predicted.n != predicted.program.inputs[0][0].shape[0]:
        outputs = "logit of class 1 of the classes 0 and 1"
    else:
        outputs = f"logits of the classes 0 to {predicted.n - 1}"
    return {
        "network": ", ".join(type(layer).__name__ for layer in net.layers),
        "digest": _digest(net),
        "compiled": "C source" if options.source else f"for {options.target} ({processor})",
        "method": method,
        "form": options.form,
        "schedule": options.schedule,
        "timing": "",
        "about_inputs": text.about_inputs(net),
        "about_outputs": outputs,
        "needs": f" * {needs}\n",
        "endianness": "" if options.source else " (little-endian)",
    }


def _digest(net: Network) -> str:
    """SHA-256 of a network as its file holds it, 16 digits."""
    digest = hashlib.sha256(encoded(schema.of_network(net)))
    for name, array in sorted(network_arrays(net).items()):
        digest.update(name.encode() + np.ascontiguousarray(array, "<f8").tobytes())
    return digest.hexdigest()[:16]
