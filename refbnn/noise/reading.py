"""One reading of an instrument as text: a number, with a unit or not, a gap, or an overflow."""

from __future__ import annotations

import math
import re

# Texts of a value that was not taken, as spreadsheets, pandas, R, SAS and MATLAB write it.
_MISSING = frozenset((
    "", "nan", "-nan", "+nan", "n/a", "#n/a", "na", "#na", "<na>", "nil", "null", "none", "missing",
    "-", "--", "---", "?", ".", "1.#qnan", "-1.#ind",
))  # fmt: skip
# Texts and numbers of a value beyond the instrument's range. In SCPI 1999 infinity is 9.9E37 and
# "not a number" 9.91E37; some instruments write 9.99999E37.
_OVERFLOW = frozenset((
    "ovld", "+ovld", "-ovld", "ovl", "ol", "o.l", "o.l.", "0l", "0.l", "ovf", "over", "overflow",
    "#overflow", "ovrflw", "overload", "overrange", "over range", "inf", "+inf", "-inf", "1.#inf",
    "-1.#inf",
))  # fmt: skip
_LEAST_SENTINEL, _GREATEST_SENTINEL = 9.9e37, 1e38
_WITH_UNIT = re.compile(
    r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*([^\W\d_][^\s\d,;]{0,9}|%|°[CFK])"
)


def parsed(text: str, decimal: str) -> tuple[float, str] | None:
    """Parse a stripped field: value and unit; NaN if missing, ∞ on overflow, None for a word.

    Python's digit groups (1_000) and digits of other scripts are words.
    """
    number = text
    if decimal == ",":
        # A point is a thousands separator, or another decimal sign than was said.
        number = "" if "." in text else text.replace(",", ".")
    try:
        value = float(number)
    except ValueError:
        return _unusual(text, number)
    if "_" in text or not text.isascii():
        return None
    if _LEAST_SENTINEL <= abs(value) <= _GREATEST_SENTINEL or not math.isfinite(value):
        return math.nan if math.isnan(value) else math.inf, ""
    return value, ""


def _unusual(text: str, number: str) -> tuple[float, str] | None:
    if text.lower() in _MISSING:
        return math.nan, ""
    if text.lower() in _OVERFLOW:
        return math.inf, ""
    if (match := _WITH_UNIT.fullmatch(number)) is not None:
        return float(match[1]), match[2]
    return None


def is_word(text: str) -> bool:
    """Whether a field is no reading, with either decimal sign: it does not start like a number."""
    return parsed(text, ".") is None and not re.match(r"[+-]?[.,]?[0-9]", text)


def is_number(text: str, decimal: str) -> bool:
    """Whether a field holds a finite number without a unit."""
    found = parsed(text, decimal)
    return found is not None and found[1] == "" and math.isfinite(found[0])
