"""Argument types and options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from refbnn.errors import InputError

MONTE_CARLO_SAMPLES = 1_000_000
# The rarest event that a check looks at has probability 1/44 (verification.activations): fewer
# samples would not see enough of them for a z-score to be normal. More than the most would not fit
# memory.
_FEWEST_SAMPLES, _MOST_SAMPLES = 50_000, 50_000_000


def integer_from(least: int, most: int | None = None):
    """Argument type: an integer of at least `least` and at most `most`."""
    wanted = f"at least {least}" if most is None else f"{least} to {most}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"{text!r}; expected an integer, {wanted}")
        return value

    return parse


def add_seed(parser: argparse.ArgumentParser) -> None:
    """--seed."""
    parser.add_argument(
        "--seed",
        type=integer_from(0),
        default=0,
        metavar="N",
        help="seed of every random number (default: %(default)s)",
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    """--threads."""
    parser.add_argument(
        "--threads",
        type=integer_from(1),
        default=1,
        metavar="N",
        help="threads for linear algebra; more help large networks on idle cores, and sums then "
        "round differently (default: %(default)s)",
    )


def add_method(parser: argparse.ArgumentParser, more: tuple[str, ...], default: str) -> None:
    """--method, with more choices than pfp and svi, and --samples."""
    parser.add_argument(
        "--method",
        choices=("pfp", "full", "svi", *more),
        default=default,
        help="by propagation, by propagation with all covariances (dense networks) or by sampling "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--samples",
        type=integer_from(2),
        metavar="N",
        help="svi: passes with sampled weights (default: 30); full: draws of the logits "
        "(default: 1000); pfp: draws of the logits in place of quadrature",
    )


def add_noise(parser: argparse.ArgumentParser) -> None:
    """--noise-data, --column, --where."""
    parser.add_argument(
        "--noise-data",
        metavar="FILE",
        help="CSV file (.csv or .csv.gz) of measured device values with a header row; "
        "by default, packaged conductances of a simulated magnetic tunnel junction",
    )
    add_rows(parser)


def add_rows(parser: argparse.ArgumentParser) -> None:
    """--column, --where."""
    parser.add_argument(
        "--column",
        metavar="NAME",
        help="column that holds the values; by default the only one, or conductance_uS",
    )
    parser.add_argument(
        "--where",
        metavar="'NAME=NUMBER,...'",
        type=_conditions,
        help="keep only rows where these columns hold these numbers",
    )


def add_samples(parser: argparse.ArgumentParser) -> None:
    """--mc-samples."""
    parser.add_argument(
        "--mc-samples",
        type=integer_from(_FEWEST_SAMPLES, _MOST_SAMPLES),
        default=MONTE_CARLO_SAMPLES,
        metavar="N",
        help="Monte Carlo samples behind each check (default: %(default)s)",
    )


def add_target(parser: argparse.ArgumentParser) -> None:
    """--target."""
    parser.add_argument(
        "--target", default="host", metavar="NAME", help="CPU to compile for (default: %(default)s)"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device, --tracker, --key."""
    parser.add_argument(
        "--device",
        choices=("local", "emulated", "rpc"),
        help="run on this machine, on an emulated Arm core or on a board (default: local; rpc with "
        "--tracker)",
    )
    parser.add_argument(
        "--tracker",
        metavar="HOST:PORT",
        help="TVM's tracker, which knows the boards; by default as TVM_TRACKER_HOST and "
        "TVM_TRACKER_PORT say",
    )
    parser.add_argument(
        "--key",
        metavar="KEY",
        help="what the boards are called there; by default as TVM_TRACKER_KEY says",
    )


def device(arguments: argparse.Namespace):
    """What add_device's options say, as `kernels.compile_network` takes it: a name or a board."""
    name = arguments.device or ("local" if arguments.tracker is None else "rpc")
    if name == "rpc":
        from kernels.devices import board_from_environment as board

        return board(arguments.tracker, arguments.key)
    for option in ("tracker", "key"):
        if getattr(arguments, option) is not None:
            raise InputError(f"--{option} is for boards; expected --device rpc, not {name}")
    return name


def add_batch_sizes(parser: argparse.ArgumentParser, default: str = "1 10 256") -> None:
    """--batch-size; `default` is for the help."""
    parser.add_argument(
        "--batch-size",
        type=integer_from(1),
        nargs="+",
        default=[1, 10, 256],
        metavar="N",
        help=f"examples of one call, one number or several (default: {default})",
    )


def add_records(parser: argparse.ArgumentParser) -> None:
    """--records."""
    parser.add_argument(
        "--records",
        type=Path,
        metavar="FOLDER",
        help="folder of records of tuning (default: in the user's cache)",
    )


def read_noise(arguments: argparse.Namespace):
    """Values, their column's name and a description of their source, as add_noise's options say."""
    from refbnn.data import packaged
    from refbnn.noise import read_measurements

    if arguments.noise_data is None:
        if arguments.column or arguments.where:
            raise InputError("--column and --where choose from a file; expected --noise-data FILE")
        source = "packaged conductances of a simulated magnetic tunnel junction"
        path = packaged("mtj_conductance.csv")
    else:
        path = arguments.noise_data
        source = described(path, arguments.where)
    values, column = read_measurements(path, arguments.column, arguments.where)
    return values, column, source


def described(path: str, where: Mapping[str, float] | None) -> str:
    """A file and the rows chosen from it."""
    conditions = ", ".join(f"{k} = {v:g}" for k, v in (where or {}).items())
    return f"{path} where {conditions}" if conditions else path


def fit_noise(values, column: str, source: str, **options):
    """Fit a law, with options of `refbnn.noise.fit`, to what read_noise returns.

    Errors name the source. On one thread: the sums are small, threads would wait for each other.
    """
    from threadpoolctl import threadpool_limits

    from refbnn.noise import fit

    try:
        with threadpool_limits(1):
            return fit(values, **options)
    except InputError as error:
        raise InputError(f"{source}, {column}: {error}") from None


def _conditions(text: str) -> dict[str, float]:
    conditions = {}
    for part in text.split(","):
        name, equals, number = part.partition("=")
        try:
            conditions[name.strip()] = float(number)
        except ValueError:
            equals = ""
        if not (equals and name.strip()):
            raise argparse.ArgumentTypeError(f"{text!r}; expected NAME=NUMBER,NAME=NUMBER,...")
    return conditions
