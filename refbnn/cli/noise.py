"""`refbnn noise`: fit a law to measurements, look at it, draw from it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from refbnn.cli import arguments as shared
from refbnn.errors import InputError, MissingPackageError, naming_the_extra, quoted

_MOST_SAMPLES = 1_000_000_000
_BLOCK = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the three actions, each with its options."""
    parser.set_defaults(act=_without_action)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    _add_fit(actions)
    _add_show(actions)
    _add_sample(actions)


def _add_fit(actions) -> None:
    fitting = actions.add_parser("fit", help="fit a law to one column of a table")
    fitting.add_argument(
        "file", metavar="FILE", help="table of measurements: CSV or another text, plain or gzip"
    )
    shared.add_rows(fitting)
    fitting.add_argument(
        "--family",
        metavar="NAME",
        action="append",
        help="only this family (may be repeated); by default all are compared",
    )
    fitting.add_argument(
        "--bounds",
        metavar="LOW,HIGH",
        type=_bounds,
        default=(float("-inf"), float("inf")),
        help="physical limits that the law stays within, such as 0,inf",
    )
    text = "file to save the law in, unless the test refutes it"
    shared.add_out(fitting, "LAW.json", text)
    fitting.add_argument(
        "--save-refuted",
        action="store_true",
        help="save the nearest law although the test refutes it, and exit with 0",
    )
    shared.add_json(fitting, "the tables")
    shared.add_plot(fitting, "the law over the values, and its residuals")
    shared.add_seed(fitting)
    fitting.set_defaults(act=_fit)


def _add_show(actions) -> None:
    showing = actions.add_parser("show", help="print a saved law and draw it")
    showing.add_argument("law", metavar="LAW.json", type=Path)
    text = "picture to write: .png, .svg or .pdf (default: the law's name with .png, in the "
    text += "current folder)"
    shared.add_out(showing, "FILE", text, *shared.PICTURES)
    shared.add_json(showing, "the table and the law")
    showing.set_defaults(act=_show)


def _add_sample(actions) -> None:
    sampling = actions.add_parser("sample", help="draw from a saved law")
    sampling.add_argument("law", metavar="LAW.json", type=Path)
    sampling.add_argument(
        "-n",
        metavar="N",
        type=shared.integer_from(1, _MOST_SAMPLES),
        required=True,
        help="number of values",
    )
    shared.add_out(sampling, "FILE.npy", "NumPy file to write", ".npy", required=True)
    sampling.add_argument(
        "--standardised",
        action="store_true",
        help="draw values of mean 0 and variance 1; by default in the unit that was measured",
    )
    shared.add_seed(sampling)
    sampling.set_defaults(act=_sample)


def run(arguments: argparse.Namespace) -> list[str]:
    """Do one action; a law that does not fit is a check that failed."""
    return arguments.act(arguments)


def _without_action(_: argparse.Namespace) -> list[str]:
    raise InputError("no action; expected fit, show or sample, as in `refbnn noise fit TABLE.csv`")


def _fit(arguments: argparse.Namespace) -> list[str]:
    from refbnn.cli import describe
    from refbnn.cli.output import plotter, write_json
    from refbnn.noise.fitting import FAMILIES

    plot = plotter(arguments.plot, "noise_fit")

    if arguments.save_refuted and arguments.out is None:
        raise InputError("--save-refuted saves a law; expected -o LAW.json")
    for name in arguments.family or ():
        shared.require_one_of("--family", name, FAMILIES)
    rows, source = shared.read_rows(arguments.file, arguments)
    values, column = rows.values, rows.column
    found = shared.fit_noise(
        values,
        column,
        source,
        families=arguments.family or FAMILIES,
        bounds=arguments.bounds,
        seed=arguments.seed,
    )
    law = describe.law_table(found.law, describe.measured(found, column))
    _print([*describe.fit_tables(found)[::-1], law])
    print(found.verdict)
    numbers = describe.fit_numbers(found, column, source) | {"notes": rows.notes}
    kept = found.fits or arguments.save_refuted
    if kept:
        write_json(arguments.out, numbers)
    # The table of a refuted law is no file of a law.
    own = {} if kept else {"format": "refbnn refuted fit"}
    write_json(arguments.json, numbers | own)
    plot(found, values, column)
    if found.fits:
        return []
    if arguments.save_refuted:
        print(f"refbnn noise: {arguments.out}: saved, although {found.verdict}", file=sys.stderr)
        return []
    rest = f"; {arguments.out} is not written (--save-refuted writes it)"
    return [found.verdict + rest * (arguments.out is not None)]


def _show(arguments: argparse.Namespace) -> list[str]:
    from refbnn.cli import describe
    from refbnn.cli.output import write_json
    from refbnn.noise import load_law

    law, place = load_law(arguments.law)
    _print([describe.law_table(law, place)])
    write_json(arguments.json, describe.law_numbers(law, place))
    try:
        with naming_the_extra():
            from figures.pictures import law as law_picture
    except MissingPackageError as error:
        if arguments.out is not None:
            raise
        print(f"refbnn noise: no picture, which {error}", file=sys.stderr)
        return []
    out = arguments.out or Path(arguments.law.with_suffix(".png").name)
    law_picture.draw(law, place, out)
    print(out)
    return []


def _sample(arguments: argparse.Namespace) -> list[str]:
    import numpy as np
    from tqdm import tqdm

    from refbnn.files.atomic import written_atomically
    from refbnn.noise import load_law
    from refbnn.noise.storage import Measured
    from refbnn.numerics.random.streams import stream

    law, place = load_law(arguments.law)
    if arguments.standardised:
        place = Measured()
    rng = stream(arguments.seed, "samples of a saved law")
    with written_atomically(arguments.out) as path, open(path, "wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (arguments.n,)}
        np.lib.format.write_array_header_1_0(file, header)
        starts = range(0, arguments.n, _BLOCK)
        for start in tqdm(starts, desc="sample", unit="block", disable=None):
            z = law.sample(rng, (min(_BLOCK, arguments.n - start),))
            file.write((place.location + place.scale * z).astype("<f8").tobytes())
    print(f"{arguments.out}: {arguments.n} values, {place.quantity}")
    return []


def _print(tables) -> None:
    from refbnn.cli.output import print_table

    for table in tables:
        print(f"{table.caption}\n")
        print_table(table.header, table.rows, table.words)
        print()


def _bounds(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
        ordered = low < high
    except ValueError:
        ordered = False
    if not ordered:
        raise argparse.ArgumentTypeError(f"{quoted(text)}; expected LOW,HIGH with LOW < HIGH")
    return low, high
