"""Variance of dense layers and convolutions by second raw moments, another form of the same sum.

Formulas
--------
For y = Σ w x + b with independent weights (µ, σ²) and inputs (m, v),

    v' = Σ E[x²] E[w²] − Σ (m µ)² + σ_b²,      E[x²] = v + m²,   E[w²] = µ² + σ²

(arXiv 2511.23440, equation 5). Multiplied out, it is the sum that the layers compute,
v(µ² + σ²) + m²σ², plus and minus m²µ². Both forms take three products: one for the mean, two for
the variance.

Range
-----
The difference cancels. Its rounding error is some ε·Σ m²µ², so relative to v' it grows with the
squared ratio of means to deviations. Measured in float32 (ε = 6e-8) for the worst of 100 outputs
with 100 inputs: 0.6 % at a ratio of 100, no digit left at 1000 (`figures.variance_forms`).
A variance below 0, possible where the two sums run in different memory orders, counts as 0. The
form of the layers adds terms that are not negative. This form serves for comparison with networks
and kernels that use it. Covariances of pooled entries (`refbnn.layers.images.shared_weights`) have
one form.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from refbnn.layers import Conv2d, Dense, Layer
from refbnn.layers.images.pool_first import pool_first
from refbnn.layers.moments import Moments, deterministic
from refbnn.layers.posterior import Posterior
from refbnn.network.network import Network


def moments(layer: Layer, x: np.ndarray | Moments, posteriors: Mapping[str, Posterior]) -> Moments:
    """Moments of a layer's outputs; dense layers and convolutions outside residual blocks by it."""
    if not isinstance(layer, Dense | Conv2d):
        return layer.moments(x, posteriors)
    known = x if isinstance(x, Moments) else deterministic(x)
    weight, bias = posteriors["weight"], posteriors["bias"]
    squares = known.mean * known.mean
    raw = layer.forward(
        known.var + squares, {"weight": weight.mean**2 + weight.var, "bias": bias.var}
    )
    of_means = layer.forward(squares, {"weight": weight.mean**2, "bias": np.zeros_like(bias.mean)})
    mean = layer.forward(known.mean, {"weight": weight.mean, "bias": bias.mean})
    shared = layer.shared(x, posteriors) if isinstance(layer, Conv2d) else None
    return Moments(mean, np.maximum(raw - of_means, 0), shared=shared)


def propagate(net: Network, x: np.ndarray) -> Moments:
    """Propagate inputs (B, ...) in this form through a network without correlated layers."""
    y: np.ndarray | Moments = np.asarray(x, dtype=float)
    for layer, posteriors in zip(
        pool_first(net.layers), net.by_layer(net.propagated_parameters()), strict=True
    ):
        y = moments(layer, y, posteriors)
    return y if isinstance(y, Moments) else deterministic(y)
