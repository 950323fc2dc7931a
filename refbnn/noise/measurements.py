"""Measured device values from an untrusted text table, plain or gzipped."""

from __future__ import annotations

import fnmatch
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from refbnn.errors import InputError, suggestion
from refbnn.noise.pooling import DIFFERS, Condition
from refbnn.noise.reading import parsed
from refbnn.noise.table import Layout, Table, opened

MIN_VALUES = 50  # fewer do not tell one bounded law from another
MIN_DISTINCT = 4  # two edges and two exponents
MAX_ROWS = 1_000_000  # a fit to as many takes a few seconds
_LEAST_SPAN = 1e-9  # of the magnitude: below, rounding to float64 shows as steps
_LEAST_MAGNITUDE = 1e-90  # the square of the least span does not vanish
_CONDUCTANCE = "conductance_uS"
_SHOWN = 3  # examples in a message
_NO_TREND = 1e-6  # p-value from which values do not change along the rows
_THOUSANDS = re.compile(r"([+-]?[1-9][0-9]{0,2})[.,]([0-9]{3})(?![0-9])")

Conditions = Mapping[str, float | str]


@dataclass(frozen=True)
class Measurements:
    """Values of one quantity, and what a reader of the fit should know of them."""

    values: np.ndarray  # (n,), in the file's unit and order
    column: str  # the column's name, with its unit if a row or the values state one
    notes: tuple[str, ...]  # sentences: what was left out, what was pooled


def read_measurements(
    path: str | Path,
    column: str | None = None,
    where: Conditions | None = None,
    *,
    drop_missing: bool = False,
    pool: bool = False,
    layout: Layout | None = None,
) -> tuple[np.ndarray, str]:
    """Read one numeric column of a text table; see `refbnn.noise.table` for what is understood.

    Parameters
    ----------
    path : path
        Plain or gzip, recognised by its content; UTF-8, UTF-16 with a byte-order mark, Latin-1.
    column : str, optional
        Name of the column; by default the only column, or the one named `conductance_uS`. A name
        with * takes every column that matches, such as "read*".
    where : mapping of column name to number or text, optional
        Keep only rows in which these columns hold these numbers or texts.
    drop_missing : bool
        Leave out missing values and overflow readings of an instrument, instead of refusing them.
    pool : bool
        Accept values that differ significantly between the values of another column, such as a
        range or a time.
    layout : Layout, optional
        Delimiter, decimal sign, rows before the table, header; found where possible.

    Returns
    -------
    values : (n,)
        Values in the column's unit, in the file's order. Nothing is rescaled.
    column : str
        The column's name, with the unit that a row below the names or every value states:
        "conductance (uS)".

    Raises
    ------
    InputError
        If the file is missing, empty, not text, has no such column, fewer than 50 rows that match,
        more than a million rows, a value that is no number, fewer than four distinct values, or
        values that depend on a condition (see `refbnn.noise.pooling`); or if two readings of the
        file are possible, with the option that decides.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savetxt(f"{folder}/a.csv", np.arange(60.0), header="current_nA", comments="")
    ...     values, column = read_measurements(f"{folder}/a.csv")
    >>> values.shape, column
    ((60,), 'current_nA')
    """
    found = read(
        path, column, where, drop_missing=drop_missing, pool=pool, layout=layout or Layout()
    )
    return found.values, found.column


def read(
    path: str | Path,
    column: str | None,
    where: Conditions | None,
    *,
    drop_missing: bool,
    pool: bool,
    layout: Layout,
) -> Measurements:
    """Read as `read_measurements` does, with notes."""
    path, where = Path(path), dict(where or {})
    with opened(path, layout) as table:
        rows = _read_rows(table, column, where, layout.decimal)
    chosen = " and ".join(f"{name} = {_shown(value)}" for name, value in where.items())
    what = f"column {rows.column!r}" + f" where {chosen}" * bool(where)
    values = np.array(rows.values)
    notes = [rows.left_out(drop_missing)] if rows.gaps else []
    if not values.size and where:
        raise InputError(f"{path}: 0 values in {what}{rows.other_values(where)}")
    _check_values(values, path, what)
    if not pool:
        notes += _compared(values, rows.conditions, path, what)
        notes += _trend(values, what)
    return Measurements(values, rows.column, tuple(notes))


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


