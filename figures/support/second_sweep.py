"""Linearised propagation whose gains know the covariance: what a second sweep would bring.

Formula
-------
`refbnn.network.linearised` computes gains, own variances and means from diagonal variances, which
are too small in narrow deep networks. Carried forward, layer by layer, with G and Cov[e] of
`refbnn.layers.linearisation` and the diagonal of Σ as the variances of the next layer,

    Σ_y = G Σ_x Gᵀ + Cov[e],

they are consistent. That takes two products of n × n matrices a layer, 2n³ multiplications, where
the pass back takes K n². It is for dense networks alone.
"""

from __future__ import annotations

import numpy as np

from refbnn import Network
from refbnn.layers import Dense
from refbnn.layers.activations.elementwise import Elementwise
from refbnn.layers.linearisation import own_variance
from refbnn.layers.moments import JointMoments, Moments


def propagate(net: Network, x: np.ndarray) -> JointMoments:
    """Joint moments of the outputs (B, K) of a network of dense layers and activations."""
    mean, cov = x, np.zeros((len(x), 1, 1))
    for layer, own in zip(net.layers, net.by_layer(net.parameters()), strict=True):
        var = np.broadcast_to(np.diagonal(cov, axis1=1, axis2=2), mean.shape)
        if isinstance(layer, Dense):
            W, b = own["weight"], own["bias"]
            noise = (mean**2 + var) @ W.var.T + b.var
            carried = W.mean @ cov @ W.mean.T if cov.shape[1] > 1 else 0.0
            mean = mean @ W.mean.T + b.mean
        else:
            assert isinstance(layer, Elementwise)
            y, gain = layer.propagated(Moments(mean, var)), layer.gain(Moments(mean, var))
            noise = own_variance(y.var, gain, var)
            carried = gain[:, :, np.newaxis] * gain[:, np.newaxis] * cov
            mean = y.mean
        cov = carried + noise[:, :, np.newaxis] * np.eye(mean.shape[1])
    return JointMoments(mean, cov)
