"""Measured device values from an untrusted CSV file, plain or gzipped."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from refbnn.errors import InputError, quoted

MIN_VALUES = 50  # fewer do not tell one bounded law from another
MIN_DISTINCT = 4  # two edges and two exponents
MAX_ROWS = 1_000_000  # a fit to as many takes a few seconds
_LEAST_SPAN = 1e-9  # of the magnitude: below, rounding to float64 shows as steps
_LEAST_MAGNITUDE = 1e-90  # the square of the least span does not vanish
_LONGEST_LINE = 65_536
_CONDUCTANCE = "conductance_uS"


def read_measurements(
    path: str | Path, column: str | None = None, where: Mapping[str, float] | None = None
) -> tuple[np.ndarray, str]:
    """Read one numeric column of a CSV file whose first row names the columns.

    Parameters
    ----------
    path : path
        Plain or gzip, recognised by its content.
    column : str, optional
        Name of the column; by default the only column, or the one named `conductance_uS`.
    where : mapping of column name to number, optional
        Keep only rows in which these columns hold these numbers.

    Returns
    -------
    values : (n,)
        Values in the column's unit, in the file's order.
    column : str
        The column's name.

    Raises
    ------
    InputError
        If the file is missing, empty, not text, has no such column, fewer than 50 rows that match,
        more than a million rows, a value that is not a finite number, or fewer than four
        distinct values.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savetxt(f"{folder}/a.csv", np.arange(60.0), header="current_nA", comments="")
    ...     values, column = read_measurements(f"{folder}/a.csv")
    >>> values.shape, column
    ((60,), 'current_nA')
    """
    path, where = Path(path), dict(where or {})
    try:
        with open(path, "rb") as raw:  # once: a pipe cannot be read twice
            compressed = raw.peek(2)[:2] == b"\x1f\x8b"
            content = gzip.GzipFile(fileobj=raw) if compressed else raw
            # "utf-8-sig" drops the byte-order mark that spreadsheets write.
            with io.TextIOWrapper(content, encoding="utf-8-sig", newline="") as text:
                values, column = _read_rows(csv.reader(_lines(text, path)), path, column, where)
    except InputError:
        raise
    except (OSError, EOFError, zlib.error, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: {reason}; expected a CSV file of measurements") from None
    conditions = ", ".join(f"{name} = {value:g}" for name, value in where.items())
    _check_values(values, path, f"column {column!r}" + f" where {conditions}" * bool(where))
    return values, column


def _check_values(values: np.ndarray, path: Path, column: str) -> None:
    """InputError unless the values are many, vary, and leave float64 its precision."""
    if values.size < MIN_VALUES:
        raise InputError(
            f"{path}: {values.size} values in {column}; expected at least {MIN_VALUES}"
        )
    if values.min() == values.max():
        raise InputError(
            f"{path}: every value in {column} is {values[0]:g}; expected measurements that vary"
        )
    with np.errstate(over="ignore"):
        span, magnitude = np.ptp(values), np.abs(values).max()
    if not _LEAST_SPAN * magnitude <= span < np.inf or magnitude < _LEAST_MAGNITUDE:
        raise InputError(
            f"{path}: the values of {column} span {span:.3g} at a magnitude of {magnitude:.3g}; "
            "expected more than rounding and less than overflow"
        )
    if (distinct := np.unique(values).size) < MIN_DISTINCT:
        raise InputError(
            f"{path}: {distinct} distinct values in {column}; "
            f"expected at least {MIN_DISTINCT} to see a shape"
        )


def _lines(text, path: Path):
    """Yield lines of bounded length: a compressed file may unpack to a single endless one."""
    while line := text.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise InputError(f"{path}: a line of over {_LONGEST_LINE} characters; expected rows")
        yield line


def _read_rows(rows, path, column, where) -> tuple[np.ndarray, str]:
    """Read the values of the chosen column in the rows that match, and its name."""
    header = [name.strip() for name in next(rows, [])]
    if not header:
        raise InputError(f"{path}: the first row is empty; expected the names of the columns")
    if any(_parse(name) is not None for name in header):
        raise InputError(f"{path}: the first row holds numbers; expected the names of the columns")
    column = _choose(header, column, path)
    index = header.index(column)
    wanted = {header.index(_choose(header, name, path)): value for name, value in where.items()}
    values = []
    for count, row in enumerate(rows):
        number = rows.line_num
        if count == MAX_ROWS:
            raise InputError(f"{path}: more than {MAX_ROWS} rows; expected at most that many")
        if not row:
            continue
        if len(row) != len(header):
            raise InputError(f"{path}: line {number} has {len(row)} fields; expected {len(header)}")
        if all(_number(row[i], path, number, header[i]) == v for i, v in wanted.items()):
            values.append(_number(row[index], path, number, column))
    return np.array(values), column


def _choose(header: list[str], column: str | None, path: Path) -> str:
    names = ", ".join(quoted(name) for name in header[:20])
    if column is None:
        if len(header) == 1:
            return header[0]
        if header.count(_CONDUCTANCE) == 1:
            return _CONDUCTANCE
        raise InputError(f"{path}: columns {names}; expected the name of one of them (--column)")
    if header.count(column) != 1:
        raise InputError(f"{path}: no single column {quoted(column)}; expected one of {names}")
    return column


def _number(text: str, path: Path, line: int, column: str) -> float:
    value = _parse(text)
    if value is None or not np.isfinite(value):
        raise InputError(
            f"{path}: line {line}, column {quoted(column)} holds {quoted(text)}; "
            "expected a finite number"
        )
    return value


def _parse(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
