"""Read JSON from an unknown source, strictly.

Python's parser also takes NaN and Infinity, reads 1e999 as infinity, keeps the last of two equal
keys, and nests as deep as its stack allows, deeper than other functions can follow. None of these
is JSON that this library writes, and each is an error here. A byte-order mark at the start, which
some editors write, is skipped.

Source: RFC 8259, "The JavaScript Object Notation (JSON) Data Interchange Format".
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from refbnn.errors import InputError, cut, quoted

_DEEPEST = 100  # lists and objects in each other; 20 residual blocks take 45


def read(path: str | Path, expected: str, most: int) -> Any:
    """Value of a JSON file of at most `most` bytes; `expected` says in errors what it should be.

    FileNotFoundError if there is no such file; InputError if it cannot be read or is no strict
    JSON.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(most + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # the latter: a name that no file can have
        reason = cut(getattr(error, "strerror", None) or error)
        raise InputError(f"{path}: {reason}; expected {expected}") from None
    if len(text) > most:
        raise InputError(f"{path}: more than {most} bytes; expected {expected}")
    return parse(text, str(path), expected)


def parse(text: bytes, source: str, expected: str) -> Any:
    """Value of a JSON text in UTF-8; `source` names it in errors.

    InputError if it is no strict JSON, or nests deeper than 100 levels.

    Examples
    --------
    >>> parse(b'{"a": [1, 2.5]}', "x", "numbers")
    {'a': [1, 2.5]}
    """
    try:
        value = json.loads(
            text.decode("utf-8-sig"),
            parse_constant=_no_number,
            parse_float=_finite,
            object_pairs_hook=_distinct,
        )
    except (ValueError, RecursionError) as error:  # also not UTF-8; integers of 4300 digits
        raise InputError(f"{source}: not JSON ({cut(error)}); expected {expected}") from None
    if _too_deep(value):
        raise InputError(f"{source}: nests deeper than {_DEEPEST} levels; expected {expected}")
    return value


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"holds {word}")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {quoted(text)} overflows")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for index, key in enumerate(keys) if key in keys[:index])
        raise ValueError(f"holds {quoted(twice)} twice")
    return value


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST + 1):
        level = [
            inner
            for held in level
            if isinstance(held, list | dict)
            for inner in (held.values() if isinstance(held, dict) else held)
        ]
        if not level:
            return False
    return True
