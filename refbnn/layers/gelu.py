"""GELU: y = xΦ(x), Φ the standard normal distribution function (Hendrycks & Gimpel 2016).

Formulas
--------
Forward: as above, exact, not the tanh approximation. Backward: ∂L/∂x = (Φ(x) + xφ(x)) ∂L/∂y.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refbnn.layers.layer import Arrays, Shape
from refbnn.normal import cdf, pdf

_REACH = 40.0  # φ(x) is 0 beyond, also in double precision


def forward(x):
    """xΦ(x); any shape."""
    return x * cdf(x)


def backward(x, grad_y):
    """∂L/∂x from x and g = ∂L/∂y; any shape."""
    t = np.clip(x, -_REACH, _REACH)  # no square overflows
    return grad_y * (cdf(t) + t * pdf(t)).astype(x.dtype, copy=False)


@dataclass(frozen=True)
class GELU:
    """GELU layer; see the formulas at the top of the file."""

    def parameter_shapes(self) -> dict[str, Shape]:
        """No weights."""
        return {}

    def output_shape(self, shape: Shape) -> Shape:
        """Any shape, kept."""
        return shape

    def forward(self, x: np.ndarray, weights: Arrays) -> np.ndarray:
        """See `forward` of this module."""
        return forward(x)

    def backward(
        self, x: np.ndarray, weights: Arrays, grad_y: np.ndarray, need_grad_x: bool = True
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """See `backward` of this module."""
        return backward(x, grad_y), {}
