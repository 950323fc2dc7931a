"""A table of text as instruments and spreadsheets write it: its delimiter, names, units and rows.

The standard library's `csv` reads the rows. Around it, this module settles what a file does not
say of itself, and asks for an option where two answers are possible:

- *Encoding.* A byte-order mark tells UTF-16 from UTF-8. A line that is not UTF-8 is read as
  Windows-1252, which contains the printable characters of Latin-1.
- *Delimiter.* The one of comma, semicolon, tab and bar that cuts each of the first lines into the
  same number of fields, two or more; spaces if none of them does. (`csv.Sniffer` guesses from
  letter frequencies, and takes digits for delimiters.)
- *Names.* The first row, unless it holds numbers alone. A second row of words alone holds units.
- *Comments.* Lines that start with "#" are left out.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import TextIO

from refbnn.errors import InputError
from refbnn.noise.reading import is_number, is_word

_DELIMITERS = (",", ";", "\t", "|")
_LONGEST_LINE = 65_536
_WHOLE, _FRACTION = re.compile(r"[+-]?[0-9]+"), re.compile(r"[0-9]+([eE][+-]?[0-9]+)?")
_MOST_BLANK = 2_000_000  # blank lines remembered between two rows, more than there may be rows
_HEAD = 100  # lines that the delimiter is found by


@dataclass(frozen=True)
class Layout:
    """The layout of a text table, where the file does not tell it.

    Parameters
    ----------
    delimiter : str, optional
        One character between fields; by default it is found.
    decimal : str
        Decimal sign of numbers: "." or ",".
    skip_rows : int
        Lines before the table.
    header : bool, optional
        Whether the first row holds the names of the columns; without names they are called
        "column 1", "column 2" and so on. By default, a first row of numbers alone is refused.

    Raises
    ------
    InputError
        If a sign is no single character, or delimiter and decimal sign are the same.

    Examples
    --------
    >>> import tempfile
    >>> from refbnn.noise import read_measurements
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with open(f"{folder}/a.csv", "w") as file:
    ...         print("cycle;G", *(f"{i};{i * i},5" for i in range(60)), sep=chr(10), file=file)
    ...     values, _ = read_measurements(f"{folder}/a.csv", "G", layout=Layout(decimal=","))
    >>> values[:3]
    array([0.5, 1.5, 4.5])
    """

    delimiter: str | None = None
    decimal: str = "."
    skip_rows: int = 0
    header: bool | None = None

    def __post_init__(self):
        if self.decimal not in (".", ","):
            raise InputError(f"decimal sign {self.decimal!r}; expected '.' or ','")
        if self.delimiter is not None and (
            len(self.delimiter) != 1 or self.delimiter in '"\r\n#.' or self.delimiter.isalnum()
        ):
            raise InputError(
                f"delimiter {self.delimiter[:10]!r}; expected one character such as , ; or a tab"
            )
        if self.delimiter == self.decimal:
            raise InputError(f"{self.decimal!r} is delimiter and decimal sign; expected two signs")


@dataclass(frozen=True)
class Table:
    """An open table: names and units of its columns, and its rows, which are read once."""

    path: Path
    names: list[str]
    units: list[str]  # "" where there is none
    rows: Iterator[tuple[int, list[str]]]  # number of the line, fields


@contextmanager
def opened(path: Path, layout: Layout) -> Iterator[Table]:
    """Open a text table, plain or gzip by its content.

    Raises
    ------
    InputError
        If the file cannot be read, is no text, or does not tell its layout; also for errors of this
        kind while its rows are read.
    """
    try:
        with open(path, "rb") as raw:  # once: a pipe cannot be read twice
            start = raw.peek(4)[:4]
            if start == b"PK\x03\x04":
                raise InputError(
                    f"{path}: a workbook or another zip archive; expected text: save the sheet as "
                    "CSV"
                )
            content = gzip.GzipFile(fileobj=raw) if start[:2] == b"\x1f\x8b" else raw
            if content.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                text = io.TextIOWrapper(content, encoding="utf-16", newline="")
            else:  # "utf-8-sig" drops the byte-order mark that spreadsheets write
                text = io.TextIOWrapper(content, "utf-8-sig", "surrogateescape", newline="")
            with text:
                yield _table(_Lines(text, path, layout.skip_rows), path, layout)
    except InputError:
        raise
    except (OSError, EOFError, zlib.error, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: {reason}; expected a CSV file of measurements") from None


class _Lines:
    """Lines of bounded length without comments; `number` is that of the last line handed out."""

    def __init__(self, text: TextIO, path: Path, skipped: int):
        self.number = 0
        self._read = self._from_file(text, path, skipped)
        self.head = list(islice(self._read, _HEAD))

    def __iter__(self) -> Iterator[str]:
        for self.number, line in self.head:  # noqa: B020
            yield line
        for self.number, line in self._read:  # noqa: B020
            yield line

    @staticmethod
    def _from_file(text: TextIO, path: Path, skipped: int) -> Iterator[tuple[int, str]]:
        number = 0
        while line := text.readline(_LONGEST_LINE):
            number += 1
            # A compressed file may unpack to a single endless line.
            if len(line) == _LONGEST_LINE:
                raise InputError(
                    f"{path}: a line of over {_LONGEST_LINE} characters; expected rows"
                )
            if number <= skipped or line.lstrip().startswith("#"):
                continue
            if "\0" in line:
                raise InputError(
                    f"{path}: line {number} holds NUL characters; expected text in UTF-8, "
                    "in UTF-16 with a byte-order mark, or in Latin-1"
                )
            yield number, line if line.isascii() else _decoded(line)


def _decoded(line: str) -> str:
    """Read a line that is not UTF-8 as Windows-1252."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return line.encode("utf-8", "surrogateescape").decode("cp1252")
    return line


