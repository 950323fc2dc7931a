"""Propagation of mean and full covariance through dense networks.

Formulas
--------
x has mean m and covariance Σ (n, n).

*Dense*, y = x Wᵀ + b, with independent weights of mean µ and variance σ² (any law), independent of
x. By the law of total covariance over W, with E[x xᵀ] = Σ + m mᵀ,

    Cov(y_o, y_p) = Σ_ij µ_oi Σ_ij µ_pj + [o = p] (Σ_i σ_oi² (m_i² + Σ_ii) + σ_b,o²),

since two outputs share their inputs, but no weight. Exact for any laws of weights and inputs.

*ReLU*: `refbnn.prediction.covariance.rectified`, exact where x is jointly Gaussian. This is the
only approximation of the full mode; the diagonal mode also ignores Σ_ij.

*Flatten* stands only before the first dense layer, where nothing is correlated yet.

The weights have the posterior's own variances. A variance factor
(`refbnn.uncertainty.variance_factor`) makes up for what the diagonal mode ignores, so it has no
effect here.

Cost for each input and a hidden layer of n units: 2n³ multiplications in the dense layer, n²/2 Φ₂
integrals in the ReLU (about 2 ms for n = 100), n² numbers of memory. The diagonal mode needs 3n²
multiplications and n rectified moments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from refbnn.errors import InputError
from refbnn.layers import Dense, Flatten, Normalise, ReLU
from refbnn.layers.moments import JointMoments, Moments, require_finite_outputs
from refbnn.layers.posterior import Posterior
from refbnn.network.input_range import warn_if_far
from refbnn.network.network import Network
from refbnn.numerics.arrays import finite_array
from refbnn.prediction.covariance.rectified import rectified_covariance

_MOST_ENTRIES = 20_000_000  # entries of one layer's covariances in memory, 160 MB


def dense(x: np.ndarray | Moments | JointMoments, weight: Posterior, bias: Posterior):
    """Joint moments of a dense layer's outputs, for known, independent or correlated inputs."""
    if isinstance(x, JointMoments):
        mean, var = x.mean, x.var
        cov = weight.mean @ x.cov @ weight.mean.T
        cov = 0.5 * (cov + cov.transpose(0, 2, 1))  # the two products round differently
    elif isinstance(x, Moments):
        mean, var = x.mean, x.var
        cov = (weight.mean * var[:, np.newaxis, :]) @ weight.mean.T
    else:
        mean, var = x, np.zeros_like(x)
        cov = np.zeros((len(x), *2 * (weight.shape[0],)))
    own = (mean**2 + var) @ weight.var.T + bias.var
    diagonal = np.arange(weight.shape[0])
    # Below 0 by rounding alone, where inputs cancel and no weight has noise.
    cov[:, diagonal, diagonal] = np.maximum(cov[:, diagonal, diagonal] + own, 0.0)
    return JointMoments(mean @ weight.mean.T + bias.mean, cov)


def propagate_layers(
    net: Network, x: np.ndarray | Moments | JointMoments
) -> Iterator[np.ndarray | Moments | JointMoments]:
    """Yield the inputs, then the outputs of every layer, for all inputs at once.

    It raises InputError where `propagate` does.
    """
    reason = obstacle(net)
    if reason is not None:
        raise InputError(f"covariance: {reason}")
    net.check_input(x.mean.shape[1:] if isinstance(x, JointMoments) else x.shape[1:])
    yield x
    for layer, own in zip(net.layers, net.by_layer(net.parameters()), strict=True):
        if isinstance(layer, Dense):
            x = dense(x, own["weight"], own["bias"])
        elif isinstance(layer, Normalise) and isinstance(x, JointMoments):
            scale = np.broadcast_to(layer.sd, x.mean.shape[1:])
            x = JointMoments(layer.value(x.mean), x.cov / np.multiply.outer(scale, scale))
        elif isinstance(x, JointMoments):
            x = JointMoments(*rectified_covariance(x.mean, x.cov))  # flattening would be refused
        elif isinstance(x, Moments):  # independent before the first dense layer
            x = layer.moments(x, own)
        else:  # known
            x = layer.forward(x, {})
            require_finite_outputs(x, type(layer).__name__)
        yield x


def propagate(net: Network, x: np.ndarray | Moments | JointMoments) -> JointMoments:
    """Joint moments of a dense network's outputs.

    Parameters
    ----------
    net : Network
        Has Dense, ReLU, Flatten and Normalise layers, and independent weights.
    x : (B, ...)
        Known inputs, independent random ones, or vectors with a covariance.

    Raises
    ------
    InputError
        If a layer is of another kind, no layer is dense, weights are correlated, or x does not fit.
    """
    if not isinstance(x, Moments | JointMoments):
        x = finite_array(x, "x").astype(float, copy=False)
    known = x.mean if isinstance(x, Moments | JointMoments) else x
    warn_if_far(known, net.input_range)
    n = len(known)
    parts = []
    block = block_size(net)
    for start in range(0, max(n, 1), block):
        # One layer's covariances at a time.
        (last,) = deque(propagate_layers(net, x[start : start + block]), maxlen=1)
        assert isinstance(last, JointMoments)  # there is a dense layer
        parts.append(last)
    return JointMoments(
        np.concatenate([part.mean for part in parts]), np.concatenate([part.cov for part in parts])
    )


def block_size(net: Network) -> int:
    """Number of inputs at a time: the covariances of one take the square of the width."""
    widths = (layer.out_features for layer in net.layers if isinstance(layer, Dense))
    return max(1, _MOST_ENTRIES // max(widths, default=1) ** 2)


def obstacle(net: Network) -> str | None:
    """Reason why this mode does not apply to a network, or None."""
    for index, layer in enumerate(net.layers):
        if not isinstance(layer, Dense | ReLU | Flatten | Normalise):
            name = type(layer).__name__
            return f"layer {index} is {name}; expected Dense, ReLU, Flatten or Normalise"
    if not any(isinstance(layer, Dense) for layer in net.layers):
        return "the network has no dense layer; expected at least one"
    if net.correlation:
        return (
            f"layers {sorted(net.correlation)} have correlated weights; expected independent ones "
            "(sample instead)"
        )
    return None
