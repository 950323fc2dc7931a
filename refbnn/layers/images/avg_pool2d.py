"""Average pooling: the mean of every window of an image.

Formulas
--------
Kernel (K, L), stride (s, t), padding (p, q) with zeros; x̄ is the padded image, and the zeros count
in the average (PyTorch's default, `count_include_pad=True`):

    y_ij = 1/(KL) Σ_{a<K} Σ_{b<L} x̄_{s·i+a, t·j+b}        backward: the transposed sum of ∂L/∂y

Moments, for independent inputs of any law: the same sum of the means, and 1/(KL)² Σ of the
variances. Exact for each output by itself; outputs of overlapping windows are correlated, which is
not passed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np

from refbnn.layers.images.windows import Pair, output_size, padded, pair, windowed_shape
from refbnn.layers.layer import Arrays, Shape
from refbnn.layers.moments import Moments, deterministic
from refbnn.layers.posterior import Posterior


def forward(x, kernel: Pair, stride: Pair, padding: Pair):
    """Mean of every window; x (..., H, W) -> (..., OH, OW)."""
    size = output_size(x.shape[-2:], kernel, stride, padding)
    image = padded(x, padding)
    total = np.zeros((*x.shape[:-2], *size), np.result_type(x.dtype, np.float32))
    for rows, columns in _shifts(kernel, stride, size):
        total += image[..., rows, columns]
    total /= kernel[0] * kernel[1]
    return total


def backward(grad_y, image: Pair, kernel: Pair, stride: Pair, padding: Pair):
    """∂L/∂x (..., H, W) from g = ∂L/∂y (..., OH, OW), for images of size (H, W)."""
    (p, q), (height, width) = padding, image
    share = grad_y / (kernel[0] * kernel[1])
    grad = np.zeros((*grad_y.shape[:-2], height + 2 * p, width + 2 * q), grad_y.dtype)
    for rows, columns in _shifts(kernel, stride, grad_y.shape[-2:]):
        grad[..., rows, columns] += share
    return grad[..., p : p + height, q : q + width]


def _shifts(kernel, stride, size):
    """For each place (a, b) in the kernel, where it falls in the padded image, over all windows."""
    for a, b in np.ndindex(*kernel):
        yield tuple(
            slice(start, start + s * n, s) for start, s, n in zip((a, b), stride, size, strict=True)
        )


def moments(x: Moments, kernel: Pair, stride: Pair, padding: Pair) -> Moments:
    """Moments of y for random inputs (..., H, W) -> (..., OH, OW)."""
    sizes = kernel, stride, padding
    return Moments(forward(x.mean, *sizes), forward(x.var, *sizes) / (kernel[0] * kernel[1]))


@dataclass(frozen=True)
class AvgPool2d:
    """Average pooling; see the formulas at the top of the file.

    Parameters
    ----------
    kernel_size, stride, padding : int or (int, int)
        (K, L), (s, t) and (p, q); one number stands for both. Kept as pairs. The stride is the
        kernel size where none is given.

    Raises
    ------
    InputError
        If a size is below 1 or the padding below 0.
    """

    kernel_size: int | Pair
    stride: int | Pair | None = None
    padding: int | Pair = 0

    def __post_init__(self):
        if self.stride is None:
            object.__setattr__(self, "stride", self.kernel_size)
        for name, least in (("kernel_size", 1), ("stride", 1), ("padding", 0)):
            value = pair(getattr(self, name), least, f"AvgPool2d: {name}")
            object.__setattr__(self, name, value)

    def parameter_shapes(self) -> dict[str, Shape]:
        """No weights."""
        return {}

    def output_shape(self, shape: Shape) -> Shape:
        """(C, H, W) -> (C, OH, OW)."""
        return windowed_shape(f"{self}", shape, *self.sizes)

    def forward(self, x: np.ndarray, weights: Arrays) -> np.ndarray:
        """See `forward` of this module."""
        self.output_shape(x.shape[-3:])
        return forward(x, *self.sizes)

    def backward(
        self, x: np.ndarray, weights: Arrays, grad_y: np.ndarray, need_grad_x: bool = True
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """See `backward` of this module."""
        return backward(grad_y, x.shape[-2:], *self.sizes), {}

    def moments(self, x: np.ndarray | Moments, posteriors: Mapping[str, Posterior]) -> Moments:
        """See `moments` of this module."""
        self.output_shape(x.shape[-3:])
        return moments(x if isinstance(x, Moments) else deterministic(x), *self.sizes)

    @property
    def sizes(self) -> tuple[Pair, Pair, Pair]:
        """Kernel, stride and padding, which are pairs since `__post_init__`."""
        return cast(tuple[Pair, Pair, Pair], (self.kernel_size, self.stride, self.padding))
