"""A report: one HTML page a person can read, its pictures, and the same numbers as JSON."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from refbnn.errors import InputError

_MARK = "report.json"  # a folder that holds it is a report and may be replaced


@dataclass(frozen=True)
class Table:
    """Header and rows of one table, all text; columns of `words` are set flush left."""

    caption: str
    header: list[str]
    rows: list[list[str]]
    words: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Picture:
    """A picture file of the report, and what it shows."""

    file: str
    caption: str


@dataclass(frozen=True)
class Section:
    """One part of the page: what was done and how, in paragraphs, then tables and pictures."""

    title: str
    paragraphs: list[str]
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


@contextlib.contextmanager
def folder(target: Path) -> Iterator[Path]:
    """Temporary folder that becomes `target` when the block ends without an error.

    An earlier report there is replaced whole. After an error nothing is left and nothing changed.

    Raises
    ------
    InputError
        If `target` is something else than a report or an empty folder, or cannot be written.
    """
    replaceable = (
        not target.exists()
        or (target / _MARK).is_file()
        or (target.is_dir() and not any(target.iterdir()))
    )
    if not replaceable:
        raise InputError(f"{target}: exists and is no report; expected a new or empty folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise InputError(f"{target}: {error.strerror}; expected a folder to write to") from None
    try:
        yield work
        # mkdtemp makes folders private; a report is for everyone the umask allows.
        umask = os.umask(0)
        os.umask(umask)
        work.chmod(0o777 & ~umask)
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
        if target.exists():
            target.rename(old / target.name)
        work.rename(target)
        shutil.rmtree(old)
    except OSError as error:
        raise InputError(f"{target}: {error.strerror or error}; expected to write there") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


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
    (work / "index.html").write_text(page, encoding="utf-8")
    (work / _MARK).write_text(json.dumps(numbers, indent=1, allow_nan=False) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Write a text file whole or not at all; InputError if it cannot be written."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}-", delete=False
        ) as file:
            file.write(text)
        os.replace(file.name, path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a file to write to") from None
