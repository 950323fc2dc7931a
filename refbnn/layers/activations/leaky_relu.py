"""Leaky ReLU: y = x for x > 0, else λx, with slope λ.

Formulas
--------
Forward: as above. Backward: ∂L/∂x = ∂L/∂y where x > 0, else λ ∂L/∂y (λ also at x = 0).

Moments for x ~ N(m, v): y = r₊ − λr₋ with r₊ = max(0, x), r₋ = max(0, −x), of which one is always
0, so Cov(r₊, r₋) = −E[r₊]E[r₋] and

    E = λm + (1 − λ)E[r₊] = m + (1 − λ)E[r₋] = y(m) + (1 − λ) min(E[r₊], E[r₋]),
    Var = Var[r₊] + λ²Var[r₋] + 2λE[r₊]E[r₋],

all from `refbnn.numerics.normal.rectified_moments`. For λ ≥ 0 every term of the variance is
positive; for λ < 0 the last is at most 0.47 of the others together (at m = 0, λ = −1), so nothing
is lost.

Range: variance to 2e-12 relative for m/√v in [−35, 35], and the mean to that of its larger term;
the mean itself has a zero for 0 < λ, at m < 0. Exact at v = 0 and for λ = 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from refbnn.errors import InputError
from refbnn.layers.layer import Arrays, Shape
from refbnn.layers.moments import Moments, deterministic
from refbnn.layers.posterior import Posterior
from refbnn.numerics.normal import rectified_moments


def forward(x, slope):
    """The input x where x > 0, else λx; any shape."""
    return np.where(x > 0, x, slope * x)


def backward(x, grad_y, slope):
    """∂L/∂x from x and g = ∂L/∂y; any shape."""
    return np.where(x > 0, grad_y, slope * grad_y)


def moments(x: Moments, slope) -> Moments:
    """Moments of y for Gaussian x; any shape."""
    right, var_right = rectified_moments(x.mean, x.var)
    left, var_left = rectified_moments(-x.mean, x.var)
    mean = forward(x.mean, slope) + (1 - slope) * np.minimum(right, left)
    return Moments(mean, var_right + slope**2 * var_left + 2 * slope * (right * left))


@dataclass(frozen=True)
class LeakyReLU:
    """Leaky ReLU of the given slope λ for x < 0; see the formulas at the top of the file."""

    slope: float = 0.01

    def __post_init__(self):
        if not math.isfinite(self.slope):
            raise InputError(f"LeakyReLU({self.slope}): expected a finite slope")
        # A NumPy scalar would turn float32 activations into float64.
        object.__setattr__(self, "slope", float(self.slope))

    def parameter_shapes(self) -> dict[str, Shape]:
        """No weights."""
        return {}

    def output_shape(self, shape: Shape) -> Shape:
        """Any shape, kept."""
        return shape

    def forward(self, x: np.ndarray, weights: Arrays) -> np.ndarray:
        """See `forward` of this module."""
        return forward(x, self.slope)

    def backward(
        self, x: np.ndarray, weights: Arrays, grad_y: np.ndarray, need_grad_x: bool = True
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """See `backward` of this module."""
        return backward(x, grad_y, self.slope), {}

    def moments(self, x: np.ndarray | Moments, posteriors: Mapping[str, Posterior]) -> Moments:
        """See `moments` of this module."""
        return moments(x if isinstance(x, Moments) else deterministic(x), self.slope)
