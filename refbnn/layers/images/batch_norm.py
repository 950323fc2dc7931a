"""Batch normalisation of images with fixed statistics, as after training: one line a channel.

Formulas
--------
With the running mean m_c and variance s²_c of a channel, the factor γ_c and the shift β_c,

    y = a_c (x − m_c) + β_c,    a_c = γ_c/√(s²_c + ε)        backward: ∂L/∂x = a_c ∂L/∂y

(Ioffe and Szegedy 2015, algorithm 2). Moments: mean as y, variance a_c² v; exact for any inputs.
All five are fixed numbers of the layer, not weights: nothing is trained here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from refbnn.errors import InputError
from refbnn.layers.layer import Shape
from refbnn.layers.moments import Moments
from refbnn.layers.weightless import Weightless
from refbnn.numerics.arguments import real_number
from refbnn.numerics.arrays import finite_array


@dataclass(frozen=True, eq=False, repr=False)  # arrays have no single truth value
class BatchNorm2d(Weightless):
    """Batch normalisation with fixed statistics; see the formulas at the top of the file.

    Parameters
    ----------
    mean, var : array_like, (C,)
        Running mean m and variance s² of every channel.
    gamma, beta : array_like, (C,)
        γ and β.
    eps : float
        ε, as it was in training; 1e-5 is the default of PyTorch.

    Raises
    ------
    InputError
        If the four are not one-dimensional of one length, an entry is NaN or infinite, ε or a
        variance is negative, or s² + ε is zero.

    Examples
    --------
    >>> from refbnn.layers import BatchNorm2d
    >>> layer = BatchNorm2d(mean=[1.0], var=[4.0], gamma=[1.0], beta=[0.5], eps=0.0)
    >>> layer.forward(np.full((1, 1, 2), 5.0), {})
    array([[[2.5, 2.5]]])
    """

    mean: np.ndarray
    var: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    eps: float = 1e-5

    if TYPE_CHECKING:  # lists become arrays

        def __init__(
            self,
            mean: ArrayLike,
            var: ArrayLike,
            gamma: ArrayLike,
            beta: ArrayLike,
            eps: float = 1e-5,
        ) -> None: ...

    def __post_init__(self):
        for name in ("mean", "var", "gamma", "beta"):
            array = np.array(finite_array(getattr(self, name), f"BatchNorm2d: {name}"), dtype=float)
            object.__setattr__(self, name, array)
            if array.ndim != 1 or array.shape != self.mean.shape or not array.size:
                raise InputError(
                    f"BatchNorm2d: {name} has shape {array.shape} and mean {self.mean.shape}; "
                    "expected one number a channel each"
                )
        object.__setattr__(self, "eps", real_number(self.eps, "BatchNorm2d: eps"))
        if not (self.eps >= 0.0 and (self.var >= 0.0).all()):
            raise InputError(
                f"BatchNorm2d: eps is {self.eps}, the least variance {self.var.min()}; "
                "expected numbers of at least 0"
            )
        if self.var.min() + self.eps == 0.0:
            raise InputError("BatchNorm2d: eps and a variance are 0; expected a sum above 0")

    def __repr__(self):
        return f"BatchNorm2d({len(self.mean)} channels, eps={self.eps})"

    @property
    def entrywise(self) -> bool:
        """See `refbnn.layers.weightless`."""
        return True

    def output_shape(self, shape: Shape) -> Shape:
        """(C, H, W), kept."""
        channels = len(self.mean)
        if len(shape) != 3 or shape[0] != channels:
            raise InputError(
                f"BatchNorm2d: input has shape {shape}; expected ({channels}, height, width)"
            )
        return shape

    def value(self, x: np.ndarray) -> np.ndarray:
        """a (x − m) + β; x (..., C, H, W)."""
        return _like(x, self.slope) * (x - _like(x, self.mean)) + _like(x, self.beta)

    def grad_input(self, x: np.ndarray, grad_y: np.ndarray) -> np.ndarray:
        """a ∂L/∂y, (..., C, H, W)."""
        return _like(grad_y, self.slope) * grad_y

    def propagated(self, x: Moments) -> Moments:
        """Moments of y for random inputs of any law."""
        return Moments(self.value(x.mean), _like(x.var, self.slope**2) * x.var)

    def gain(self, x: Moments) -> np.ndarray:
        """E[∂y/∂x] = a, of the shape (C, 1, 1)."""
        return _like(x.mean, self.slope)

    @property
    def slope(self) -> np.ndarray:
        """a, (C,)."""
        return self.gamma / np.sqrt(self.var + self.eps)


def _like(x, by_channel):
    """A number a channel, shaped for images and of the type of x (of whole numbers, a real)."""
    return by_channel[:, np.newaxis, np.newaxis].astype(np.result_type(x.dtype, np.float32))
