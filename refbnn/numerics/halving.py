"""Approximation of a function piece by piece: intervals are halved until each is good."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_HALVINGS = 60  # a piece this small is below rounding

Fit = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def halved(
    left: np.ndarray, right: np.ndarray, fit: Fit, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Halve the intervals [left, right] that are not good, 60 times at most.

    Parameters
    ----------
    left, right : (K,)
        Ends of the first intervals.
    fit : callable
        From the ends of K intervals a row of numbers for each, (K, n), and whether it is good,
        (K,) of bool.
    most : int
        Halving ends where more intervals than these are not good.

    Returns
    -------
    starts, rows, rest : (P,), (P, n), (Q,)
        Left ends of the good intervals, ascending, and their rows; left ends of the intervals that
        never became good, none if all is well.
    """
    done: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(_HALVINGS):
        rows, good = fit(left, right)
        done.append((left[good], rows[good]))
        left, right = left[~good], right[~good]
        if not 0 < left.size <= most:
            break
        middle = 0.5 * (left + right)
        left, right = np.append(left, middle), np.append(middle, right)
    starts = np.concatenate([near for near, _ in done])
    order = np.argsort(starts)
    return starts[order], np.concatenate([rows for _, rows in done])[order], left
