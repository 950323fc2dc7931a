"""The range of the inputs that a network was trained on, and a warning for inputs far outside.

Inputs count as far outside where they lie beyond the range by more than its width: pixels of 0 to
255 for a network trained on 0 to 1, or raw pixels for one trained on normalised ones of a narrow
range. They also do where they span less than a hundredth of the range, but are not all equal:
pixels of 0 to 1 for a network trained on 0 to 255. Data out of distribution but on the same scale,
such as other images, stays silent.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np

from refbnn.errors import InputError, InputRangeWarning, quoted

Range = tuple[float, float]
_LEAST_SPAN = 0.01  # of the range


def input_range(value: Sequence[float]) -> Range:
    """The range (low, high) as floats; InputError unless both are finite and low ≤ high."""
    try:
        low, high = map(float, value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"input_range {quoted(value)}; expected two numbers, low and high"
        ) from None
    if not (low <= high and math.isfinite(low) and math.isfinite(high)):
        raise InputError(f"input_range {quoted(value)}; expected finite numbers, low and high")
    return low, high


def limits(trained: Range) -> Range:
    """Least and greatest input that draws no warning."""
    low, high = trained
    width = high - low
    return low - width, high + width


def warn_if_far(x: np.ndarray, trained: Range | None) -> None:
    """Warn (InputRangeWarning) of inputs far outside the range, where there is one."""
    if trained is None or not x.size:
        return
    low, high = float(np.min(x)), float(np.max(x))
    least, greatest = limits(trained)
    far = low < least or high > greatest
    if far or 0.0 < high - low < _LEAST_SPAN * (trained[1] - trained[0]):
        warnings.warn(
            f"inputs from {low:.6g} to {high:.6g}, but the network was trained on "
            f"{trained[0]:.6g} to {trained[1]:.6g}: expected inputs on the same scale",
            InputRangeWarning,
            stacklevel=3,
        )
