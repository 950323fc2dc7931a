"""Sizes of a convolution's gradients, and the frames of zeros in which images lie in memory.

Vectors run along rows of images (`kernels.gradients.conv2d`). x̄ has its padding p, q around it, and
as many columns as the last vector of the last window reaches. g has K − 1 − p zeros above and
L − 1 − q to the left, where these are positive, so that every pixel of x finds all outputs that it
contributed to; its rows are rounded up to whole vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels.gradients.dense import require_sizes
from kernels.program.program import Plain
from refbnn.layers import Conv2d


@dataclass(frozen=True)
class Framed:
    """Layout of images in a frame of zeros.

    Parameters
    ----------
    shape : (..., H, W)
    top, left : int
        Zeros before the first row and column.
    rows, columns : int
        Size of the whole frame.
    """

    shape: tuple[int, ...]
    top: int
    left: int
    rows: int
    columns: int

    def tensor_shape(self, batch: int = 1) -> tuple[int, ...]:
        """Shape of the images with their frame."""
        return *self.shape[:-2], self.rows, self.columns

    def view(self, memory: np.ndarray) -> np.ndarray:
        """Show the images without their frame."""
        height, width = self.shape[-2:]
        return memory[..., self.top : self.top + height, self.left : self.left + width]


@dataclass(frozen=True)
class Sizes:
    """Sizes of a convolution and of its inputs.

    Parameters
    ----------
    layer : Conv2d
    image : (int, int)
        H and W.
    batch, samples : int
        B and S.
    first : bool
        Whether this is the first layer: all samples share x, and ∂L/∂x is not computed.

    Raises
    ------
    InputError
        If a size is no whole number of at least 1, or the image is smaller than the kernel.
    """

    layer: Conv2d
    image: tuple[int, int]
    batch: int
    samples: int = 1
    first: bool = False

    def __post_init__(self):
        require_sizes(self, *self.image, self.batch, self.samples)
        self.layer.output_shape(self.input_shape)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image, (C, H, W)."""
        return self.layer.in_channels, *self.image

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weights, (O, C of a group, K, L)."""
        return self.layer.parameter_shapes()["weight"]

    def layout(self, lanes: int, *shape: int) -> Plain:
        """Layout of an array of parameters or noise."""
        return Plain(shape)

    def index(self, i) -> tuple:
        """Place of weight i in the row of its output: channel, row and column of the kernel."""
        (K, L), *_ = self.layer.sizes
        return i // (K * L), i // L % K, i % L

    @property
    def per_group(self) -> tuple[int, int]:
        """Output and input channels of one group, O/g and C/g."""
        layer = self.layer
        return layer.out_channels // layer.groups, layer.in_channels // layer.groups

    @property
    def output(self) -> tuple[int, int]:
        """OH and OW."""
        _, *size = self.layer.output_shape(self.input_shape)
        return size[0], size[1]

    def vectors(self, lanes: int) -> int:
        """Vectors in a row of the output."""
        return -(-self.output[1] // lanes)

    def images(self, lanes: int) -> Framed:
        """Layout of x: as many columns as the last vector of the last window reaches."""
        (K, L), (s, t), (p, q) = self.layer.sizes
        H, W = self.image
        columns = max(W + q, (self.vectors(lanes) * lanes - 1) * t + L)
        rows = max(H + p, (self.output[0] - 1) * s + K)
        samples = () if self.first else (self.samples,)
        shape = (*samples, self.batch, *self.input_shape)
        return Framed(shape, p, q, rows, columns)

    def gradients(self, lanes: int) -> Framed:
        """Layout of g, with all rows and columns that ∂L/∂x reads."""
        (OH, OW), (top, left) = self.output, self.before
        shape = (self.samples, self.batch, self.layer.out_channels, OH, OW)
        rows, columns = top + OH, left + self.vectors(lanes) * lanes
        if self.layer.sizes[1] == (1, 1) and not self.first:
            spread = self.spread(lanes)
            rows, columns = max(rows, spread[0]), max(columns, spread[1])
        return Framed(shape, top, left, rows, columns)

    @property
    def before(self) -> tuple[int, int]:
        """Zeros of ḡ before its first row and column: K − 1 − p and L − 1 − q, if positive."""
        if self.first:
            return 0, 0
        (K, L), _, (p, q) = self.layer.sizes
        return max(0, K - 1 - p), max(0, L - 1 - q)

    def spread(self, lanes: int) -> tuple[int, int]:
        """Rows and columns of ḡ that ∂L/∂x reads, those of the last vector included."""
        (H, W), (top, left) = self.image, self.before
        *_, (p, q) = self.layer.sizes
        return top + H + p, left + -(-W // lanes) * lanes + q