def _compared(values: np.ndarray, conditions: list[Condition], path: Path, what: str) -> list[str]:
    """Name the conditions that values are pooled over; InputError if one of them matters."""
    found = [(c, *c.compared(values)) for c in conditions if c.varies]
    if differing := [(c, p) for c, p, _ in found if p is not None and p < DIFFERS]:
        named = " and ".join(
            f"{c.name!r} ({_listed(c.texts)}; p {_p_text(p)})" for c, p in differing[:_SHOWN]
        )
        example = ",".join(f"{c.name}={c.most_frequent}" for c, _ in differing)
        several = "columns" if any(c.pooled for c, _ in differing) else "rows"
        how = (
            f"one column (--column {differing[0][0].most_frequent!r})"
            if several == "columns"
            else f"rows (--where '{example}')"
        )
        raise InputError(
            f"{path}: the values of {what} differ with {named}; choose {how}, or give --pool to "
            "fit one law to all of them"
        )
    notes = []
    for c, p, left_out in found:
        said = [] if p is None else [f"no difference found, p {_p_text(p)}"]
        few = [f"{text[:20]!r} has {n}" for text, n in list(left_out.items())[:_SHOWN]]
        said += [f"not compared, too few values: {', '.join(few)}"] * bool(few)
        notes.append(
            f"{what}: values of all {c.name!r} are fitted together ({_listed(c.texts)}; "
            f"{'; '.join(said)})"
        )
    return notes


def _trend(values: np.ndarray, what: str) -> list[str]:
    """Say if values rise or fall along the rows, as with time: a drift is no noise.

    Spearman's rank correlation of values and row numbers. Sorted values are found too: the note
    does not refuse them.
    """
    from scipy.stats import spearmanr

    found = spearmanr(np.arange(values.size), values)
    if found.pvalue >= _NO_TREND:
        return []
    return [
        f"{what}: values change along the rows (rank correlation {found.statistic:.2f}, "
        f"p {_p_text(float(found.pvalue))}); if rows are in the order of time this is a drift, "
        "which a law counts as noise"
    ]


def _p_text(p: float) -> str:
    return f"= {p:.2g}" if p >= 1e-16 else "< 1e-16"


def _listed(texts) -> str:
    shown = [text[:20] for text in list(texts)[:_SHOWN]]
    return ", ".join(shown) + ", …" * (len(texts) > _SHOWN)


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


@dataclass
class _Rows:
    """Values of the rows that match, and what else was seen."""

    path: Path
    column: str = ""
    values: list[float] = field(default_factory=list)
    conditions: list[Condition] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)  # the first of them, in words
    n_missing: int = 0
    n_overflow: int = 0
    seen: dict[str, dict[str, None]] = field(default_factory=dict)  # texts in columns of `where`

    def left_out(self, drop: bool) -> str:
        """Say what is left out; InputError unless that is wanted."""
        n = self.n_missing + self.n_overflow
        kinds = [f"{self.n_missing} missing"] * bool(self.n_missing)
        kinds += [f"{self.n_overflow} beyond the instrument's range"] * bool(self.n_overflow)
        text = (
            f"column {self.column!r}: {' and '.join(kinds)} of {len(self.values) + n} values "
            f"({', '.join(self.gaps)}{', …' * (n > len(self.gaps))})"
        )
        if not drop:
            raise InputError(
                f"{self.path}: {text}; expected numbers: give --drop-missing to leave them out"
            )
        censored = "; the law says nothing of values beyond that range" * bool(self.n_overflow)
        return f"{text} left out{censored}"

    def other_values(self, where: Conditions) -> str:
        """Name what the columns of conditions hold instead."""
        parts = []
        for name, texts in self.seen.items():
            near = suggestion(str(where[name]), texts)
            parts.append(f"; column {name!r} holds {_listed(texts)}{near}")
        return "".join(parts)

    def gap(self, value: float, text: str, line: int) -> None:
        """Count a value that is not there."""
        if math.isnan(value):
            self.n_missing += 1
        else:
            self.n_overflow += 1
        if len(self.gaps) < _SHOWN:
            self.gaps.append(f"line {line}: {text[:20]!r}")


def _read_rows(table: Table, column: str | None, where: Conditions, decimal: str) -> _Rows:
    """Read the values of the chosen columns in the rows that match."""
    names, path = table.names, table.path
    chosen = _chosen(table, column)
    wanted = {_index(names, name, path): (name, value) for name, value in where.items()}
    rows = _Rows(path, column if column and len(chosen) > 1 else names[chosen[0]])
    rows.seen = {name: {} for name in where}
    unit = _Unit(path, table.units[chosen[0]])
    others = {
        i: Condition(name) for i, name in enumerate(names) if i not in {*chosen, *wanted} and name
    }
    pooled = Condition("column", pooled=True)
    for count, (line, row) in enumerate(table.rows):
        if count == MAX_ROWS:
            raise InputError(f"{path}: more than {MAX_ROWS} rows; expected at most that many")
        for i, (name, _) in wanted.items():
            if len(rows.seen[name]) <= _SHOWN:
                rows.seen[name][row[i]] = None
        if not all(_equal(row[i], value, decimal) for i, (_, value) in wanted.items()):
            continue
        for i in chosen:
            value = unit.number(row[i], line, names[i], decimal)
            if not math.isfinite(value):
                rows.gap(value, row[i], line)
                continue
            rows.values.append(value)
            for j in [j for j, condition in others.items() if not condition.add(row[j])]:
                del others[j]  # too many distinct texts for a condition
            if len(chosen) > 1:
                pooled.add(names[i])
    rows.conditions = [*others.values(), pooled]
    if unit.text and f"({unit.text})" not in rows.column:
        rows.column = f"{rows.column} ({unit.text})"
    return rows


