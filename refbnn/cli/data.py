"""`refbnn data`: list the data sets, fetch their files, look at them."""

from __future__ import annotations

import argparse
import sys

from refbnn.cli import arguments as shared
from refbnn.errors import InputError, quoted, suggestion

_CHANNELS = (1, 3)  # of a picture: grey, or red, green and blue


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the three actions and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="print every data set and whether it is here")
    shared.add_json(listing, "the table")
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
        help="mnist, fashion-mnist or ambiguous-mnist, or several of them",
    )
    fetching.set_defaults(act=_fetch)

    showing = actions.add_parser("show", help="draw examples with their labels")
    showing.add_argument(
        "name",
        metavar="NAME",
        help="a name that `refbnn data list` prints, utkface:FOLDER, a "
        "folder of IDX files, or a file .npz of x and y",
    )
    showing.add_argument(
        "--split", choices=("train", "test"), default="test", help="(default: %(default)s)"
    )
    shared.add_out(showing, "FILE.png", "picture to write", ".png", required=True)
    showing.set_defaults(act=_show)


def run(arguments: argparse.Namespace) -> list[str]:
    """Do one action; there is no check that could fail."""
    arguments.act(arguments)
    return []


def _list(arguments: argparse.Namespace) -> None:
    from refbnn.cli.output import print_table, write_json
    from refbnn.data.catalogue import ENTRIES, FACES, SPLITS

    rows = []
    for entry in ENTRIES:
        sizes = [f"{entry.sizes[split]:,}" if split in entry.sizes else "—" for split in SPLITS]
        here = [split for split in entry.sizes if entry.is_here(split)]
        state = " and ".join(here) or "no"
        rows.append([entry.name, *sizes, entry.task, state, entry.origin, entry.licence])
    rows.append([f"{FACES}FOLDER", "90 %", "10 %", "regression", "—", "a folder of UTKFace", "—"])
    header = ["name", "train", "test", "task", "here", "origin", "licence"]
    print_table(header, rows, left=(0, 3, 4, 5, 6))
    numbers = [
        {"name": e.name, "sizes": e.sizes, "task": e.task}
        | {"here": [s for s in e.sizes if e.is_here(s)], "origin": e.origin, "licence": e.licence}
        for e in ENTRIES
    ]
    write_json(arguments.json, {"data_sets": numbers})


def _fetch(arguments: argparse.Namespace) -> None:
    from refbnn.data.published import PUBLICATIONS, fetch

    published = {publication.name: publication for publication in PUBLICATIONS}
    for name in arguments.names:
        if name not in published:
            raise InputError(
                f"no data set {quoted(name)} to fetch; expected some of {', '.join(published)}"
                f"{suggestion(name, published)}"
            )
    for name, publication in published.items():
        if name in arguments.names:
            for path in fetch(publication, progress=sys.stderr.isatty()):
                print(path)


def _show(arguments: argparse.Namespace) -> None:
    from figures.pictures import data_grid
    from refbnn.data import load

    dataset = load(arguments.name, arguments.split)
    if dataset.x.ndim != 4 or dataset.x.shape[1] not in _CHANNELS:
        raise InputError(
            f"{arguments.name}: examples of shape {dataset.x.shape[1:]}; expected images of one or "
            "three channels to draw"
        )
    data_grid.draw(dataset, arguments.out)
    print(f"{arguments.out}: {arguments.split} split, {dataset.source}")
