"""Errors for wrong input and for packages that are not installed; a warning; words of messages."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# Extras: their modules, and the packages that hold these.
_EXTRAS = {
    "kernels": {"tvm": "apache-tvm", "tvm_ffi": "apache-tvm-ffi", "psutil": "psutil"}
    | {"cloudpickle": "cloudpickle"},
    "figures": {"matplotlib": "matplotlib", "jinja2": "jinja2"},
    "data": {"pooch": "pooch", "requests": "requests", "PIL": "pillow"},
    "arm": {"unicorn": "unicorn", "elftools": "pyelftools", "capstone": "capstone"},
    "rpc": {"tornado": "tornado"},
}

_LONGEST = 80  # characters of foreign text in a message
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = _LONGEST
_repr.maxlist = _repr.maxtuple = _repr.maxdict = _repr.maxset = _LONGEST
_repr.maxlevel = 2  # a file may nest its values deeper than repr() can go


class InputError(ValueError):
    """The input or the call is wrong; one line names the thing and what was expected.

    The command line prints the message on standard error and exits with code 2.

    Examples
    --------
    >>> from refbnn import InputError, Network
    >>> try:
    ...     Network([])
    ... except InputError as error:
    ...     print(error)
    Network: no layers; expected at least one
    """


class InputRangeWarning(UserWarning):
    """Inputs lie far outside the range of the training data: they may be scaled wrongly."""


def cut(text: object, most: int = _LONGEST) -> str:
    """Shorten foreign text for a message: one line of at most 80 characters, or `most`.

    Characters that a terminal does not print are escaped.

    Examples
    --------
    >>> cut("broken   pipe"), len(cut("x" * 1000))
    ('broken pipe', 80)
    """
    line = " ".join(str(text)[: 10 * most].split())
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    return line if len(line) <= most else f"{line[: most - 3]}..."


def quoted(value: object) -> str:
    """Quote a value from a file or an argument for a message: its repr, at most 80 characters.

    Examples
    --------
    >>> len(quoted("x" * 1000)), quoted([[[[1]]]])
    (80, '[[[...]]]')
    """
    return cut(_repr.repr(value))


def suggestion(word: str, known: Iterable[str]) -> str:
    """Name the nearest known word, to append to a message: "; did you mean 'epochs'?", or ""."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class MissingPackageError(ImportError, InputError):
    """A package of an extra is not installed; the message says how to install it."""


def _absent(module: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(module) is None
    except ModuleNotFoundError:
        return True


@contextmanager
def naming_the_extra() -> Iterator[None]:
    """Turn the absence of an optional package into a MissingPackageError."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        for extra, packages in _EXTRAS.items():
            if module in packages and _absent(module):
                message = f"needs {packages[module]}: pip install 'refbnn[{extra}]'"
                raise MissingPackageError(message, name=module) from None
        raise
