"""Moments of pre-activations from sampled passes, which include the correlation of inputs.

For every entry of the outputs of a layer with weights, S draws of all weights (the same for all
inputs) give mean and variance beside those propagated, and skewness and excess kurtosis beside 0.
The draws include the correlation of a layer's inputs and the shapes behind pooling.

Standard errors for Gaussian y: mean √(v/S); variance, relative, √(2/(S−1)) (10 % for S = 200);
skewness √(6/S) = 0.17; excess kurtosis √(24/S) = 0.34
(`refbnn.uncertainty.diagnostics.non_gaussianity`). Events rarer than one in S draws are missed, and
|G₁| is at most about √S: strong skewness and kurtosis come out too small.

Criterion
---------
An entry is flagged where both hold:

1. the divergence less what chance adds, D = (G₁² − Var G₁)/12 + (G₂² − Var G₂)/48, is above the
   threshold: it *matters*. D has mean 0 for a Gaussian.
2. chance is *refuted*: p of G₁²/12 + G₂²/48 among Gaussian draws, adjusted after Benjamini and
   Hochberg (1995) for all entries of the layer, is at most 0.05. A layer has up to a million
   entries, and D alone would flag one in forty by chance (S = 200, threshold 1/60).

If all entries are Gaussian, the second criterion flags any of them with probability at most 0.05,
provided they are independent or positively dependent (Benjamini & Yekutieli 2001), as entries that
share their draws are. Since p is at least 1e-5, it takes some N/5000 deviating entries among N to
flag any.
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
    NonGaussianity,
    estimated,
    p_values,
    standard_errors,
)

SAMPLES = 200
FEWEST = 20
_LEVEL = 0.05
_NUMBERS = 1 << 21  # sampled activations at a time


@dataclass(frozen=True, eq=False)
class SampledMoments:
    """Moments of the outputs (B, ...) of one layer from draws.

    Parameters
    ----------
    n_samples : int
    mean_shift : (B, ...)
        (sampled − propagated mean)/√(propagated variance); 0 where that variance is 0.
    variance_ratio : (B, ...)
        Sampled over propagated variance; 1 where the latter is 0.
    non_gaussianity : NonGaussianity
        G₁ and G₂.
    """

    n_samples: int
    mean_shift: np.ndarray
    variance_ratio: np.ndarray
    non_gaussianity: NonGaussianity

    @property
    def divergence(self) -> np.ndarray:
        """D in nats; chance may make it negative."""
        return self.non_gaussianity.divergence - standard_errors(self.n_samples).divergence

    def flagged(self, threshold: float) -> np.ndarray:
        """Entries that meet the criterion, (B, ...)."""
        biased = self.non_gaussianity.divergence
        adjusted = false_discovery_control(p_values(biased, self.n_samples).ravel())
        return (self.divergence > threshold) & (adjusted.reshape(biased.shape) <= _LEVEL)


def sampled_moments(
    net: Network, x: np.ndarray, propagated: Mapping[int, Moments], n_samples: int, seed: int
) -> dict[int, SampledMoments]:
    """Sample n_samples passes, at least 20, beside the propagated outputs of layers by index."""
    rng = stream(seed, "diagnose")
    size = max(1, _NUMBERS // max(1, sum(m.mean.size for m in propagated.values())))
    sums: dict[int, CentralSums] = {}
    for start in range(0, n_samples, size):
        drawn = [_outputs(net, x, rng) for _ in range(min(size, n_samples - start))]
        for index in propagated:
            part = CentralSums.of(np.stack([outputs[index] for outputs in drawn]), 4)
            sums[index] = sums[index] + part if index in sums else part
    return {index: _beside(sums[index], moments) for index, moments in propagated.items()}


def _outputs(net: Network, x: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Output of every layer in one sampled pass."""
    weights = {name: array[0] for name, array in net.draw(rng)[0].items()}
    y, inputs = net.forward(x, weights)
    return [*inputs[1:], y]


def _beside(sums: CentralSums, propagated: Moments) -> SampledMoments:
    random = propagated.var != 0.0
    v = np.where(random, propagated.var, 1.0)
    return SampledMoments(
        sums.n,
        np.where(random, (sums.mean - propagated.mean) / np.sqrt(v), 0.0),
        np.where(random, sums.moments.var / v, 1.0),
        estimated(sums).where(random),  # draws of a known entry differ by rounding alone
    )
