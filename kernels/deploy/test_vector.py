"""Make a test vector: an input, and the moments of the float64 reference for it.

The tolerance is that of kernels, 1e-5 relative to the terms of a sum, once a layer: errors of
layers add up at worst, as long as no layer amplifies errors more than numbers. The terms are taken
as large as the largest output: |mean| + standard deviation, or variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refbnn.layers import Normalise
from refbnn.layers.moments import Moments
from refbnn.network.network import Network
from refbnn.prediction import raw_moments

TOLERANCE = 1e-5  # of one layer
_BLANK = 0.75  # share of zeros in a blank example


@dataclass(frozen=True, eq=False)
class Vector:
    """Test vector.

    Parameters
    ----------
    x : ndarray of float32, (batch, *input shape)
    expected : Moments
        Moments of the output in float64.
    mean_tolerance, var_tolerance : float
        Largest errors allowed.
    """

    x: np.ndarray
    expected: Moments
    mean_tolerance: float
    var_tolerance: float

    def errors(self, got: Moments) -> tuple[float, float]:
        """Greatest errors of mean and variance."""
        return (
            float(np.abs(got.mean - self.expected.mean).max()),
            float(np.abs(got.var - self.expected.var).max()),
        )

    def holds_for(self, got: Moments) -> bool:
        """Whether both are within the tolerance."""
        mean, var = self.errors(got)
        return mean <= self.mean_tolerance and var <= self.var_tolerance


def vector(net: Network, shape: tuple[int, ...], form: str) -> Vector:
    """Propagate uniform numbers through the reference: on the range that it was trained on.

    Where that is unknown, on [0, 1), as pixels are. Of a network that normalises its inputs, three
    quarters of every second example's are 0 if the range allows it: kernels sum such examples in
    another way (`kernels.layers.folding`).

    Parameters
    ----------
    net : Network
    shape : tuple of int
        (batch, *input shape)
    form : {"variance", "raw", "separate", "mean"}
        As in `kernels.compile_network`.
    """
    rng = np.random.default_rng(0)
    x = rng.random(shape, dtype=np.float32)
    low, high = net.input_range or (0.0, 1.0)
    if net.input_range:
        x = np.clip(low + (high - low) * x.astype(float), low, high).astype(np.float32)
    if isinstance(next(iter(net.layers), None), Normalise) and low <= 0.0 <= high:
        x[::2] = np.where(rng.random(x[::2].shape) < _BLANK, np.float32(0.0), x[::2])
    if form == "mean":
        means = {name: p.mean for name, p in net.parameters().items()}
        mean, _ = net.forward(x.astype(float), means)
        expected = Moments(mean, np.zeros_like(mean))
    else:
        expected = raw_moments.propagate(net, x) if form == "raw" else net.propagate(x)
    relative = TOLERANCE * len(net.layers)
    return Vector(
        x,
        expected,
        relative * float((np.abs(expected.mean) + np.sqrt(expected.var)).max()),
        relative * float(expected.var.max()),
    )
