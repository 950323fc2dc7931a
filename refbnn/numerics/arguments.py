"""Arguments from callers: numbers, rows, paths, and objects that have the methods of an interface.

Light to import: no NumPy. Arrays from callers: `refbnn.numerics.arrays`.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Real
from operator import index
from pathlib import Path
from typing import Any

from refbnn.errors import InputError, quoted, suggestion


def shown(value: Any) -> str:
    """A value as a message shows it: one line of at most 80 characters."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if getattr(value, "ndim", 0) and hasattr(value, "dtype"):
        return f"an array of shape {tuple(value.shape)}"
    return quoted(_plain(value))


def whole_number(value: Any, least: int, name: str, most: int | None = None) -> int:
    """The value as an int, NumPy's integers included.

    Raises
    ------
    InputError
        If it is no whole number of at least `least`, and at most `most` where that is given; the
        message opens with `name`.
    """
    try:
        number = least - 1 if isinstance(value, bool) else index(value)
    except TypeError:
        number = least - 1
    if number < least or (most is not None and number > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{name} is {shown(value)}; expected a whole number {limits}")
    return number


def row_of(value: Any, name: str, expected: str) -> tuple:
    """The entries of a list or another row; InputError if it is text, or none."""
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        return tuple(value)
    except TypeError:
        raise InputError(f"{name} is {shown(value)}; expected {expected}") from None


def require_known(word: Any, known: Collection[str], name: str) -> None:
    """InputError, with the nearest known word, unless the word is a known one."""
    if not isinstance(word, str) or word not in known:
        near = suggestion(word, known) if isinstance(word, str) else ""
        raise InputError(
            f"{name} {shown(word)} is unknown; expected one of: {', '.join(known)}{near}"
        )


def path_of(value: Any, name: str) -> Path:
    """The path of a file; InputError if it is neither text nor a path."""
    try:
        return Path(value)
    except TypeError:
        raise InputError(f"{name} is {shown(value)}; expected the path of a file") from None


def real_number(value: Any, name: str) -> float:
    """The value as a float: a finite number of Python or NumPy, or an array without axes.

    Raises
    ------
    InputError
        If it is none, such as text, a truth value or NaN; the message opens with `name`.
    """
    number = _as_float(value)
    if not math.isfinite(number):
        raise InputError(f"{name} is {shown(value)}; expected a finite number")
    return number


def positive_number(value: Any, name: str) -> float:
    """The value as a float above 0; InputError otherwise, as in `real_number`."""
    number = _as_float(value)
    if not 0.0 < number < math.inf:
        raise InputError(f"{name} is {shown(value)}; expected a finite number above 0")
    return number


def require_methods(value: Any, interface: type, name: str, example: str) -> None:
    """Check that an object has the methods and properties of a protocol, such as `Law`.

    No property is computed for it.

    Raises
    ------
    InputError
        If the value is a class instead of an object, or lacks one; the message opens with `name`
        and shows the `example`.
    """
    needed = [member for member in vars(interface) if not member.startswith("_")]
    own = getattr(value, "__dict__", ())
    absent = [n for n in needed if not hasattr(type(value), n) and n not in own]
    if isinstance(value, type) or len(absent) == len(needed):
        kind = interface.__name__
        raise InputError(f"{name} is {shown(value)}; expected a {kind}, such as {example}")
    if absent:
        raise InputError(
            f"{name}: {type(value).__name__} has no {', '.join(absent)}; expected the methods of "
            f"{interface.__module__}.{interface.__name__}"
        )


def _plain(value: Any) -> Any:
    """A number of Python in place of NumPy's, or of an array without axes; not of a masked one."""
    without_axes = getattr(value, "ndim", None) == 0 and hasattr(value, "item")
    return value.item() if without_axes and not getattr(value, "mask", False) else value


def _as_float(value: Any) -> float:
    """The number as a float; NaN if it is none."""
    number = _plain(value)
    if isinstance(number, bool) or not isinstance(number, Real):
        return math.nan
    try:
        return float(number)
    except OverflowError:
        return math.inf
