"""A report: one HTML page a person can read, its pictures, and the same numbers as JSON."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from refbnn.cli.output import as_json
from refbnn.errors import InputError

_NUMBERS, _PAGE = "report.json", "index.html"
_MARK = "refbnn_report"  # the key of report.json that holds the version of its layout
_VERSION = 1


@dataclass(frozen=True)
class Table:
    """One table of text: its header and its rows; columns of `words` are flush left."""

    caption: str
    header: list[str]
    rows: list[list[str]]
    words: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Picture:
    """A picture file of the report, with its caption."""

    file: str
    caption: str


@dataclass(frozen=True)
class Section:
    """One part of the page: paragraphs that say what was done and how, tables, pictures."""

    title: str
    paragraphs: list[str]
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


@contextlib.contextmanager
def folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder; its files become the report `target` if there is no error.

    An earlier report there is replaced whole. After an error the folder stays as it was.

    Raises
    ------
    InputError
        If `target` is something else than a report or an empty folder, or cannot be written.
    """
    from refbnn.files.folder import require_replaceable, write_folder

    if target.resolve() == Path.cwd():
        raise InputError(f"{target} is the current folder; expected another one for the report")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        require_replaceable(target, _names(target))
        with tempfile.TemporaryDirectory() as work:
            yield Path(work)
            files = {file.name: file.read_bytes() for file in Path(work).iterdir()}
            write_folder(target, files, _names(target))
    except OSError as error:
        raise InputError(
            f"{target}: {error.strerror or error}; expected a folder to write to"
        ) from None


def _names(target: Path) -> set[str]:
    """Names of the files of a report; InputError for a folder that holds anything else."""
    names = {path.name for path in target.iterdir()} if target.is_dir() else set()
    pictures = {name for name in names if name.endswith(".png")}
    own = _NUMBERS in names <= {_NUMBERS, _PAGE, *pictures} and _is_report(target / _NUMBERS)
    if names and not own:
        raise InputError(f"{target} exists and is not a report; choose a new or an empty folder")
    return names


def _is_report(numbers: Path) -> bool:
    try:
        return _MARK in json.loads(numbers.read_text(encoding="utf-8"))
    except (ValueError, TypeError, RecursionError):
        return False


def write(work: Path, title: str, sections: list[Section], numbers: dict) -> None:
    """Write index.html and report.json into a folder."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("refbnn.cli", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(title=title, sections=sections)
    (work / _PAGE).write_text(page, encoding="utf-8")
    (work / _NUMBERS).write_text(as_json({_MARK: _VERSION, **numbers}), encoding="utf-8")
