"""`refbnn data`: which data sets there are, fetch their files, look at them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from refbnn.errors import InputError

HELP = "list the data sets, fetch their files, draw examples"
_PUBLISHED = ("mnist", "fashion-mnist", "ambiguous-mnist")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The three actions and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="print every data set and whether it is here")
    listing.set_defaults(act=_list)

    fetching = actions.add_parser(
        "fetch",
        help="download published files to the cache",
        description="Download published files to the cache, each compared with its checksum. "
        "Files in the folder that REFBNN_DATA names are used instead where they exist.",
    )
    fetching.add_argument(
        "names",
        metavar="NAME",
        nargs="+",
        choices=_PUBLISHED,
        help=f"one or several of {', '.join(_PUBLISHED)}",
    )
    fetching.set_defaults(act=_fetch)

    showing = actions.add_parser("show", help="draw examples with their labels")
    showing.add_argument(
        "name", metavar="NAME", help="a name that `refbnn data list` prints, or utkface:FOLDER"
    )
    showing.add_argument(
        "--split", choices=("train", "test"), default="test", help="(default: %(default)s)"
    )
    showing.add_argument(
        "-o", "--out", metavar="FILE.png", type=Path, required=True, help="picture to write"
    )
    showing.set_defaults(act=_show)


def run(arguments: argparse.Namespace) -> list[str]:
    """Do one action; there is no check that could fail."""
    arguments.act(arguments)
    return []


def _list(arguments: argparse.Namespace) -> None:
    from tabulate import tabulate

    from refbnn.data.catalogue import ENTRIES, FACES, SPLITS

    rows = []
    for entry in ENTRIES:
        sizes = [f"{entry.sizes[split]:,}" if split in entry.sizes else "—" for split in SPLITS]
        here = [split for split in entry.sizes if entry.is_here(split)]
        state = " and ".join(here) or "no"
        rows.append([entry.name, *sizes, entry.task, state, entry.origin, entry.licence])
    rows.append([f"{FACES}FOLDER", "90 %", "10 %", "regression", "—", "a folder of UTKFace", "—"])
    header = ["name", "train", "test", "task", "here", "origin", "licence"]
    align = ["left", "right", "right", "left", "left", "left", "left"]
    print(tabulate(rows, header, colalign=align, disable_numparse=True))


def _fetch(arguments: argparse.Namespace) -> None:
    from refbnn.data.published import PUBLICATIONS, fetch

    for publication in PUBLICATIONS:
        if publication.name in arguments.names:
            for path in fetch(publication, progress=sys.stderr.isatty()):
                print(path)


def _show(arguments: argparse.Namespace) -> None:
    from figures.pictures import data_grid
    from refbnn.data import load
    from refbnn.files.atomic import require_writable, written_atomically

    if arguments.out.suffix != ".png":
        raise InputError(f"{arguments.out}: expected a name that ends in .png")
    require_writable(arguments.out)
    dataset = load(arguments.name, arguments.split)
    with written_atomically(arguments.out) as path:
        data_grid.draw(dataset, path)
    print(f"{arguments.out}: {arguments.split} split, {dataset.source}")
