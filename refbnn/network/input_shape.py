"""Examples in the shape that a network takes, without moving an axis.

An array may be seen in another shape where its numbers keep their meaning: images become rows for a
dense network, channel by channel, and axes of length 1 come and go. Everything else that would fit
by the number of entries alone, such as images with channels last, is refused: the network would
read every number at another place.
"""

from __future__ import annotations

from itertools import permutations
from math import prod

import numpy as np

from refbnn.errors import InputError
from refbnn.layers.layer import Shape
from refbnn.numerics.arrays import channels_last


def shaped(x: np.ndarray, wanted: Shape) -> np.ndarray:
    """x (N, ...) as (N, *wanted); InputError, with the order that would fit, if it does not.

    Examples
    --------
    >>> import numpy as np
    >>> shaped(np.zeros((5, 1, 28, 28)), (784,)).shape
    (5, 784)
    >>> try:
    ...     shaped(np.zeros((5, 28, 28, 3)), (3, 28, 28))
    ... except InputError as error:
    ...     print(error)
    shape (5, 28, 28, 3); expected (5, 3, 28, 28): transpose with (0, 3, 1, 2)
    """
    given = x.shape[1:]
    if given == wanted:
        return x
    if prod(given) != prod(wanted):
        raise InputError(f"examples of shape {given}; expected {wanted}, or as many entries")
    if len(wanted) == 1 and channels_last(given):
        raise _refusal(x.shape, (given[-1], *given[:-1]))
    # A row holds an image of one channel, row by row; of several, nothing says in what order.
    of_a_row = len(given) == 1 and wanted[0] == 1
    if len(wanted) > 1 and not of_a_row and _long(given) != _long(wanted):
        raise _refusal(x.shape, wanted)
    return x.reshape(len(x), *wanted)


def _long(shape: Shape) -> Shape:
    """The shape without axes of length 1."""
    return tuple(n for n in shape if n > 1)


def _refusal(given: Shape, wanted: Shape) -> InputError:
    """Error that names the order of axes that would fit, if there is one.

    Of several, the one that moves the last axis to the front: channels last are common.
    """
    message = f"shape {given}; expected {(given[0], *wanted)}"
    if len(given) == 1 + len(wanted):
        orders = sorted(permutations(range(1, len(given))), key=lambda order: order != (3, 1, 2))
        for order in orders:
            if tuple(given[axis] for axis in order) == wanted:
                return InputError(f"{message}: transpose with {(0, *order)}")
    return InputError(message)
