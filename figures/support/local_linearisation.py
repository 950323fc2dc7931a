"""Local linearisation of a network of dense layers: slopes at the mean, to compare with.

Formula
-------
The network is replaced by its Taylor expansion in its weights at their means µ (ICLR 2024,
arXiv 2402.08324, and others before):

    E[ℓ] = ℓ(x; µ),    Cov[ℓ] = Σ_w σ_w² (∂ℓ/∂w)(∂ℓ/∂w)ᵀ.

That is the pass back of `refbnn.layers.linearisation` with activations of variance 0: slopes f′(m)
in place of E[f′], own variances of activations 0, and of a dense layer σ²m² + σ_b².
"""

from __future__ import annotations

import numpy as np

from refbnn import Network
from refbnn.layers.linearisation import linearise_in_a_row
from refbnn.layers.moments import JointMoments, Moments, deterministic
from refbnn.network.linearised import identity


def propagate(net: Network, x: np.ndarray) -> JointMoments:
    """Joint moments of the outputs (B, K) of known inputs (B, ...)."""
    own = net.by_layer(net.parameters())
    activations: list[np.ndarray | Moments] = [x]
    for layer, posteriors in zip(net.layers, own, strict=True):
        x = layer.forward(x, {name: p.mean for name, p in posteriors.items()})
        activations.append(deterministic(x))
    J = identity(*x.shape)
    return JointMoments(x, linearise_in_a_row(net.layers, activations, own, J)[0])
