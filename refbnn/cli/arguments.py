"""Argument types and options that several commands share, and how their values are read."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from refbnn.errors import InputError, suggestion
from refbnn.files.atomic import require_writable

# The rarest event that a check looks at has probability 1/44 (verification.activations): fewer
# samples would not see enough of them for a z-score to be normal. More than the most would not fit
# memory.
_FEWEST_SAMPLES, _MOST_SAMPLES = 50_000, 50_000_000
PICTURES = (".png", ".svg", ".pdf")  # suffixes of picture files
_OF_A_TABLE = ("column", "where", "pool", "drop_missing", "delimiter", "decimal", "skip_rows")
_WRITTEN = ("out", "json", "plot")  # options that name a file to write


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


def positive(*words: str):
    """Argument type: a finite number above 0, or one of the words."""
    wanted = ", or ".join(["a number above 0", *words])

    def parse(text: str) -> float | str:
        if text in words:
            return text
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0.0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r}; expected {wanted}")
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
    written = [(name, values.get(name)) for name in _WRITTEN]
    no_input = {*_WRITTEN, *_OF_A_TABLE}
    read = [(name, value) for name, value in values.items() if name not in no_input]
    for index, (name, path) in enumerate(written):
        for other, value in [*written[index + 1 :], *read]:
            if not isinstance(path, Path) or not isinstance(value, str | Path):
                continue
            if (command, name, other) == ("calibrate", "out", "model"):
                continue  # a network may take its factor in place
            if Path(value).resolve() == path.resolve():
                raise InputError(f"--{name} {path}: this is {other} too; choose another name")


def output_file(*suffixes: str):
    """Argument type: the path of a file that can be written, with one of the suffixes, if any."""

    def parse(text: str) -> Path:
        path = Path(text)
        try:
            if suffixes and path.suffix not in suffixes:
                ends = f"{', '.join(suffixes[:-1])} or " * (len(suffixes) > 1) + suffixes[-1]
                raise InputError(f"{path}: expected a name that ends in {ends}")
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
    *suffixes: str,
    required: bool = False,
) -> None:
    """-o, --out: a file to write, whose name ends in one of the suffixes, if any."""
    kind = output_file(*suffixes)
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


def add_plot(parser: argparse.ArgumentParser, what: str) -> None:
    """--plot: a picture to write; `refbnn.cli.output.plotter` draws and saves it."""
    parser.add_argument(
        "--plot",
        metavar="FILE",
        type=output_file(*PICTURES),
        help=f"also draw {what}, as PNG, SVG or PDF by the file's suffix",
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


_FORMS = "a name that `refbnn data list` prints, a folder of IDX files, or a file .npz of x and y"


def add_data(parser: argparse.ArgumentParser, what: str) -> None:
    """--data."""
    parser.add_argument("--data", metavar="DATA", required=True, help=f"{_FORMS}: {what}")


def add_data_sets(parser: argparse.ArgumentParser) -> None:
    """--id, --ood."""
    parser.add_argument(
        "--id",
        metavar="DATA",
        required=True,
        help=f"data set in distribution, its test split: {_FORMS}; of a file, x_test and y_test "
        "where it has them",
    )
    parser.add_argument(
        "--ood",
        metavar="DATA",
        help="data set out of distribution, its test split, for AUROC",
    )


def add_method(parser: argparse.ArgumentParser, default: str, more: str = "") -> None:
    """--method, where the help names more methods than those of `predict`, and --samples."""
    parser.add_argument(
        "--method",
        metavar="METHOD",
        default=default,
        help="pfp: propagation; linearised: propagation with the covariances of the outputs; full: "
        f"with all covariances (dense networks); svi: sampled weights{more} (default: %(default)s)",
    )
    text = (
        "svi: passes with sampled weights (default: 30); linearised, full: points of the logits "
        "(default: 1024); pfp: draws of the logits in place of quadrature"
    )
    add_integer(parser, "--samples", 2, None, text)


def add_noise(parser: argparse.ArgumentParser) -> None:
    """--noise-data, and add_rows's options."""
    parser.add_argument(
        "--noise-data",
        metavar="FILE",
        help="table of measured device values: CSV or another text, plain or gzip; by default, "
        "packaged conductances of a simulated magnetic tunnel junction",
    )
    add_rows(parser)


