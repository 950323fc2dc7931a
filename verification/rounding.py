"""Bounds on the rounding errors of float32 kernels against the float64 reference.

Worst case: a sum of n products, in any order, is off by at most γ_k Σ|terms| with
γ_k = ku/(1 − ku), u = 2⁻²⁴, and k = n plus the few roundings of each term (Higham 2002, lemma 3.1;
`kernels.layers.dense` derives the counts).

Whole networks: adding up worst cases over layers would give a bound too loose to test anything.
Roundings count as independent random numbers instead: n of them stay below 6√n u except once in 10⁷
(Higham & Mary 2019, theorem 2.4), and the squares of different units' errors add.
"""

from __future__ import annotations

from math import prod

import numpy as np

from kernels.layers.activations.relu import RELATIVE_ERROR
from refbnn import Moments, Network, Posterior
from refbnn.layers import Dense, dense
from refbnn.layers.images import conv2d
from refbnn.layers.images.windows import Pair
from refbnn.numerics.normal import cdf, pdf, rectified_moments

U = 2.0**-24  # unit roundoff of float32


def gamma(n: int) -> float:
    """γ_n, the relative error of n roundings in a row."""
    return n * U / (1.0 - n * U)


def dense_bound(x: Moments, weight: Posterior, bias: Posterior) -> tuple[np.ndarray, np.ndarray]:
    """Worst-case errors of mean and variance of a dense layer, (B, out) each."""
    n = weight.shape[1]
    terms = np.abs(x.mean) @ np.abs(weight.mean).T + np.abs(bias.mean)
    return gamma(n + 3) * terms, gamma(n + 7) * dense.moments(x, weight, bias).var


def conv2d_bound(
    x: Moments, weight: Posterior, bias: Posterior, stride: Pair, padding: Pair, groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """Worst-case errors of mean and variance of a convolution, (B, O, OH, OW) each."""
    n = prod(weight.shape[1:])
    sizes = stride, padding, groups
    terms = conv2d.forward(np.abs(x.mean), np.abs(weight.mean), np.abs(bias.mean), *sizes)
    return gamma(n + 3) * terms, gamma(n + 7) * conv2d.moments(x, weight, bias, *sizes).var


def network_bound(net: Network, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bound the errors of a float32 network of dense and ReLU layers: mean and variance, (B, out).

    Each layer adds its own rounding error and passes on that of its inputs to first order. With E
    the mean of max(0, z), the derivatives of the rectified moments are ∂E/∂m = Φ, ∂E/∂v = φ/(2s),
    ∂Var/∂m = 2E(1 − Φ), ∂Var/∂v = Φ − Eφ/s.
    """
    mean, var = x, np.zeros_like(x)
    m_error, v_error = np.zeros_like(x), np.zeros_like(x)
    parameters = net.propagated_parameters()
    for index, layer in enumerate(net.layers):
        if isinstance(layer, Dense):
            weight, bias = (parameters[f"{index}.{name}"] for name in ("weight", "bias"))
            out = dense.moments(Moments(mean, var), weight, bias)
            rounding = 6.0 * U * np.sqrt(layer.in_features + 7)
            v_error = np.sqrt(
                v_error**2 @ ((weight.mean**2 + weight.var) ** 2).T
                + (2 * mean * m_error) ** 2 @ (weight.var**2).T
            )
            v_error += rounding * out.var
            m_error = np.sqrt(m_error**2 @ (weight.mean**2).T)
            m_error += rounding * (np.abs(mean) @ np.abs(weight.mean).T + np.abs(bias.mean))
            mean, var = out.mean, out.var
        else:
            s = np.sqrt(var)
            phi, below = pdf(mean / s), cdf(mean / s)
            relu_mean, relu_var = rectified_moments(mean, var)
            m_relu = below * m_error + phi / (2 * s) * v_error
            v_relu = np.abs(below - relu_mean * phi / s) * v_error
            v_relu += 2 * relu_mean * (1 - below) * m_error
            m_error = m_relu + RELATIVE_ERROR * relu_mean
            v_error = v_relu + RELATIVE_ERROR * relu_var
            mean, var = relu_mean, relu_var
    return m_error, v_error
