"""Proven bounds on the error of propagation through one layer with weights and a ReLU.

A dense layer or convolution has no error: m' and v' are sums of means and variances of independent
terms (`refbnn.layers.dense`), whatever their laws.

ReLU: propagation takes the pre-activation X, of mean m and variance v, for Z ~ N(m, v). With W_p
the Wasserstein distance of the laws of X and Z (the least ‖X − Z‖_p over all joint laws),

    (1)  |E relu(X) − E relu(Z)| ≤ W₁,
    (1′) |E relu(X) − E relu(Z)| ≤ W₁/2,
    (2)  |sd relu(X) − sd relu(Z)| ≤ W₂.

Proof. |relu(x) − relu(z)| ≤ |x − z|. (1) For every joint law |E relu(X) − E relu(Z)| ≤ E|X − Z|;
take the least. (2) Write ‖·‖ for the root mean square and f̄ = f − E f. By the triangle inequality
|‖f̄(X)‖ − ‖f̄(Z)‖| ≤ ‖f̄(X) − f̄(Z)‖, at most ‖f(X) − f(Z)‖ since centring only takes away, at most
‖X − Z‖ for f = relu; take the least. ∎ (1) and (2) hold for every activation of slope at most 1 in
size: leaky ReLU of a slope in [−1, 1], ELU with |α| ≤ 1, tanh, sigmoid.

(1′) relu(x) = x/2 + |x|/2 and E X = E Z, so the difference is ½(E|X| − E|Z|), and |·| has slopes
±1. ∎ For ReLU alone.

For the sum X = Σ X_i of independent terms, β_i = E|X_i − E X_i|³ and v = Σ v_i,

    (3)  W₁ ≤ Σ β_i / v                                  (Goldstein 2010, theorem 1.1: constant 1),
    (4)  W₁ ≤ W₂ ≤ √(2v KL(X ‖ Z))                       (Jensen; Talagrand 1996, theorem 1.1).

A pre-activation of known inputs has the terms σ_i x_i z with one law of z, so that
Σβ_i = E|z|³ Σ|σ_i x_i|³ (and that of the bias): with n equal terms, W₁/√v ≤ E|z|³/√n. The true W₁
of a symmetric law falls as 1/n; (4) with KL ≈ κ₃²/12 + κ₄²/48
(`refbnn.uncertainty.diagnostics.diagnose`) follows it, to leading order.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from refbnn.layers import Conv2d, Dense, Layer
from refbnn.layers.moments import deterministic
from refbnn.layers.posterior import Posterior
from refbnn.network.network import Network
from refbnn.noise.law import Law
from refbnn.numerics.arrays import finite_array
from refbnn.uncertainty.diagnostics.diagnose import BLOCK, weighted_sum
from refbnn.uncertainty.diagnostics.non_gaussianity import NonGaussianity


def third_absolute_moment(law: Law) -> float:
    """E|z|³ of a standardised law, by Gauss rules on both sides of the kink at 0."""
    low, high = law.reach
    nodes, weights = law.rules_between(np.array([low, 0.0, high]), 40)
    return float(np.sum(weights * np.abs(nodes) ** 3))


def wasserstein_of_sum(
    layer: Layer, x: np.ndarray, posteriors: Mapping[str, Posterior], law: Law
) -> np.ndarray:
    """Bound (3) on W₁ between the outputs of Dense or Conv2d and the Gaussians of their moments.

    Known inputs x (B, ...) give bounds in the units of the outputs; 0 where they have no variance.
    """
    weight, bias = posteriors["weight"], posteriors["bias"]
    third = layer.forward(np.abs(x) ** 3, {"weight": weight.scale**3, "bias": bias.scale**3})
    var = layer.forward(x**2, {"weight": weight.var, "bias": bias.var})
    return third_absolute_moment(law) * third / np.where(var > 0.0, var, 1.0)


def wasserstein_from_divergence(var, divergence):
    """Bound (4): √(2 var KL), numbers or arrays of any shape, KL in nats."""
    return np.sqrt(2.0 * var * divergence)


def bounds_rows(net: Network, x: np.ndarray) -> list[dict]:
    """Bounds for the first layer with weights, the only one with known inputs (B, ...).

    Returns
    -------
    list of dict
        One row, or none if that layer is neither Dense nor Conv2d. "layer" and "kind" name it;
        "w1_bound_in_deviations" is bound (3) and "w2_bound_in_deviations" bound (4) with KL to
        leading order, over the standard deviation of each output: of every input the greatest of
        its outputs, and over the inputs {"median": ..., "max": ...}.
    """
    x = finite_array(x, "x").astype(float, copy=False)
    net.check_input(x.shape[1:])
    by_layer = net.by_layer(net.parameters())
    first = next((index for index, own in enumerate(by_layer) if own), None)
    if first is None or net.correlation:
        return []
    layer, own = net.layers[first], by_layer[first]
    if not isinstance(layer, Dense | Conv2d):
        return []
    blocks = []
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        for before in net.layers[:first]:
            block = before.forward(block, {})
        blocks.append(_greatest(layer, first, block, own, net.law))
    w1, w2 = np.concatenate(blocks, axis=1)
    return [
        {
            "layer": first,
            "kind": type(layer).__name__,
            "w1_bound_in_deviations": _summary(w1),
            "w2_bound_in_deviations": _summary(w2),
        }
    ]


def _greatest(
    layer: Dense | Conv2d, index: int, x: np.ndarray, own: Mapping[str, Posterior], law: Law
) -> np.ndarray:
    """Bounds (3) and (4) of each input's outputs, the greatest of them: (2, B).

    Known inputs x (B, ...) of the layer at this index of the network.
    """
    var = layer.moments(x, own).var
    gaussian = NonGaussianity.gaussian(x.shape)
    cumulants = weighted_sum(index, layer, deterministic(x), gaussian, own, law)
    kl = NonGaussianity.from_cumulants(*cumulants, var).divergence
    w1 = wasserstein_of_sum(layer, x, own, law) / np.sqrt(np.where(var > 0, var, 1.0))
    w2 = wasserstein_from_divergence(1.0, kl)
    return np.array([bound.reshape(len(x), -1).max(axis=1) for bound in (w1, w2)])


def _summary(values: np.ndarray) -> dict[str, float]:
    return {"median": float(np.median(values)), "max": float(values.max())}
