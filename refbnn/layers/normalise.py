"""Normalisation of inputs: the first layer of a network that was trained on normalised data.

Formulas
--------
With the mean m and the standard deviation s of the training data, both one number or one number a
channel,

    y = (x − m)/s        backward: ∂L/∂x = (∂L/∂y)/s

Moments: mean as y, variance v/s²; exact for any inputs. Both are fixed numbers of the layer, not
weights. Preprocessing is part of a model: as a layer, no command, kernel or deployed library can
leave it out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from refbnn.errors import InputError
from refbnn.layers.layer import Shape
from refbnn.layers.moments import Moments
from refbnn.layers.weightless import Weightless
from refbnn.numerics.arrays import finite_array

_SHOWN = 4  # numbers in one line
_IMAGES = 4  # axes of images: examples, channels, rows, columns


@dataclass(frozen=True, eq=False, repr=False)  # arrays have no single truth value
class Normalise(Weightless):
    """Subtract a mean and divide by a standard deviation; see the formulas at the top of the file.

    Parameters
    ----------
    mean, sd : float or array_like of shape (C,)
        m and s in the unit of the inputs: one number for all entries, or one a channel of images
        (B, C, H, W), or one a feature of rows (B, C).

    Raises
    ------
    InputError
        If the two differ in shape, a number is NaN or infinite, or a standard deviation is not
        positive.

    Examples
    --------
    >>> from refbnn import Network
    >>> from refbnn.layers import Dense, Normalise
    >>> Normalise(0.5, 0.25).forward(np.array([[0.5, 1.0]]), {})
    array([[0., 2.]])
    >>> Network([Normalise([0.0, 10.0], [1.0, 5.0]), Dense(2, 1)]).input_shape
    (2,)
    """

    mean: ArrayLike
    sd: ArrayLike

    def __post_init__(self):
        for name in ("mean", "sd"):
            array = np.array(finite_array(getattr(self, name), f"Normalise: {name}"), dtype=float)
            if array.ndim > 1 or not array.size:
                raise InputError(
                    f"Normalise: {name} has shape {array.shape}; expected one number, or one a "
                    "channel"
                )
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if np.shape(self.mean) != np.shape(self.sd):
            raise InputError(
                f"Normalise: mean has shape {np.shape(self.mean)} and sd {np.shape(self.sd)}; "
                "expected the same shape"
            )
        with np.errstate(over="ignore", divide="ignore", under="ignore"):
            if not (np.min(self.sd) > 0.0 and np.isfinite(1.0 / np.square(self.sd)).all()):
                raise InputError(
                    f"Normalise: the least sd is {np.min(self.sd)}; expected numbers above 0 whose "
                    "squares are no subnormal numbers (above 1e-154)"
                )

    def __repr__(self):
        n = np.size(self.mean)
        if n > _SHOWN:
            return f"Normalise({n} means, {n} standard deviations)"
        return f"Normalise({np.asarray(self.mean).tolist()}, {np.asarray(self.sd).tolist()})"

    def output_shape(self, shape: Shape) -> Shape:
        """(C,) or (C, H, W), kept; any shape where mean and sd are one number each."""
        if np.ndim(self.mean) and (len(shape) not in (1, 3) or shape[0] != np.size(self.mean)):
            n = np.size(self.mean)
            raise InputError(
                f"Normalise: input has shape {shape}; expected ({n}, height, width) or ({n},) for "
                f"{n} means"
            )
        return shape

    def value(self, x: np.ndarray) -> np.ndarray:
        """(x − m)/s; x (..., C) of up to three axes, or (..., C, H, W)."""
        return (x - _like(x, self.mean)) / _like(x, self.sd)

    def grad_input(self, x: np.ndarray, grad_y: np.ndarray) -> np.ndarray:
        """(∂L/∂y)/s, of the shape of x."""
        return grad_y / _like(grad_y, self.sd)

    def propagated(self, x: Moments) -> Moments:
        """Moments of y for random inputs of any law."""
        return Moments(self.value(x.mean), x.var / _like(x.var, np.square(self.sd)))


def _like(x: np.ndarray, by_channel: ArrayLike) -> np.ndarray:
    """A number a channel, shaped like x and of its type (of whole numbers, a real one)."""
    numbers = np.asarray(by_channel).astype(np.result_type(x.dtype, np.float32))
    return numbers[:, np.newaxis, np.newaxis] if numbers.ndim and x.ndim >= _IMAGES else numbers
