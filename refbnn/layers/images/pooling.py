"""Pooling layers: the sizes that average and max pooling share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from refbnn.layers.images.windows import Pair, WindowSizes, output_size, windowed_shape
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

    def places(self, size: Shape) -> Iterator[tuple[slice, slice]]:
        """Where each place of the kernel falls in the padded image, over all (OH, OW) windows."""
        kernel, stride, _ = self.sizes
        for place in np.ndindex(*kernel):
            rows, columns = (
                slice(start, start + s * n, s)
                for start, s, n in zip(place, stride, size, strict=True)
            )
            yield rows, columns

    def to_entries(self, parts: Iterable[np.ndarray], shape: Shape, dtype: np.dtype) -> np.ndarray:
        """Add up what the entries get from their windows: (..., H, W) of this shape.

        `parts` holds an array (..., OH, OW) for each place of the kernel.
        """
        *before, height, width = shape
        kernel, stride, (p, q) = self.sizes
        total = np.zeros((*before, height + 2 * p, width + 2 * q), dtype)
        size = output_size((height, width), kernel, stride, (p, q))
        for (rows, columns), part in zip(self.places(size), parts, strict=True):
            total[..., rows, columns] += part
        return total[..., p : p + height, q : q + width]
