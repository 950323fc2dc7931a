"""ELU: y = x for x > 0, else α(eˣ − 1).

Formulas
--------
Forward: as above. Backward: ∂L/∂x = ∂L/∂y where x > 0, else α eˣ ∂L/∂y.

Moments for x ~ N(m, v): in closed form from E[e^{kx}; x < 0] = exp(km + k²v/2)Φ(−(m + kv)/√v),
k = 0, 1, 2, and the moments of max(0, x); but these cancel for small v and in the left tail.
So panels (`refbnn.numerics.gaussian_expectation`) of the difference of y at m + t and m, αeᵐ(eᵗ −
1) where both lie left of 0, with a knot at the kink.

Range: mean to rounding times max(α, √v), variance to 1e-12 relative (measured 5e-14 for m/√v in
[−35, 35], v from 1e-6 to 1e4). 5 µs an entry.
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
from refbnn.numerics import gaussian_expectation as gaussian_panels

_KNOTS = np.array([-40.0, -28.0, -18.0, -10.0, -4.0, 0.0])


def forward(x, alpha):
    """The input x where x > 0, else α(eˣ − 1); any shape."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def backward(x, grad_y, alpha):
    """∂L/∂x from x and g = ∂L/∂y; any shape."""
    return np.where(x > 0, grad_y, alpha * np.exp(np.minimum(x, 0)) * grad_y)


def _difference(m, t, alpha):
    """y(m + t) − y(m), each case without cancellation."""
    x = m + t
    from_right = np.where(x > 0, t, alpha * np.expm1(x) - m)
    near = alpha * np.exp(m) * np.expm1(t)
    far = np.where(x > 0, x - alpha * np.expm1(m), alpha * (np.exp(x) - np.exp(m)))
    return np.where(m > 0, from_right, np.where((x > 0) | (t >= 1), far, near))


def moments(x: Moments, alpha) -> Moments:
    """Moments of y for Gaussian x; any shape."""
    shift, var = gaussian_panels.shift_and_variance(
        x.mean, x.var, lambda m, t: _difference(m, t, alpha), _KNOTS
    )
    return Moments(forward(x.mean.astype(float), alpha) + shift, var)


@dataclass(frozen=True)
class ELU:
    """ELU that falls to −α; see the formulas at the top of the file."""

    alpha: float = 1.0

    def __post_init__(self):
        if not math.isfinite(self.alpha):
            raise InputError(f"ELU({self.alpha}): expected a finite alpha")
        # A NumPy scalar would turn float32 activations into float64.
        object.__setattr__(self, "alpha", float(self.alpha))

    def parameter_shapes(self) -> dict[str, Shape]:
        """No weights."""
        return {}

    def output_shape(self, shape: Shape) -> Shape:
        """Any shape, kept."""
        return shape

    def forward(self, x: np.ndarray, weights: Arrays) -> np.ndarray:
        """See `forward` of this module."""
        return forward(x, self.alpha)

    def backward(
        self, x: np.ndarray, weights: Arrays, grad_y: np.ndarray, need_grad_x: bool = True
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """See `backward` of this module."""
        return backward(x, grad_y, self.alpha), {}

    def moments(self, x: np.ndarray | Moments, posteriors: Mapping[str, Posterior]) -> Moments:
        """See `moments` of this module."""
        return moments(x if isinstance(x, Moments) else deterministic(x), self.alpha)
