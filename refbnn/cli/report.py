"""A report: one HTML page a person can read, its pictures, and the same numbers as JSON."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from refbnn.errors import InputError
from refbnn.files.atomic import umask

_NUMBERS, _PAGE = "report.json", "index.html"
_MARK = "refbnn_report"  # the key of report.json that holds the version of its layout
_VERSION = 1


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

    An earlier report there is replaced whole. After an error the temporary folder is removed and
    what was there stays.

    Raises
    ------
    InputError
        If `target` is something else than a report or an empty folder, or cannot be written.
    """
    shown, target = target, Path(os.path.realpath(target))
    if target == Path.cwd():
        raise InputError(f"{shown}: is the current folder; expected another one for the report")
    try:
        _require_replaceable(shown, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}-", dir=target.parent))
    except OSError as error:
        raise InputError(f"{shown}: {error.strerror}; expected a folder to write to") from None
    try:
        yield work
        work.chmod(0o777 & ~umask())  # mkdtemp makes folders private
        _require_replaceable(shown, target)
        _swap(work, target)
    except OSError as error:
        raise InputError(f"{shown}: {error.strerror or error}; expected to write there") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _require_replaceable(shown: Path, target: Path) -> None:
    """InputError unless the target is absent, an empty folder, or a report and nothing else."""
    if not target.exists():
        return
    names = {path.name for path in target.iterdir()} if target.is_dir() else {"."}
    if not names:
        return
    own = {_NUMBERS, _PAGE, *(name for name in names if name.endswith(".png"))}
    if not (_NUMBERS in names <= own and _is_report(target / _NUMBERS)):
        raise InputError(f"{shown}: exists and is no report; expected a new or empty folder")


def _is_report(numbers: Path) -> bool:
    try:
        return _MARK in json.loads(numbers.read_text(encoding="utf-8"))
    except (ValueError, TypeError):
        return False


def _swap(work: Path, target: Path) -> None:
    """Put `work` in the place of `target`; if that fails, what was there comes back."""
    if not target.exists():
        work.rename(target)
        return
    keep = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}-old-", dir=target.parent))
    try:
        target.rename(keep / "report")
        try:
            work.rename(target)
        except OSError:
            (keep / "report").rename(target)
            raise
    finally:
        shutil.rmtree(keep, ignore_errors=True)


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


def as_json(value: dict) -> str:
    """JSON text; what is not a finite number becomes null, since JSON knows no NaN."""

    def clean(item):
        if isinstance(item, dict):
            return {key: clean(entry) for key, entry in item.items()}
        if isinstance(item, list | tuple):
            return [clean(entry) for entry in item]
        return None if isinstance(item, float) and not math.isfinite(item) else item

    return json.dumps(clean(value), indent=1, allow_nan=False) + "\n"
