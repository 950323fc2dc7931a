"""Average pooling: the mean of every window of an image.

Formulas
--------
Kernel (K, L), stride (s, t), padding (p, q) with zeros; x̄ is the padded image, and the zeros count
in the average (PyTorch's default, `count_include_pad=True`):

    y_ij = 1/(KL) Σ_{a<K} Σ_{b<L} x̄_{s·i+a, t·j+b}        backward: the transposed sum of ∂L/∂y

Moments: the same sum of the means, and 1/(KL)² Σ of the covariances in the window. For independent
inputs of any law these are the variances alone. Behind a convolution they are those of
`refbnn.layers.images.shared_weights`: exact directly behind it or with batch normalisation between,
to first order behind an activation. Outputs are correlated among one another, which is not passed
on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refbnn.layers.images.pooling import Pool2d
from refbnn.layers.images.windows import padded
from refbnn.layers.moments import Moments


@dataclass(frozen=True, repr=False)
class AvgPool2d(Pool2d):
    """Average pooling; see the formulas at the top of the file.

    Parameters and errors are those of `refbnn.layers.images.pooling.Pool2d`.

    Examples
    --------
    >>> from refbnn.layers import AvgPool2d
    >>> AvgPool2d(2).forward(np.arange(8.0).reshape(1, 2, 4), {})
    array([[[2.5, 4.5]]])
    """

    def value(self, x: np.ndarray) -> np.ndarray:
        """Mean of every window; x (..., H, W) -> (..., OH, OW)."""
        kernel, _, padding = self.sizes
        size = self.output_shape(x.shape[-3:])[1:]
        image = padded(x, padding)
        total = np.zeros((*x.shape[:-2], *size), np.result_type(x.dtype, np.float32))
        for rows, columns in self.places(size):
            total += image[..., rows, columns]
        total /= kernel[0] * kernel[1]
        return total

    def grad_input(self, x: np.ndarray, grad_y: np.ndarray) -> np.ndarray:
        """∂L/∂x (..., H, W) from g = ∂L/∂y (..., OH, OW), for images x of size (H, W)."""
        (rows, columns), *_ = self.sizes
        share = grad_y / (rows * columns)
        shape = *grad_y.shape[:-2], *x.shape[-2:]
        return self.to_entries([share] * (rows * columns), shape, grad_y.dtype)

    def propagated(self, x: Moments) -> Moments:
        """Moments of y for random inputs (..., H, W) -> (..., OH, OW)."""
        (rows, columns), *_ = self.sizes
        var = self.value(x.var)
        if x.shared is not None:
            var += x.shared.sum_between(x.shape, *self.sizes) / (rows * columns)
        # Below 0 by rounding alone, or where first order overstates negative covariances.
        return Moments(self.value(x.mean), np.maximum(var, 0.0) / (rows * columns))
