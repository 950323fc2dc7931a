"""Shape of pre-activations by sampled passes: sees what formulas of independent inputs cannot.

For every entry of the outputs of a layer with weights, from S draws of all weights (the same ones
for all inputs): mean and variance beside those propagated, skewness and excess kurtosis beside 0.
Correlation of a layer's inputs, and the shapes behind pooling, are in the draws.

Errors, for Gaussian y: mean √(v/S); variance, relative, √(2/(S−1)) (10 % for S = 200); skewness
√(6/S) = 0.17, excess kurtosis √(24/S) = 0.34 (`refbnn.uncertainty.diagnostics.non_gaussianity`).
What happens in fewer than one of S draws is not seen, and |G₁| is at most about √S: strong skewness
and kurtosis come out too small.

Criterion
---------
An entry is flagged where both hold:

1. the divergence less what chance adds, D = (G₁² − Var G₁)/12 + (G₂² − Var G₂)/48, is above the
   threshold: it *matters*. D is unbiased at 0 for a Gaussian.
2. chance is *refuted*: p of G₁²/12 + G₂²/48 among Gaussian draws
   (`refbnn.uncertainty.diagnostics.non_gaussianity`), adjusted after Benjamini and Hochberg (1995)
   for all entries of the layer, is at most 0.05. A layer has up to a million entries, of which D
   alone would flag one in forty by chance (S = 200, threshold 1/60).

Where all entries are Gaussian, the second flags any of them with probability 0.05 at most, if they
are independent or positively dependent (Benjamini & Yekutieli 2001), as those of inputs that share
their draws are. As p is at least 1e-5, flags among N entries take some N/5000 that deviate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import false_discovery_control

from refbnn.layers.moments import Moments
from refbnn.network.network import Network
from refbnn.numerics.random.streams import stream
from refbnn.prediction.accumulation import CentralSums
from refbnn.uncertainty.diagnostics.non_gaussianity import (
    Shape,
    estimated,
    p_values,
    standard_errors,
)

SAMPLES = 200
FEWEST = 20
_LEVEL = 0.05
_NUMBERS = 1 << 21  # sampled activations at a time


@dataclass(frozen=True)
class SampledShape:
    """What draws say of the outputs (B, ...) of one layer.

    Parameters
    ----------
    n_samples : int
    mean_shift : (B, ...)
        (sampled − propagated mean)/√(propagated variance); 0 where the variance is.
    variance_ratio : (B, ...)
        Sampled over propagated variance; 1 where the latter is 0.
    shape : Shape
        G₁ and G₂.
    """

    n_samples: int
    mean_shift: np.ndarray
    variance_ratio: np.ndarray
    shape: Shape

    @property
    def divergence(self) -> np.ndarray:
        """D, nats; below 0 by chance."""
        return self.shape.divergence - standard_errors(self.n_samples).divergence

    def flagged(self, threshold: float) -> np.ndarray:
        """Entries that meet the criterion, (B, ...)."""
        found = self.shape.divergence
        adjusted = false_discovery_control(p_values(found, self.n_samples).ravel())
        return (self.divergence > threshold) & (adjusted.reshape(found.shape) <= _LEVEL)


def sampled_shapes(
    net: Network, x: np.ndarray, propagated: Mapping[int, Moments], n_samples: int, seed: int
) -> dict[int, SampledShape]:
    """Sampled shapes of the outputs of some layers, by index.

    Parameters
    ----------
    net : Network
    x : (B, ...)
    propagated : mapping of int to Moments of (B, ...)
        Of the outputs of the layers wanted.
    n_samples : int, at least 20
    seed : int
    """
    rng = stream(seed, "diagnose")
    size = max(1, _NUMBERS // max(1, sum(m.mean.size for m in propagated.values())))
    sums: dict[int, CentralSums] = {}
    for start in range(0, n_samples, size):
        drawn = [_outputs(net, x, rng) for _ in range(min(size, n_samples - start))]
        for index in propagated:
            part = CentralSums.of(np.stack([outputs[index] for outputs in drawn]), 4)
            sums[index] = sums[index] + part if index in sums else part
    return {index: _beside(sums[index], moments) for index, moments in propagated.items()}


def joined(parts: list[SampledShape]) -> SampledShape:
    """Those of one layer for several blocks of inputs."""

    def all_of(name: str, source=lambda part: part) -> np.ndarray:
        return np.concatenate([getattr(source(part), name) for part in parts])

    shape = Shape(*(all_of(name, lambda part: part.shape) for name in ("skewness", "kurtosis")))
    return SampledShape(parts[0].n_samples, all_of("mean_shift"), all_of("variance_ratio"), shape)


def _outputs(net: Network, x: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Output of every layer in one sampled pass."""
    weights = {name: array[0] for name, array in net.draw(rng)[0].items()}
    y, inputs = net.forward(x, weights)
    return [*inputs[1:], y]


def _beside(sums: CentralSums, propagated: Moments) -> SampledShape:
    known = propagated.var == 0.0
    v = np.where(known, 1.0, propagated.var)
    shape = estimated(sums)
    # Draws that propagation knows to be alike differ by rounding: that has no shape.
    return SampledShape(
        sums.n,
        np.where(known, 0.0, (sums.mean - propagated.mean) / np.sqrt(v)),
        np.where(known, 1.0, sums.moments.var / v),
        Shape(np.where(known, 0.0, shape.skewness), np.where(known, 0.0, shape.kurtosis)),
    )
