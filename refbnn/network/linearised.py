"""Linearised propagation: means and the joint covariance of the outputs, one pass forth and back.

Formulas
--------
Propagation of moments (`refbnn.Network.propagate`) takes the activations of a layer as independent.
They share the weights and inputs before them, and what it drops it loses: variance, more with every
layer. Statistical linearisation (Gelb 1974) writes every layer as the linear function of its inputs
that is closest in mean square, plus a rest (`refbnn.layers.linearisation`),

    y = E[y] + G (x − E[x]) + e,    G = Cov[y, x] Cov[x]⁻¹,    Cov[x, e] = 0.

The rest e of one layer reaches the K outputs ℓ through the layers behind it, by the product J of
their G's, so that

    Cov[ℓ] = J_x Cov[x] J_xᵀ + Σ_layers J Cov[e] Jᵀ,

one pass back from J = I, with K right-hand sides. Means, and the variances of which gains and own
variances are computed, are those of the pass of diagonal moments.

Error
-----
The sum is an identity for the linear functions with their rests; two things are approximate: the
rests of different layers and units are taken as uncorrelated with one another, and G is computed
from diagonal Gaussian moments.

*Linear networks* (dense layers, average pooling, normalisation): exact for dense layers, since the
rests are sums of different weights' independent noises times functions of earlier ones. A
convolution leaves out the correlation of products of two noises at different positions.

*One dense hidden layer*, known inputs: pre-activations z_i depend on different weights, so they and
all f(z_i) are independent, and Cov[ℓ] = µ diag(Var f) µᵀ + diag(Σ σ² E[f²] + σ_b²), which is the
sum above with g² v + r = Var f. Exact for any law whose pre-activations have the moments used, as
diagonal propagation is; only the covariances are new.

*More dense layers*: units i and k of a later layer are correlated, ρ. With the Hermite coefficients
a_n = E[f^(n)(z)] s^n of each (s the deviation of z), jointly Gaussian units have (Mehler)

    Cov[f(z_i), f(z_k)] = Σ_{n ≥ 1} a_n^(i) a_n^(k) ρⁿ/n!.

The term n = 1 is what the gains carry; left out is at most ρ² √(r_i r_k), by Cauchy–Schwarz over
n ≥ 2, with r the own variances. So what is left out of J Cov[f] Jᵀ at one layer is at most
Σ_{i≠k} |J_i J_k| ρ_ik² √(r_i r_k), second order in the correlations. They are small where many
weights meet: each of n inputs brings noise of its own.

*Activations behind a convolution*, the first one too: positions p and q of one channel share all
their weights, so ρ is large where their patches are alike, and 1 where the image is uniform. What
is left out of a channel is at most Σ_{p≠q} |J_p J_q| ρ_pq² √(r_p r_q), and all of that for ρ = 1
and equal marginals: the rests are then one random variable, and the error is of first order. With J
= 1 at n positions the variance is n² Var f, of which n² g² v + n r are found. ReLU at 36 positions
of an image of one value, kernel 3 × 3, deviation 0.3 of all weights and the bias: the variance is
1.35 times the linearised one for weights of mean 0, 2.5 times for −0.1, 7.5 times for −0.2. In
trained networks the median is 1.00 to 1.02; `refbnn diagnose` shows the sampled ratio of every
layer. The covariance of pooled entries behind an activation (`refbnn.layers.images.shared_weights`)
has the same limit.

*Maxima of windows that overlap* depend on common entries; their rests are taken as uncorrelated.

*Gains* of narrow deep networks come from variances that are too small, and with them the means. A
second sweep with the variances that the covariance of each layer implies takes n × n matrices, so
as much as all covariances (`refbnn.prediction.covariance`, which computes those of ReLU exactly).
It pays little: eight hidden layers of 32 units, garments, median ratio of variances to the sampled
ones 0.92, with a second sweep 0.87; root mean square of its logarithm 0.28 and 0.23; error of the
mutual information 0.06 and 0.08 nats; all covariances 0.86, 0.23, 0.08. In eight layers of 128 it
is 0.89 and 0.93; 0.22 and 0.15; 0.04 and 0.06 (`figures/linearised.py`). So none is made here.
Sixteen narrow layers are beyond all of these: ratio 0.8, logarithm 0.8.

Only means and variances of weights enter: the result does not depend on their law beyond these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from refbnn.errors import InputError
from refbnn.layers import Flatten, Layer, Normalise
from refbnn.layers.images.pool_first import pool_first
from refbnn.layers.layer import Shape
from refbnn.layers.linearisation import linearise_in_a_row, quadratic_form
from refbnn.layers.moments import JointMoments, Moments, deterministic, require_finite_outputs
from refbnn.network.memory import MOST_ENTRIES, largest_array

if TYPE_CHECKING:
    from refbnn.network.network import Network

_NUMBERS = 1 << 22  # of the largest Jacobian of one block of inputs, 32 MB
_MOST = 16 * MOST_ENTRIES  # of one Jacobian, and of all covariances, 2 GB


def propagate(net: Network, x: np.ndarray | Moments) -> JointMoments:
    """Joint moments of the outputs for checked inputs (B, ...); called by `Network.propagate`.

    Raises
    ------
    InputError
        If the outputs are no row, a layer has no rule, the result overflows, or the Jacobian of one
        input or the covariances of all would take absurd memory.
    """
    block = _block(net, x.shape)
    own = net.by_layer(net.parameters())
    rows = (x[start : start + block] for start in range(0, max(x.shape[0], 1), block))
    with np.errstate(over="ignore", invalid="ignore"):  # the results are checked
        parts = [_propagated(net, part, own) for part in rows]
    return JointMoments(
        np.concatenate([part.mean for part in parts]), np.concatenate([part.cov for part in parts])
    )


def _propagated(net: Network, x: np.ndarray | Moments, own: list[dict]) -> JointMoments:
    activations = list(forth(net.layers, own, x))
    y = activations[-1]
    if not isinstance(y, Moments):
        y = deterministic(y)
    J = identity(*y.shape)
    cov, J_x = linearise_in_a_row(pool_first(net.layers), activations, own, J)
    if isinstance(x, Moments) and J_x is not None:
        cov = cov + quadratic_form(J_x, x.var)
    return JointMoments(y.mean, 0.5 * (cov + cov.swapaxes(1, 2)))  # rounded differently


def identity(n: int, k: int) -> np.ndarray:
    """Jacobian of K outputs by themselves for n examples, (K, n, K)."""
    return np.broadcast_to(np.eye(k)[:, np.newaxis], (k, n, k))


def forth(
    layers: Sequence[Layer], own: Sequence[dict], x: np.ndarray | Moments
) -> Iterator[np.ndarray | Moments]:
    """Yield the inputs, then the moments of the outputs of every layer; known values stay known.

    Layers come in the order of `refbnn.layers.images.pool_first`, here and on the way back.
    """
    yield x
    for index, (layer, posteriors) in enumerate(zip(pool_first(layers), own, strict=True)):
        known = known_outputs(layer, x)
        if known is not None:
            require_finite_outputs(known, f"layer {index}")
        x = layer.moments(x, posteriors) if known is None else known
        yield x


def known_outputs(layer: Layer, x: np.ndarray | Moments) -> np.ndarray | None:
    """Outputs of a layer that keeps known inputs known, else None.

    A first layer with weights has fewer products for known inputs.
    """
    if isinstance(layer, Normalise | Flatten) and not isinstance(x, Moments):
        return layer.value(x)
    return None


def variances(
    layers: Sequence[Layer],
    own: Sequence[dict],
    activations: Sequence[np.ndarray | Moments],
    units: np.ndarray,
) -> np.ndarray:
    """Variances (B, n) of some outputs of the network that is cut behind these layers.

    Parameters
    ----------
    layers : sequence of Layer
        In the order of `refbnn.layers.images.pool_first`.
    own : sequence of dict
        Their posteriors.
    activations : sequence of ndarray or Moments
        Known inputs and the outputs of all layers, as `forth` yields them.
    units : (n,) of int
        Places in one output, flattened; each is one right-hand side of the pass back.
    """
    n, *shape = activations[-1].shape
    largest = max(prod(a.shape) for a in activations)
    at_a_time = max(1, _NUMBERS // max(1, largest))
    found = np.empty((n, len(units)))
    for first in range(0, len(units), at_a_time):
        part = units[first : first + at_a_time]
        J = np.zeros((len(part), n, prod(shape)))
        J[np.arange(len(part)), :, part] = 1.0
        cov, _ = linearise_in_a_row(layers, activations, own, J.reshape(len(part), n, *shape))
        found[:, first : first + at_a_time] = np.einsum("bkk->bk", cov)
    return found


def n_outputs(net: Network, shape: Shape) -> int:
    """Count the outputs for one input of this shape; InputError unless they are one row."""
    outputs = net.check_input(shape)
    if len(outputs) != 1:
        raise InputError(
            f"linearised: the outputs of one input have shape {outputs}; expected one row, as "
            "after Flatten"
        )
    return outputs[0]


def _block(net: Network, shape: tuple[int, ...]) -> int:
    """Number of inputs at a time; InputError where one, or the result, takes too much memory."""
    k = n_outputs(net, shape[1:])
    # Each output has a gradient of all weights of a convolution.
    weights = max((prod(own) for own in net.layout.shapes.values() if len(own) == 4), default=1)
    one = k * max(largest_array(net.layers, shape[1:]), weights)
    for what, entries, remedy in (
        ("the Jacobian of one input", one, "fewer outputs, or the method 'pfp'"),
        ("the covariances", shape[0] * k * k, "fewer inputs at a time, or the method 'pfp'"),
    ):
        if entries > _MOST:
            raise InputError(
                f"linearised: {k} outputs: {what} would have {entries} entries; expected at most "
                f"{_MOST} ({remedy})"
            )
    return max(1, _NUMBERS // one)
