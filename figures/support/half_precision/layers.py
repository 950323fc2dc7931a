"""Propagation with the variances of dense layers and convolutions in half precision.

    Var y = Σ E[x²] σ² + Σ Var[x] µ² + σ_b²,      E[x²] = Var[x] + E[x]²

Each factor is scaled by a power of two (weights by one an array, inputs by one an image) and
rounded to half. The sums are those of `figures.support.half_precision.sums`, added in float32.
Means and other layers are the reference's, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from figures.support.half_precision.sums import halves, relative_bound, sums
from refbnn import Moments, Network, Posterior
from refbnn.layers import Conv2d, Dense, Layer
from refbnn.layers.images.windows import padded, windows


@dataclass(eq=False)
class Run:
    """One propagation with variances in half precision, in sums of blocks, and its errors.

    `errors` are the relative errors of the variances that leave each dense layer or convolution,
    against float64 from the same inputs; `terms` the number of terms of one sum there.
    """

    block: int
    scaled: bool = True
    errors: list[np.ndarray] = field(default_factory=list)
    terms: list[int] = field(default_factory=list)

    def propagate(self, net: Network, x: np.ndarray) -> Moments:
        """Propagate as `net.propagate` does."""
        activation: np.ndarray | Moments = x.astype(float)
        for layer, own in zip(net.layers, net.by_layer(net.parameters()), strict=True):
            exact = layer.moments(activation, own)
            if isinstance(layer, Dense | Conv2d):
                var = variance(layer, activation, own, self.block, self.scaled)
                self.errors.append(np.abs(var / exact.var - 1.0).ravel())
                self.terms.append(own["weight"].mean[0].size)
                exact = Moments(exact.mean, var)
            activation = exact
        assert isinstance(activation, Moments)
        return activation

    def numbers(self) -> dict:
        """Return relative errors over all layers, and the bound of the longest sum."""
        every = np.concatenate(self.errors)
        return {
            "variance_relative_error_median": float(np.median(every)),
            "variance_relative_error_max": float(every.max()),
            "bound": relative_bound(max(self.terms), self.block),
            "max_of_layers": [float(errors.max()) for errors in self.errors],
        }


def variance(
    layer: Dense | Conv2d,
    x: np.ndarray | Moments,
    own: dict[str, Posterior],
    block: int,
    scaled: bool = True,
) -> np.ndarray:
    """Compute the variances that leave a layer without groups, with products in half precision."""
    weight, bias = own["weight"], own["bias"]
    if isinstance(x, Moments):
        terms = [(x.var + x.mean**2, weight.var), (x.var, weight.mean**2)]
    else:
        terms = [(x**2, weight.var)]
    total = np.float32(0.0)
    for inputs, weights in terms:
        a = halves(inputs, inputs.ndim - 1, scaled)
        b = halves(weights.reshape(len(weights), -1), 2, scaled)
        shape, rows = _rows(layer, a.values)
        products = sums(rows, b.values, block).reshape(*shape, len(weights))
        if isinstance(layer, Conv2d):
            products = np.moveaxis(products, -1, 1)
        # A power of two, exact in float32.
        total = total + np.ldexp(products, a.exponent + b.exponent.reshape([1] * products.ndim))
    return total.astype(float) + bias.var.reshape(-1, *[1] * (total.ndim - 2))


def _rows(layer: Layer, x: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    """Return the inputs of each output as rows (N, n), and the outputs' shape without channels."""
    if not isinstance(layer, Conv2d):
        return x.shape[:1], x
    kernel, stride, padding = layer.sizes
    patches = np.moveaxis(windows(padded(x, padding), kernel, stride), 1, 3)
    # (B, OH, OW, C, K, L)
    return patches.shape[:3], patches.reshape(-1, np.prod(patches.shape[3:], dtype=int))
