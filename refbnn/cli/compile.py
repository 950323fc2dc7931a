"""`refbnn compile`: a network as a C library, or C source, for a board without Python."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from shlex import quote

from refbnn.cli import arguments as shared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.epilog = (
        "Writes NAME.h, libNAME.a, a test vector of the float64 reference (NAME_test.h), main.c, "
        "which checks the library with it and says whether its bits are those of the kernel as "
        "Python drives it, decide.c, an example that decides or abstains, and files for CMake and "
        "pkg-config. NAME_predict gives the probabilities of classes with entropy and mutual "
        "information, or the targets of a regression with both variances; NAME_propagate gives "
        "moments. The library calls nothing but memcpy and memset of the C library, has no static "
        "memory and takes none from a heap. --c writes NAME.c instead of the library, for any "
        "processor with a C99 compiler. The C source has the same schedule, for the lanes of "
        "--target, but plain loops instead of vectors, and its results differ by rounding from "
        "compiler to compiler. A folder that holds other files is left alone. Exit code 1 if the "
        "kernel itself is not within the tolerance."
    )
    shared.add_model(parser)
    shared.add_target(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder to write: a new one, or one that an earlier run of the same name wrote",
    )
    parser.add_argument(
        "--name",
        metavar="PREFIX",
        help="C identifier that begins the names of files, function and constants "
        "(default: after the model's file)",
    )
    shared.add_integer(parser, "--batch-size", 1, 1, "examples of one call")
    parser.add_argument(
        "--schedule",
        metavar="NAME",
        default="hand",
        help="hand: loops by hand; tuned: with decisions from records of tuning; default: TVM's "
        "own loops (default: %(default)s)",
    )
    parser.add_argument(
        "--form",
        metavar="NAME",
        default="variance",
        help="form of the moments of dense layers and convolutions: variance, raw or separate; "
        "mean: the deterministic network of the means, with variance 0 (default: %(default)s)",
    )
    parser.add_argument(
        "--method",
        metavar="NAME",
        default="pfp",
        help="propagation: pfp, of means and variances; linearised, with the covariances of the "
        "outputs, from which it predicts (default: %(default)s)",
    )
    parser.add_argument(
        "--constant-time",
        action="store_true",
        help="inputs that are 0 take as long as others in the first layer (slower for sparse "
        "inputs)",
    )
    parser.add_argument(
        "--abstain-above",
        metavar="NATS",
        type=float,
        help="mutual information above which decide.c decides for no class, as refbnn evaluate "
        "reports it (default: it abstains only where there is no result)",
    )
    shared.add_records(parser)
    parser.add_argument("--c", action="store_true", help="write C source instead of a library")


def run(arguments: argparse.Namespace) -> list[str]:
    """Write the folder; print its files and how to check them."""
    from kernels.deploy import deploy
    from kernels.deploy.names import name_after
    from kernels.layers.products import FORMS
    from kernels.program.kernel import SCHEDULES
    from refbnn import load
    from refbnn.network.network import METHODS

    shared.require_one_of("--schedule", arguments.schedule, SCHEDULES)
    shared.require_one_of("--form", arguments.form, FORMS)
    shared.require_one_of("--method", arguments.method, METHODS)
    net = load(arguments.model)
    deployed = deploy(
        net,
        arguments.output,
        name_after(arguments.model) if arguments.name is None else arguments.name,
        arguments.batch_size,
        arguments.target,
        arguments.schedule,
        arguments.form,
        arguments.records,
        arguments.c,
        arguments.method,
        arguments.constant_time,
        arguments.abstain_above,
    )
    for name in deployed.files:
        print(f"{arguments.output / name}  {(arguments.output / name).stat().st_size} bytes")
    if deployed.sizes is not None:
        sizes = deployed.sizes
        print(
            f"\ncode {sizes.code} bytes, weights and constants {sizes.constants} bytes, "
            f"work area {deployed.work_bytes} bytes"
        )
    if deployed.untuned:
        names = "; ".join(deployed.untuned)
        print(f"refbnn compile: no record of tuning, by hand: {names}", file=sys.stderr)
    holds = True
    if deployed.kernel is not None:
        holds = deployed.vector.holds_for(deployed.kernel)
        print("\ngreatest errors against the float64 reference")
        for name, result in deployed.vector.results.items():
            error = result.error(deployed.kernel[name])
            print(f"  {name:<14} {error:.3g} (allowed {result.tolerance:.3g})")
    print(f"\ncd {quote(str(arguments.output))}\n{deployed.command} && ./check")
    return [] if holds else ["the kernel is within its tolerance of the reference"]
