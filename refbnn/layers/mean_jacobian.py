"""Covariance of a branch with its own input: the diagonal of the branch's mean Jacobian.

Formulas
--------
Let x have independent Gaussian entries, x_i ~ N(m_i, v_i), and let f be layers in a row. Then
(Stein 1981)

    Cov(x_i, f_i(x)) = v_i E[∂f_i/∂x_i].

Layer by layer, with C_k = Cov(x_i, h_k) of the layer's inputs h:

*dense*, weights independent of one another and of h, of mean µ: Cov(x_i, Σ_k w_ok h_k + b_o) =
Σ_k µ_ok C_k, exactly, for any law;

*ReLU, leaky ReLU g*, slope λ below 0 (0 for ReLU), with (x_i, h_k) taken as jointly Gaussian:
Cov(x_i, g(h_k)) = C_k E[g′(h_k)], E[g′] = λ + (1 − λ) Φ(m_k/√v_k).

So E[∂f_i/∂x_i] is the i-th diagonal entry of a product of the mean weights and diagonal matrices of
E[g′]. The only approximations are those of propagation: x independent, pre-activations Gaussian,
with propagated moments.

Cost: for every input, the product of all factors but the last, and the diagonal of the product with
the last. Two dense layers of n and h units take nh operations an input; three, of n, h and k units,
take nhk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from refbnn.layers.activations.leaky_relu import LeakyReLU
from refbnn.layers.activations.relu import ReLU
from refbnn.layers.dense import Dense
from refbnn.layers.layer import Layer
from refbnn.layers.moments import Moments
from refbnn.layers.posterior import Posterior

COVERED = Dense | ReLU | LeakyReLU


def diagonal(
    layers: Sequence[Layer],
    inputs: Sequence[Moments],
    posteriors: Sequence[Mapping[str, Posterior]],
) -> np.ndarray:
    """E[∂f_i/∂x_i], in the shape of f's input, for layers of the `COVERED` types.

    `inputs` are the moments that each layer is given, (B, n) where there is a dense one;
    `posteriors` are those of each layer's weights, by name.
    """
    factors = [
        layer.gain(x) if isinstance(layer, ReLU | LeakyReLU) else own["weight"].mean
        for layer, x, own in zip(layers, inputs, posteriors, strict=True)
    ]
    dense = [index for index, layer in enumerate(layers) if isinstance(layer, Dense)]
    if not dense:
        return np.prod(factors, axis=0)
    first, last = dense[0], dense[-1]
    out = np.empty(inputs[0].shape)
    for row in range(len(out)):
        before, after = (
            np.prod([factor[row] for factor in part], axis=0)
            for part in (factors[:first], factors[last + 1 :])
        )
        if first == last:
            out[row] = after * np.diagonal(factors[first]) * before
            continue
        jacobian = factors[first]
        for index in range(first + 1, last):
            factor = factors[index]
            jacobian = factor @ jacobian if index in dense else factor[row][:, None] * jacobian
        out[row] = after * np.einsum("ok,ko->o", factors[last], jacobian) * before
    return out
