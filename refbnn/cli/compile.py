"""`refbnn compile`: a network as a C library, or C source, for a board without Python."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from shlex import quote

from refbnn.cli import arguments as options

HELP = "compile a network to a C library, with a header and a check, for a board without Python"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, target, how it is compiled, where it goes."""
    parser.epilog = (
        "Writes NAME.h, libNAME.a, a test vector of the float64 reference (NAME_test.h) and "
        "main.c, which checks the library with it and says whether its bits are those of the "
        "kernel as Python drives it. The library calls nothing but memcpy and memset of the C "
        "library and takes no memory from a heap. With --c, NAME.c in place of the library, for "
        "any processor with a C11 compiler: the schedule is the same, for the lanes of --target, "
        "but of vectors plain loops are made, and results differ by rounding from compiler to "
        "compiler. Moments are propagated: of sampling there is no library. A folder that has "
        "other files is left alone. Exit code 1 if the kernel itself is not within the tolerance."
    )
    parser.add_argument("model", metavar="MODEL.npz", type=Path)
    options.add_target(parser)
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
    parser.add_argument(
        "--batch-size",
        type=options.integer_from(1),
        default=1,
        metavar="N",
        help="examples of one call (default: %(default)s)",
    )
    parser.add_argument(
        "--schedule",
        choices=("hand", "tuned", "default"),
        default="hand",
        help="loops by hand, with decisions from records of tuning, or as TVM has them "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--form",
        choices=("variance", "raw", "separate", "mean"),
        default="variance",
        help="of the moments of dense layers and convolutions; mean: the deterministic network of "
        "the means, with variance 0 (default: %(default)s)",
    )
    options.add_records(parser)
    parser.add_argument("--c", action="store_true", help="write C source instead of a library")


def run(arguments: argparse.Namespace) -> list[str]:
    """Write the folder; print what is in it and how to check it."""
    from kernels.deploy import deploy
    from kernels.deploy.names import name_after
    from refbnn import load

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
    )
    for name in deployed.files:
        print(f"{arguments.output / name}  {(arguments.output / name).stat().st_size} bytes")
    if deployed.sizes is not None:
        sizes = deployed.sizes
        print(
            f"\ncode {sizes.code} bytes, weights and constants {sizes.constants} bytes, "
            f"static memory {sizes.memory} bytes"
        )
    if deployed.untuned:
        names = "; ".join(deployed.untuned)
        print(f"refbnn compile: no record of tuning, by hand: {names}", file=sys.stderr)
    holds = True
    if deployed.kernel is not None:
        vector = deployed.vector
        mean, var = vector.errors(deployed.kernel)
        holds = vector.holds_for(deployed.kernel)
        print(
            f"greatest error of the mean {mean:.3g} (allowed {vector.mean_tolerance:.3g}), "
            f"of the variance {var:.3g} ({vector.var_tolerance:.3g})"
        )
    print(f"\ncd {quote(str(arguments.output))}\n{deployed.command} && ./check")
    return [] if holds else ["the kernel is within its tolerance of the reference"]