def _table(lines: _Lines, path: Path, layout: Layout) -> Table:
    delimiter = layout.delimiter or _found_delimiter(lines, path, layout)
    rows = _rows(lines, delimiter)
    number, names = next(rows, (0, []))
    if not names:
        raise InputError(f"{path}: no rows; expected the names of the columns, then numbers")
    numbers = all(is_number(name, layout.decimal) for name in names)
    if numbers and layout.header is None:
        raise InputError(
            f"{path}: the first row holds numbers; expected the names of the columns: give "
            "--no-header if the file has none, or --header if these numbers are the names"
        )
    first = [(number, names)] if layout.header is False else []
    if layout.header is False:
        names = [f"column {i + 1}" for i in range(len(names))]
    units = [""] * len(names)
    if not first and (row := next(rows, None)) is not None:
        if _is_units(row[1], len(names)):
            units = [*row[1], *units][: len(names)]
        else:
            first = [row]

    def checked():
        for number, row in chain(first, rows):
            if len(row) != len(names):
                hint = _hint(lines, names, row, delimiter, layout)
                raise InputError(
                    f"{path}: line {number} has {len(row)} fields; expected {len(names)}{hint}"
                )
            yield number, row

    return Table(path, names, units, checked())


def _rows(lines, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of stripped fields with their line's number, without blank ones and empty last fields.

    A row is cut to the width of the first where only empty fields follow. In a table of one column,
    a blank line between two rows is a row: its value is missing.
    """
    width = None
    blank: list[int] = []
    for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True):
        fields = [field.strip() for field in row]
        if not fields or (len(fields) > 1 and not any(fields)):
            if width == 1 and len(blank) < _MOST_BLANK:
                blank.append(lines.number)
            continue
        yield from ((number, [""]) for number in blank)
        blank.clear()
        if width is None:
            while len(fields) > 1 and not fields[-1]:
                fields.pop()
            width = len(fields)
        yield lines.number, fields[:width] if not any(fields[width:]) else fields


def _found_delimiter(lines: _Lines, path: Path, layout: Layout) -> str:
    """Find the delimiter by the first lines; InputError where two would do."""
    counts = {d: _counts(lines, d) for d in (*_DELIMITERS, " ") if d != layout.decimal}
    regular = [d for d, found in counts.items() if found and found[0] > 1 and len({*found}) == 1]
    if len(regular) > 1 and regular[-1] == " ":
        regular.pop()
    if len(regular) > 1:
        raise InputError(
            f"{path}: {' and '.join(map(repr, regular))} both cut every line alike; expected "
            "the delimiter (--delimiter) and, if a comma is the decimal sign, --decimal ,"
        )
    if regular:
        return regular[0]
    # Irregular: by the first line, so that the line that differs is named.
    widest = max(_DELIMITERS, key=lambda d: counts[d][0] if counts.get(d) else 0)
    if counts.get(widest) and counts[widest][0] > 1:
        return widest
    return ";" if layout.decimal == "," else ","  # one column


class _Head:
    """The first lines again, for another look at them."""

    def __init__(self, lines: _Lines):
        self.head, self.number = lines.head, 0

    def __iter__(self) -> Iterator[str]:
        for self.number, line in self.head:  # noqa: B020
            yield line


def _counts(lines: _Lines, delimiter: str) -> list[int]:
    """Number of fields of each of the first rows."""
    return [len(fields) for _, fields in _rows(_Head(lines), delimiter)]


def _hint(lines: _Lines, names: list[str], row: list[str], delimiter: str, layout: Layout) -> str:
    """Name the option that a row of another width asks for, or say that none helps."""
    halves = [_WHOLE.fullmatch(a) and _FRACTION.fullmatch(b) for a, b in pairwise(row)]
    if delimiter == "," and any(halves) and not any("." in field for field in row):
        if len(names) == 1 and len(row) == 2:
            both = f" (which reads {row[0]}.{row[1]}, not {row[0]}{row[1]})" * (len(row[1]) == 3)
            return f"; if the comma is the decimal sign, give --decimal ,{both}"
        if len(row) > len(names):
            return (
                "; if the comma is the decimal sign too, the file can be read in several ways: "
                "write it with another delimiter, such as ;, and give --decimal ,"
            )
    for d in (*_DELIMITERS, " "):
        rows = list(_rows(_Head(lines), d)) if d != layout.decimal else []
        for i in range(1, len(rows) - 1):
            if len(rows[i][1]) > 1 and len({len(fields) for _, fields in rows[i:]}) == 1:
                return (
                    f"; if the table starts at line {rows[i][0]}, give --skip-rows {rows[i][0] - 1}"
                )
    return ""


def _is_units(row: list[str], width: int) -> bool:
    """Whether a row below the names holds units: words alone, at most one a column."""
    words = [field for field in row if field]
    return bool(words) and len(row) <= width and all(map(is_word, words))
