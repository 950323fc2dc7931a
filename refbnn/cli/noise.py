"""`refbnn noise`: fit a law to measurements, look at it, draw from it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from refbnn.cli import arguments as shared
from refbnn.errors import MissingPackageError, naming_the_extra, quoted

_MOST_SAMPLES = 1_000_000_000
_BLOCK = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the three actions and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    fitting = actions.add_parser("fit", help="fit a law to one column of a CSV file")
    fitting.add_argument(
        "file", metavar="FILE", help="CSV file (.csv or .csv.gz) with a header row"
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
        help="physical limits that a bounded support stays within, such as 0,inf",
    )
    shared.add_out(fitting, "LAW.json", "file to save the law in")
    shared.add_json(fitting, "the tables")
    shared.add_seed(fitting)
    fitting.set_defaults(act=_fit)

    showing = actions.add_parser("show", help="print a saved law and draw it")
    showing.add_argument("law", metavar="LAW.json", type=Path)
    text = "picture to write (default: the law's name with .png, in the current folder)"
    shared.add_out(showing, "FILE.png", text, ".png")
    showing.set_defaults(act=_show)

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


def _fit(arguments: argparse.Namespace) -> list[str]:
    from refbnn.cli import describe
    from refbnn.cli.output import write_json
    from refbnn.noise import read_measurements
    from refbnn.noise.fitting import FAMILIES

    values, column = read_measurements(arguments.file, arguments.column, arguments.where)
    source = shared.described(arguments.file, arguments.where)
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
    for path in (arguments.out, arguments.json):
        write_json(path, describe.fit_numbers(found, column, source))
    return [] if found.fits else [found.verdict]


def _show(arguments: argparse.Namespace) -> list[str]:
    from refbnn.cli import describe
    from refbnn.noise import load_law

    law, place = load_law(arguments.law)
    _print([describe.law_table(law, place)])
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
