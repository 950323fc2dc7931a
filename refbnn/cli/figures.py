"""`refbnn figures`: the pictures, with their numbers."""

from __future__ import annotations

import argparse
from pathlib import Path

from refbnn.cli import arguments as options
from refbnn.errors import InputError

HELP = "make the figures, as PNG, with their numbers as JSON"
# Each is a module of `figures`: make(...) saves the pictures and returns the numbers.
NAMES = (
    "fits",
    "inverse_cdf",
    "kl_error",
    "half_precision",
    "high_epistemic",
    "pfp_error",
    "reliability",
    "softmax_error",
    "speed",
    "correlated_shape",
    "variance_forms",
    "training_speed",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Names and options."""
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
    options.add_samples(parser)
    options.add_seed(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    """Make the figures, in the order given."""
    unknown = [name for name in arguments.names if name not in NAMES]
    if unknown:
        raise InputError(
            f"no figure {', '.join(map(repr, unknown))}; expected some of {', '.join(NAMES)}"
        )
    from importlib import import_module

    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    from refbnn.cli.report import as_json
    from refbnn.files.atomic import write_text

    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{arguments.out}: {error.strerror}; expected a folder") from None
    names = list(dict.fromkeys(arguments.names)) or list(NAMES)
    modules = {name: import_module(f"figures.{name}") for name in names}
    total = sum(module.STEPS for module in modules.values())
    with threadpool_limits(1), tqdm(total=total, desc="figures", disable=None) as bar:

        def tick(what: str) -> None:
            bar.set_postfix_str(what, refresh=False)
            bar.update()

        for name, module in modules.items():
            numbers = module.make(arguments.out, arguments.seed, arguments.mc_samples, tick)
            write_text(arguments.out / f"{name}.json", as_json(numbers))
    for name in names:
        print(arguments.out / f"{name}.json")
    return []
