"""Convert dataclasses to plain data for JSON and back: numbers, lists of numbers, and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from refbnn.errors import InputError, quoted

LARGEST = 2**63  # integers beyond are no sizes, and Python may refuse to print them
_DEEPEST = 5  # levels of lists


def as_fields(value: Any) -> dict[str, Any]:
    """Fields of a dataclass by name; NumPy's arrays and numbers as plain ones, exact in JSON."""
    given = {f.name: getattr(value, f.name) for f in fields(value)}
    return {
        n: v.tolist() if isinstance(v, np.ndarray | np.generic) else v for n, v in given.items()
    }


def make(kind: type, given: Mapping[str, Any], what: str, **ready: Any):
    """Make an object of a class from plain fields by name, and from `ready` fields of any type.

    `what` names the object in errors.

    Raises
    ------
    InputError
        If a field is unknown, holds anything but numbers, lists of them, or a word where the class
        has one, or the class refuses them.
    """
    names = [f.name for f in fields(kind)]
    words = [f.name for f in fields(kind) if f.type == "str"]
    if unknown := sorted(set(given) - set(names)):
        raise InputError(f"{what}: unknown {', '.join(map(quoted, unknown[:3]))}; expected {names}")
    for name, value in given.items():
        if not (_plain(value) or (name in words and isinstance(value, str))):
            raise InputError(f"{what}: {name} is {quoted(value)}; expected numbers")
    try:
        return kind(**{name: _tuples(value) for name, value in given.items()}, **ready)
    except InputError as error:
        raise InputError(f"{what}: {error}") from None
    except (TypeError, ValueError, IndexError, OverflowError, AttributeError):
        raise InputError(f"{what}: its numbers do not fit; expected {names}") from None


def _plain(value: Any) -> bool:
    """Whether a value is a number or lists of numbers."""
    pending, depth = [value], 0
    while pending and depth < _DEEPEST:
        flat = [v for v in pending if not isinstance(v, list | tuple)]
        if any(isinstance(v, bool) or not isinstance(v, int | float) for v in flat):
            return False
        if any(isinstance(v, int) and abs(v) >= LARGEST for v in flat):
            return False
        pending = [inner for v in pending if isinstance(v, list | tuple) for inner in v]
        depth += 1
    return not pending


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
