"""Write NAME.h: how a network was compiled, its sizes, and the functions that programs call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from math import prod

import numpy as np

from kernels.deploy.memory import Library
from kernels.deploy.options import Options
from kernels.deploy.statistics import Statistics
from kernels.deploy.written import Written, c_name, in_words
from refbnn.layers import Normalise
from refbnn.network import schema
from refbnn.network.file import encoded, network_arrays
from refbnn.network.network import Network

_TIMING = """
 *   timing      inputs that are 0 take as long as others; predictions of classes take longer
 *               where logits are wide"""
_MOST_CHANNELS = 4  # in one line of the header


def header(written: Written, words: Mapping[str, str]) -> str:
    """Write NAME.h; further words of the template say how the network was compiled."""
    inputs, outputs, library = written.inputs.shape, written.outputs.shape, written.library
    predicted, constants, predict = written.predicted, "", ""
    upper = written.name.upper()
    if predicted is not None:
        constants = f"#define {upper}_{predicted.kind.upper()} {predicted.n}\n"
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
        input_shape=in_words(inputs),
        output_shape=in_words(outputs),
        outputs_text="every output",
        second=written.second,
        about_second=f"{c_name(written.second)}    {of_second}",
        numbers=constants,
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
            lines.append(f"            {letter} = {_numbers_in_words(np.atleast_1d(values))}")
    if net.input_range is not None:
        low, high = net.input_range
        lines.append(f"trained on  x from {low:.9g} to {high:.9g}: expects the same scale")
    return "".join(f" *   {line}\n" for line in lines)


def _numbers_in_words(values: np.ndarray) -> str:
    """One number, one a channel, or how many there are."""
    if len(values) <= _MOST_CHANNELS:
        return ", ".join(f"{value:.9g}" for value in values)
    return f"{len(values)} numbers from {values.min():.9g} to {values.max():.9g}"


def _table(library: Library) -> Iterable[str]:
    yield " *   byte        shape                          array"
    for offset, shape, name in library.table():
        yield f" *   {offset:<11} {in_words(shape):<30} {name}"


def described(net: Network, options: Options, predicted: Statistics | None) -> dict[str, str]:
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
        "timing": _TIMING if options.constant_time else "",
        "about_inputs": about_inputs(net),
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
