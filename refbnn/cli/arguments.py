"""Argument types and options that several commands share, and how their values are read."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

from refbnn.errors import InputError, quoted, suggestion
from refbnn.files.atomic import require_writable

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
            raise argparse.ArgumentTypeError(f"{quoted(text)}; expected an integer, {wanted}")
        return value

    return parse


def require_one_of(option: str, value: str, known: Iterable[str]) -> None:
    """Raise InputError, with the nearest known value, unless the value is one of them."""
    known = list(known)
    if value not in known:
        raise InputError(
            f"{option} {value}: expected one of {', '.join(known)}{suggestion(value, known)}"
        )


def require_distinct_files(command: str, values: Mapping[str, object]) -> None:
    """Raise InputError if an output file is an input or another output."""
    written = [(name, values.get(name)) for name in ("out", "json")]
    read = [(name, value) for name, value in values.items() if name not in ("out", "json")]
    for index, (name, path) in enumerate(written):
        for other, value in [*written[index + 1 :], *read]:
            if not isinstance(path, Path) or not isinstance(value, str | Path):
                continue
            if (command, name, other) == ("calibrate", "out", "model"):
                continue  # a network may take its factor in place
            if Path(value).resolve() == path.resolve():
                raise InputError(f"--{name} {path}: this is {other} too; choose another name")


def output_file(suffix: str = ""):
    """Argument type: the path of a file that can be written and whose name ends in `suffix`."""

    def parse(text: str) -> Path:
        path = Path(text)
        try:
            if suffix and path.suffix != suffix:
                raise InputError(f"{path}: expected a name that ends in {suffix}")
            require_writable(path)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return path

    return parse


def add_integer(
    parser: argparse.ArgumentParser,
    option: str,
    least: int,
    default: int | None,
    text: str,
    most: int | None = None,
) -> None:
    """Add an option with an integer; the help shows its default, if there is one."""
    if default is not None:
        text += " (default: %(default)s)"
    parser.add_argument(
        option, type=integer_from(least, most), default=default, metavar="N", help=text
    )


def add_out(
    parser: argparse.ArgumentParser,
    metavar: str,
    text: str,
    suffix: str = "",
    required: bool = False,
) -> None:
    """-o, --out: a file to write, whose name ends in `suffix`."""
    kind = output_file(suffix)
    parser.add_argument("-o", "--out", metavar=metavar, type=kind, required=required, help=text)


def add_seed(parser: argparse.ArgumentParser) -> None:
    """--seed."""
    add_integer(parser, "--seed", 0, 0, "seed of every random number")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """--threads."""
    text = (
        "threads for linear algebra; more of them speed up large networks on idle cores, and sums "
        "then round differently"
    )
    add_integer(parser, "--threads", 1, 1, text)


def add_model(parser: argparse.ArgumentParser) -> None:
    """MODEL.npz."""
    parser.add_argument(
        "model", metavar="MODEL.npz", type=Path, help="network that `refbnn train` saved"
    )


def add_json(parser: argparse.ArgumentParser, what: str = "the numbers") -> None:
    """--json."""
    parser.add_argument(
        "--json", metavar="FILE", type=output_file(), help=f"also write {what} as JSON"
    )


def add_normalise(parser: argparse.ArgumentParser) -> None:
    """--normalise."""
    parser.add_argument(
        "--normalise",
        metavar=("MEAN", "SD"),
        nargs=2,
        type=float,
        action="append",
        help="the network takes (x - MEAN)/SD of its inputs, as in training elsewhere; once for "
        "all channels, or repeated for each (default: x as it is)",
    )


def normalise(arguments: argparse.Namespace):
    """Read add_normalise's option as a list of layers: one `Normalise`, or none."""
    from refbnn.layers import Normalise

    if not arguments.normalise:
        return []
    try:
        mean, sd = zip(*arguments.normalise, strict=True)
        return [Normalise(mean, sd) if len(mean) > 1 else Normalise(mean[0], sd[0])]
    except InputError as error:
        raise InputError(f"--normalise: {str(error).removeprefix('Normalise: ')}") from None


def add_data_sets(parser: argparse.ArgumentParser) -> None:
    """--id, --ood."""
    parser.add_argument(
        "--id",
        metavar="NAME",
        required=True,
        help="data set in distribution, of those that `refbnn data list` prints: its test split",
    )
    parser.add_argument(
        "--ood", metavar="NAME", help="data set out of distribution, its test split, for AUROC"
    )


def add_method(parser: argparse.ArgumentParser, default: str, more: str = "") -> None:
    """--method, where the help names more methods than pfp, full and svi, and --samples."""
    parser.add_argument(
        "--method",
        metavar="METHOD",
        default=default,
        help="pfp: propagation; full: propagation with all covariances (dense networks); svi: "
        f"sampled weights{more} (default: %(default)s)",
    )
    text = (
        "svi: passes with sampled weights (default: 30); full: draws of the logits "
        "(default: 1000); pfp: draws of the logits in place of quadrature"
    )
    add_integer(parser, "--samples", 2, None, text)


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


def add_mc_samples(parser: argparse.ArgumentParser) -> None:
    """--mc-samples."""
    text = "Monte Carlo samples behind each check"
    add_integer(parser, "--mc-samples", _FEWEST_SAMPLES, 1_000_000, text, _MOST_SAMPLES)


def add_target(parser: argparse.ArgumentParser) -> None:
    """--target."""
    parser.add_argument(
        "--target", default="host", metavar="NAME", help="CPU to compile for (default: %(default)s)"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device, --tracker, --key."""
    parser.add_argument(
        "--device",
        metavar="DEVICE",
        help="local: run on this machine; emulated: on an emulated Arm core; rpc: on a board "
        "(default: local; rpc with --tracker)",
    )
    parser.add_argument(
        "--tracker",
        metavar="HOST:PORT",
        help="TVM's tracker, which knows the boards (default: TVM_TRACKER_HOST and "
        "TVM_TRACKER_PORT of the environment)",
    )
    parser.add_argument(
        "--key",
        metavar="KEY",
        help="name of the boards at the tracker (default: TVM_TRACKER_KEY of the environment)",
    )


def device(arguments: argparse.Namespace):
    """Read add_device's options as `kernels.compile_network` takes them: a name or a board."""
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
    """Read values, their column's name and their source in words, as add_noise's options say."""
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
    """Name a file and the rows chosen from it."""
    conditions = ", ".join(f"{k} = {v:g}" for k, v in (where or {}).items())
    return f"{path} where {conditions}" if conditions else path


def fit_noise(values, column: str, source: str, **settings):
    """Fit a law, with the settings of `refbnn.noise.fit`, to what read_noise returns.

    Errors name the source. The fit runs on one thread: its sums are small, and several threads
    would wait for each other.
    """
    from threadpoolctl import threadpool_limits

    from refbnn.noise import fit

    try:
        with threadpool_limits(1):
            return fit(values, **settings)
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
            raise argparse.ArgumentTypeError(
                f"{quoted(text)}; expected NAME=NUMBER,NAME=NUMBER,..."
            )
    return conditions