def add_rows(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose values from a table, and say how the table is laid out."""
    parser.add_argument(
        "--column",
        metavar="NAME",
        help="column that holds the values, or several by a pattern such as 'read*'; by default "
        "the only one, or conductance_uS",
    )
    parser.add_argument(
        "--where",
        metavar="'NAME=VALUE,...'",
        type=_conditions,
        help="keep only rows where these columns hold these numbers or texts",
    )
    parser.add_argument(
        "--pool",
        action="store_true",
        help="fit one law to values that differ with another column, such as a range or a time",
    )
    parser.add_argument(
        "--drop-missing",
        action="store_true",
        help="leave out missing values and readings beyond the instrument's range",
    )
    parser.add_argument(
        "--delimiter",
        metavar="SIGN",
        type=_delimiter,
        help="sign between two columns, one character, 'tab' or 'space' (default: found)",
    )
    parser.add_argument(
        "--decimal",
        metavar="SIGN",
        choices=(".", ","),
        default=".",
        help="decimal sign, a point or a comma (default: %(default)s)",
    )
    add_integer(parser, "--skip-rows", 0, 0, "lines before the table")
    parser.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether the first row holds the columns' names; without names, columns are called "
        "by their number from 1 (default: it does, unless it holds numbers alone)",
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

    if arguments.noise_data is not None:
        found, source = read_rows(arguments.noise_data, arguments)
        return found.values, found.column, source
    given = [getattr(arguments, name) for name in _OF_A_TABLE]
    if any(value not in (None, False, 0, ".") for value in given):
        raise InputError(
            "--column, --where and the options of a table need a file; expected --noise-data FILE"
        )
    found, _ = read_rows(str(packaged("mtj_conductance.csv")), arguments)
    return (
        found.values,
        found.column,
        "packaged conductances of a simulated magnetic tunnel junction",
    )


def read_rows(path: str, arguments: argparse.Namespace):
    """Read measurements, and their source in words, as add_rows's options say.

    What a user should know of the values, such as how many are left out, goes to standard error.
    """
    from refbnn.noise.measurements import read
    from refbnn.noise.table import Layout

    layout = Layout(arguments.delimiter, arguments.decimal, arguments.skip_rows, arguments.header)
    found = read(
        path,
        arguments.column,
        arguments.where,
        drop_missing=arguments.drop_missing,
        pool=arguments.pool,
        layout=layout,
    )
    for note in found.notes:
        print(f"refbnn: {path}: {note}", file=sys.stderr)
    return found, described(path, arguments.where)


def described(path: str, where: Mapping[str, float | str] | None) -> str:
    """Name a file and the rows chosen from it."""
    conditions = ", ".join(
        f"{name} = {value if isinstance(value, str) else f'{value:g}'}"
        for name, value in (where or {}).items()
    )
    return f"{path} where {conditions}" if conditions else path


def fit_noise(values, column: str, source: str, **settings):
    """Fit a law, with the settings of `refbnn.noise.fit`, to what read_noise returns.

    Errors name the source; families that bounds leave out are named on standard error. The fit runs
    on one thread: its sums are small, and several threads would wait for each other.
    """
    from threadpoolctl import threadpool_limits

    from refbnn.noise import fit

    try:
        with threadpool_limits(1):
            found = fit(values, **settings)
    except InputError as error:
        raise InputError(f"{source}, {column}: {error}") from None
    for family, share in found.left_out.items():
        print(
            f"refbnn: left out {family}: {100.0 * share:.2g} % of its probability lies outside the "
            "bounds",
            file=sys.stderr,
        )
    if found.cut:
        print(
            f"refbnn: {found.family} is cut at the bounds, which takes {found.cut:.2g} of its "
            "probability; its parameters are those before the cut",
            file=sys.stderr,
        )
    return found


def _conditions(text: str) -> dict[str, float | str]:
    conditions: dict[str, float | str] = {}
    for part in text.split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not (equals and name and value):
            raise argparse.ArgumentTypeError(f"{text!r}; expected NAME=VALUE,NAME=VALUE,...")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        conditions[name] = number if math.isfinite(number) else value
    return conditions


def _delimiter(text: str) -> str:
    named = {"tab": "\t", "\\t": "\t", "space": " "}.get(text, text)
    if len(named) != 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected one character, 'tab' or 'space'")
    return named
