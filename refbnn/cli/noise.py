"""`refbnn noise`: fit a law to measurements, look at it, draw from it."""

from __future__ import annotations

import argparse
from pathlib import Path

from refbnn.cli import arguments as options
from refbnn.errors import InputError

HELP = "fit a law to measured device noise, show it, sample it"
_MOST_SAMPLES = 1_000_000_000
_BLOCK = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The three actions and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    fitting = actions.add_parser("fit", help="fit a law to one column of a CSV file")
    fitting.add_argument(
        "file", metavar="FILE", help="CSV file (.csv or .csv.gz) with a header row"
    )
    options.add_rows(fitting)
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
    fitting.add_argument(
        "-o", "--out", metavar="LAW.json", type=Path, help="file to save the law in"
    )
    fitting.add_argument("--json", metavar="FILE", type=Path, help="also write the tables as JSON")
    options.add_seed(fitting)
    fitting.set_defaults(act=_fit)

    showing = actions.add_parser("show", help="print a saved law and draw it")
    showing.add_argument("law", metavar="LAW.json", type=Path)
    showing.add_argument(
        "-o",
        "--out",
        metavar="FILE.png",
        type=Path,
        help="picture to write (default: the law's name with .png, in the current folder)",
    )
    showing.set_defaults(act=_show)

    sampling = actions.add_parser("sample", help="draw from a saved law")
    sampling.add_argument("law", metavar="LAW.json", type=Path)
    sampling.add_argument(
        "-n",
        metavar="N",
        type=options.integer_from(1, _MOST_SAMPLES),
        required=True,
        help="how many values",
    )
    sampling.add_argument(
        "-o", "--out", metavar="FILE.npy", type=Path, required=True, help="NumPy file to write"
    )
    sampling.add_argument(
        "--standardised",
        action="store_true",
        help="values of mean 0 and variance 1; by default in the unit that was measured",
    )
    options.add_seed(sampling)
    sampling.set_defaults(act=_sample)


def run(arguments: argparse.Namespace) -> list[str]:
    """Do one action; a law that does not fit is a check that failed."""
    return arguments.act(arguments)


def _fit(arguments: argparse.Namespace) -> list[str]:
    from refbnn.cli import describe
    from refbnn.cli.report import as_json
    from refbnn.files.atomic import require_writable, write_text
    from refbnn.noise import read_measurements
    from refbnn.noise.fitting import FAMILIES

    for path in (arguments.out, arguments.json):
        if path is not None:
            require_writable(path)
    values, column = read_measurements(arguments.file, arguments.column, arguments.where)
    source = options.described(arguments.file, arguments.where)
    found = options.fit_noise(
        values,
        column,
        source,
        families=arguments.family or FAMILIES,
        bounds=arguments.bounds,
        seed=arguments.seed,
    )
    tables = [describe.law_table(found.law, describe.measured(found, column))]
    _print([*describe.fit_tables(found)[::-1], *tables])
    print(found.verdict)
    text = as_json(describe.fit_numbers(found, column, source))
    for path in (arguments.out, arguments.json):
        if path is not None:
            write_text(path, text)
    return [] if found.fits else [found.verdict]


def _show(arguments: argparse.Namespace) -> list[str]:
    from figures.pictures import law as law_picture
    from refbnn.cli import describe
    from refbnn.files.atomic import written_atomically
    from refbnn.noise import load_law

    law, place = load_law(arguments.law)
    out = arguments.out or Path(arguments.law.with_suffix(".png").name)
    _print([describe.law_table(law, place)])
    with written_atomically(out) as path:
        law_picture.draw(law, place, path)
    print(out)
    return []


def _sample(arguments: argparse.Namespace) -> list[str]:
    import numpy as np
    from tqdm import tqdm

    from refbnn.files.atomic import written_atomically
    from refbnn.noise import load_law
    from refbnn.noise.storage import Measured
    from refbnn.numerics.random.streams import stream

    if arguments.out.suffix != ".npy":
        raise InputError(f"{arguments.out}: expected a name that ends in .npy")
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
    from tabulate import tabulate

    for table in tables:
        align = ["left" if i in table.words else "right" for i in range(len(table.header))]
        print(f"{table.caption}\n")
        print(tabulate(table.rows, table.header, colalign=align, disable_numparse=True), end="\n\n")


def _bounds(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
        ordered = low < high
    except ValueError:
        ordered = False
    if not ordered:
        raise argparse.ArgumentTypeError(f"{text!r}; expected LOW,HIGH with LOW < HIGH")
    return low, high
