"""ReLU: y = max(0, x).

Formulas
--------
Forward: max(0, x). Backward: ∂L/∂x = ∂L/∂y where x > 0, else 0 (the subgradient 0 at x = 0).
Gain: E[f′(x)] = Φ(m/√v). Moments: those of a rectified Gaussian,
`refbnn.numerics.normal.rectified_moments`; exact when x is Gaussian, an approximation otherwise (a
sum of n independent terms approaches a Gaussian with n).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refbnn.layers.activations.elementwise import Elementwise
from refbnn.layers.moments import Moments
from refbnn.numerics.normal import probability_above_0, rectified_moments


@dataclass(frozen=True, repr=False)
class ReLU(Elementwise):
    """ReLU layer; see the formulas at the top of the file.

    Examples
    --------
    >>> from refbnn import Moments
    >>> from refbnn.layers import ReLU
    >>> y = ReLU().moments(Moments([0.0, -1.0], [1.0, 0.0]), {})
    >>> y.mean.round(4), y.var.round(4)  # 1/√(2π) and ½ − 1/(2π) at mean 0
    (array([0.3989, 0.    ]), array([0.3408, 0.    ]))
    """

    def value(self, x):
        """max(0, x)."""
        return np.maximum(x, 0)

    def grad_input(self, x, grad_y):
        """∂L/∂y where x > 0, else 0."""
        return grad_y * (x > 0)  # np.where branches at every entry, and takes ten times as long

    def propagated(self, x: Moments) -> Moments:
        """Moments of max(0, x) for Gaussian x."""
        return Moments(*rectified_moments(x.mean, x.var))

    def gain(self, x: Moments) -> np.ndarray:
        """E[f′(x)] = Φ(m/√v); of a known x the slope that `grad_input` uses."""
        return probability_above_0(x.mean, x.var)

    @property
    def monotone(self) -> bool:
        """See `refbnn.layers.activations.elementwise`."""
        return True