class _Unit:
    """The one unit of a column: from the row below the names, or the same after every value."""

    def __init__(self, path: Path, text: str):
        self.path, self.text = path, text
        self._after_values: str | None = None

    def number(self, text: str, line: int, column: str, decimal: str) -> float:
        """Read one value; NaN if missing, ∞ on overflow."""
        found = parsed(text, decimal)
        if found is None:
            raise InputError(
                f"{self.path}: line {line}, column {column!r} holds {text[:40]!r}; expected a "
                f"finite number{_decimal_hint(text, decimal)}"
            )
        value, unit = found
        if not math.isfinite(value):
            return value
        if self._after_values is None:
            self._after_values = unit
            self.text = self.text or unit
        if unit != self._after_values or (unit and unit != self.text):
            before = self._after_values if unit != self._after_values else self.text
            raise InputError(
                f"{self.path}: line {line}, column {column!r} holds {text[:40]!r}, and the values "
                f"before have {f'the unit {before!r}' if before else 'no unit'}; expected one unit"
            )
        return value


def _decimal_hint(text: str, decimal: str) -> str:
    """Name the other decimal sign if the text is a number with it."""
    other = "," if decimal == "." else "."
    found = parsed(text, other)
    if found is None or not math.isfinite(found[0]):
        return ""
    sign = "comma" if other == "," else "point"
    if match := _THOUSANDS.match(text):
        return (
            f"; if the {sign} is the decimal sign, give --decimal {other}, which reads "
            f"{match[1]}.{match[2]}; if it groups thousands, write {match[1]}{match[2]}"
        )
    return f"; if the {sign} is the decimal sign, give --decimal {other}"


def _equal(text: str, wanted: float | str, decimal: str) -> bool:
    """Whether a field holds the wanted number, or the wanted text."""
    if isinstance(wanted, str):
        return _normal(text) == _normal(wanted)
    found = parsed(text, decimal)
    return found is not None and found[0] == wanted


def _chosen(table: Table, column: str | None) -> list[int]:
    """Indices of the columns that hold the values: one, or those that match a name with *."""
    names, path = table.names, table.path
    if column is None:
        if len(names) == 1:
            return [0]
        if names.count(_CONDUCTANCE) == 1:
            return [names.index(_CONDUCTANCE)]
        start = names[0].rstrip("0123456789")
        alike = bool(start) and all(name.startswith(start) for name in names)
        several = f", or several by a pattern (--column '{start}*')" * alike
        raise InputError(
            f"{path}: columns {_quoted(names)}; expected the name of one of them (--column)"
            f"{several}"
        )
    if "*" in column and column not in names:
        pattern = _normal(column)
        found = [i for i, n in enumerate(names) if fnmatch.fnmatchcase(_normal(n), pattern)]
        if not found:
            raise InputError(f"{path}: no column matches {column[:40]!r}; columns {_quoted(names)}")
        if len({table.units[i] for i in found}) > 1:
            raise InputError(
                f"{path}: the columns {column[:40]!r} have several units; expected one"
            )
        return found
    return [_index(names, column, path)]


def _index(names: list[str], name: str, path: Path) -> int:
    """Index of the one column of a name; a number stands for a column of a table without names."""
    known = [_normal(known) for known in names]
    wanted = _normal(name)
    if wanted not in known and f"column {wanted}" in known:
        wanted = f"column {wanted}"
    if known.count(wanted) != 1:
        raise InputError(
            f"{path}: no single column {name[:40]!r}; expected one of {_quoted(names)}"
            f"{suggestion(name, names)}"
        )
    return known.index(wanted)


def _normal(name: str) -> str:
    """Spell "µ", which Unicode has twice, in one way."""
    return unicodedata.normalize("NFKC", name.strip())


def _quoted(names: list[str]) -> str:
    return ", ".join(repr(name[:40]) for name in names[:20]) + ", …" * (len(names) > 20)
