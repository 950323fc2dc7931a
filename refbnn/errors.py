"""The error for wrong input, and the suggestion of a right name that goes into its message."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


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


def suggestion(word: str, known: Iterable[str]) -> str:
    """Name the nearest known word, to append to a message: "; did you mean 'epochs'?", or ""."""
    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
