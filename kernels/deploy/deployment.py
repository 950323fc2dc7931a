"""Deployment: write a network as C for a board without Python.

    NAME.h          sizes, layouts, and three functions: NAME_check, NAME_propagate, NAME_predict
    libNAME.a       kernels, weights and the functions: no dependency, no heap, one object
    NAME_test.h     a test vector of the float64 reference, and the bits that the kernel gave here
    main.c          checks the library with it
    decide.c        reads frames and decides, or abstains: an example, for classifiers
    CMakeLists.txt, NAME.pc     for CMake and pkg-config

or, as C source for any processor, NAME.c in place of library and NAME.pc.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, prod
from pathlib import Path

import numpy as np

from kernels import devices, network
from kernels.deploy import programs
from kernels.deploy.archive import Sizes, library, require_tools
from kernels.deploy.function import compiled
from kernels.deploy.header import described, header
from kernels.deploy.memory import Library, Part
from kernels.deploy.names import PROGRAM, require_name
from kernels.deploy.options import Options
from kernels.deploy.source import source as source_of
from kernels.deploy.statistics import Statistics, statistics
from kernels.deploy.test_vector import Vector, self_test, vector
from kernels.deploy.written import Written
from kernels.program.compiled import add_checks, untuned
from kernels.program.kernel import build
from kernels.program.program import Program
from refbnn.errors import InputError
from refbnn.files.folder import require_replaceable, write_folder
from refbnn.network.network import Network

_MOST = 20_000_000  # numbers as text, a quarter of a gigabyte; compilers need ten times that
Results = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Deployed:
    """Result of a deployment; for C source there are neither sizes nor results of a kernel."""

    files: tuple[str, ...]  # names in the folder
    command: str  # builds the check in that folder
    work_bytes: int  # memory that a caller owns
    sizes: Sizes | None  # sizes of the library
    vector: Vector  # test vector
    kernel: Results | None  # its results by the kernel that Python drives
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
    method: str = "pfp",
    constant_time: bool = False,
    abstain_above: float | None = None,
) -> Deployed:
    """Compile a network and write it to a folder.

    Parameters
    ----------
    net, batch_size, target, schedule, form, records, method, constant_time
        As in `kernels.compile_network`.
    folder : path
        A new folder; or one that holds only files that this writes under that name.
    name : str
        A C identifier that begins with a letter.
    source : bool
        Write C source in place of a library.
    abstain_above : float, nats, optional
        Mutual information above which the example program, decide.c, decides for no class.

    Raises
    ------
    InputError
        As in `kernels.compile_network`; also if the name or the folder is unsuitable, the network
        or the batch is too large for C, compiler or emulator are not installed, or `abstain_above`
        is no mutual information of the classes.
    """
    options = Options(batch_size, target, schedule, form, records, source, method, constant_time)
    require_name(name)
    ours = {*programs.files(name, source=True), *programs.files(name, source=False), PROGRAM}
    require_replaceable(Path(folder), {*ours, "decide"})
    cpu = options.cpu
    if not source:
        require_tools()
        devices.find(options.device, cpu)

    program = network.program(net, batch_size, cpu, form, method, constant_time)
    _require_few(program)
    predicted = statistics(net, program, method)
    _require_threshold(abstain_above, predicted)
    add_checks(program)
    written = _compiled(program, predicted, name, options)
    shape = (batch_size, *program.inputs[0][0].shape)
    test = vector(net, shape, form, method, predicted)
    of_self_test = self_test(net, shape, form, method, predicted)
    files = {f"{name}.h": header(written, described(net, options, predicted))}
    code = source_of(written, of_self_test)
    archive, sizes, driven = None, None, None
    if not source:
        archive, sizes = _archive(written, code, files[f"{name}.h"], options)
        driven = _driven(net, options, test, predicted)
    files |= programs.written(written, test, len(net.layers), driven, abstain_above)
    contents = {file: text.encode() for file, text in files.items()}
    contents[programs.main_file(name, source)] = code.encode() if archive is None else archive
    write_folder(Path(folder), contents, {*ours, "decide"})
    by_hand = untuned(program, records) if schedule == "tuned" else ()
    command, work = programs.command(name, source, "main.c", PROGRAM), written.library.work_bytes()
    return Deployed(tuple(contents), command, work, sizes, test, driven, by_hand)


def _compiled(
    program: Program, predicted: Statistics | None, name: str, options: Options
) -> Written:
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
    return Written(name, Library(tuple(parts)), predicted, second)


def _archive(
    written: Written, code: str, header_text: str, options: Options
) -> tuple[bytes, Sizes]:
    """Compile the functions around the kernels, and make libNAME.a."""
    objects = [part.function.code for part in written.library.parts]
    kernels = [code for code in objects if isinstance(code, bytes)]
    kinds = (
        ["check", "propagate"] if written.predicted is None else ["check", "propagate", "predict"]
    )
    functions = [f"{written.name}_{kind}" for kind in kinds]
    return library(written.name, kernels, code, header_text, options.cpu, functions)


def _driven(net: Network, options: Options, test: Vector, predicted: Statistics | None) -> Results:
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


def _require_threshold(nats: float | None, predicted: Statistics | None) -> None:
    """Raise InputError unless the mutual information of the classes can be above and below."""
    if nats is None:
        return
    if predicted is None or predicted.kind != "classes":
        raise InputError(
            "abstain_above: the library predicts no classes; expected a classifier whose outputs "
            "are a row of logits"
        )
    if not 0.0 <= nats < log(predicted.n):
        raise InputError(
            f"abstain_above is {nats:g}; expected nats of mutual information from 0 to below "
            f"log {predicted.n} = {log(predicted.n):.3f}, the most that {predicted.n} classes have"
        )
