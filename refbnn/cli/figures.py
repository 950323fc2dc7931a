"""`refbnn figures`: the pictures, with their numbers."""

from __future__ import annotations

import argparse
from pathlib import Path

from refbnn.cli import arguments as shared
from refbnn.errors import InputError

# Each is a module of `figures`: make(...) saves the pictures and returns the numbers.
NAMES = (
    "fits",
    "inverse_cdf",
    "kl_error",
    "linearised",
    "linearised_cost",
    "half_precision",
    "high_epistemic",
    "pfp_error",
    "reliability",
    "softmax_error",
    "speed",
    "scale",
    "correlated_shape",
    "variance_forms",
    "training_speed",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help=f"{', '.join(NAMES)} (default: all); where REFBNN_DATA names a folder with "
        "device_noise/, fits take in the memory cells measured there",
    )
    parser.add_argument(
        "-o",
        "--out",
        metavar="FOLDER",
        type=Path,
        default=Path("figures-out"),
        help="folder to write to (default: %(default)s)",
    )
    shared.add_mc_samples(parser)
    shared.add_seed(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    """Make the figures, in the order given."""
    from importlib import import_module

    from threadpoolctl import threadpool_limits

    from refbnn.cli.malloc import keep_freed_memory
    from refbnn.cli.output import progress, write_json
    from refbnn.files.atomic import refusal

    for name in arguments.names:
        shared.require_one_of("figure", name, NAMES)
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{arguments.out}: {error.strerror}; expected a folder") from None
    if reason := refusal(arguments.out):
        raise InputError(f"{arguments.out}: not writable ({reason}); expected a folder")
    keep_freed_memory()
    names = list(dict.fromkeys(arguments.names)) or list(NAMES)
    modules = {name: import_module(f"figures.{name}") for name in names}
    total = sum(module.STEPS for module in modules.values())
    before = _pictures(arguments.out)
    with threadpool_limits(1), progress("figures", total) as tick:
        for name, module in modules.items():
            numbers = module.make(arguments.out, arguments.seed, arguments.mc_samples, tick)
            write_json(arguments.out / f"{name}.json", numbers)
    for picture, written in _pictures(arguments.out).items():
        if before.get(picture) != written:
            print(picture)
    for name in names:
        print(arguments.out / f"{name}.json")
    return []


def _pictures(folder: Path) -> dict[Path, int]:
    """Pictures of a folder, and when each was written, in ns."""
    paths = [path for path in sorted(folder.iterdir()) if path.suffix in (".png", ".svg")]
    return {path: path.stat().st_mtime_ns for path in paths}
