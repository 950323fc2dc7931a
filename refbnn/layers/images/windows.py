"""Windows of an image: the sizes that convolution and pooling share, and their checks.

A kernel of K × L entries slides over an image of H × W in strides (s, t), after p rows above and
below and q columns left and right were added. Window (i, j) begins at row s·i − p, column t·j − q,
and only whole windows count:

    OH = (H + 2p − K)//s + 1,    OW = (W + 2q − L)//t + 1.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from refbnn.errors import InputError
from refbnn.layers.layer import Shape
from refbnn.numerics.arguments import shown, whole_number

Pair = tuple[int, int]


def pair(value: int | Pair, least: int, name: str) -> Pair:
    """(vertical, horizontal) from a pair, or from one whole number for both.

    Raises
    ------
    InputError
        If it is neither, or a number is below `least`; the message opens with `name`.
    """
    try:
        vertical, horizontal = value if isinstance(value, tuple | list) else (value, value)
        return whole_number(vertical, least, name), whole_number(horizontal, least, name)
    except ValueError:
        raise InputError(
            f"{name} is {shown(value)}; expected a whole number of at least {least}, or a pair"
        ) from None


class WindowSizes:
    """The fields `kernel_size`, `stride` and `padding` of a layer, as pairs."""

    def _make_pairs(self) -> None:
        """Replace the three fields by pairs; InputError if one is too small."""
        for field, least in (("kernel_size", 1), ("stride", 1), ("padding", 0)):
            both = pair(getattr(self, field), least, f"{type(self).__name__}: {field}")
            object.__setattr__(self, field, both)

    @property
    def sizes(self) -> tuple[Pair, Pair, Pair]:
        """Kernel, stride and padding."""
        return self.kernel_size, self.stride, self.padding  # type: ignore[attr-defined]


def output_size(image: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    """(OH, OW) of an image (H, W); below 1 where the kernel is larger than the padded image."""
    rows, columns = (
        (n + 2 * p - k) // s + 1 for n, k, s, p in zip(image, kernel, stride, padding, strict=True)
    )
    return rows, columns


def windowed_shape(name: str, shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Shape:
    """(C, H, W) -> (C, OH, OW); InputError, opening with `name`, where there is no window."""
    if len(shape) != 3:
        raise InputError(f"{name}: input has shape {shape}; expected (channels, height, width)")
    rows, columns = output_size(shape[1:], kernel, stride, padding)
    if min(rows, columns) < 1:
        raise InputError(
            f"{name}: image of {shape[1]} × {shape[2]}; expected at least "
            f"{max(1, kernel[0] - 2 * padding[0])} × {max(1, kernel[1] - 2 * padding[1])}"
        )
    return shape[0], rows, columns


def padded(x: np.ndarray, padding: Pair, outside: float = 0.0) -> np.ndarray:
    """Surround images (..., H, W) by equal numbers -> (..., H + 2p, W + 2q)."""
    p, q = padding
    around = [(0, 0)] * (x.ndim - 2) + [(p, p), (q, q)]
    return np.pad(x, around, constant_values=outside) if p or q else x


def windows(x: np.ndarray, kernel: Pair, stride: Pair) -> np.ndarray:
    """View the windows of padded images: (..., H + 2p, W + 2q) -> (..., OH, OW, K, L)."""
    s, t = stride
    return sliding_window_view(x, kernel, axis=(-2, -1))[..., ::s, ::t, :, :]
