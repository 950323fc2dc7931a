"""Pooling layers: the sizes that average and max pooling share."""

from __future__ import annotations

from dataclasses import dataclass

from refbnn.layers.images.windows import Pair, WindowSizes, windowed_shape
from refbnn.layers.layer import Shape, short_repr
from refbnn.layers.weightless import Weightless


@dataclass(frozen=True, repr=False)
class Pool2d(WindowSizes, Weightless):
    """One number for every window of an image.

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
        self._make_pairs()

    def __repr__(self):
        return short_repr(self, {"stride"} if self.stride == self.kernel_size else ())

    def output_shape(self, shape: Shape) -> Shape:
        """(C, H, W) -> (C, OH, OW)."""
        return windowed_shape(f"{self}", shape, *self.sizes)
