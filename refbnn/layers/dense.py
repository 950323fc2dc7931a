"""Dense layer: y = x Wᵀ + b.

Formulas
--------
Forward, W of shape (out, in):  y_o = Σ_i W_oi x_i + b_o.

Backward, g = ∂L/∂y:  ∂L/∂x = g W,  ∂L/∂W = gᵀ x (summed over the batch),  ∂L/∂b = Σ_batch g.

Moments, for independent weights (mean µ, variance σ², any law) and independent inputs (mean m,
variance v), from Var[wx] = σ²v + σ²m² + µ²v:

    m'_o = Σ_i m_i µ_oi + µ_b        v'_o = Σ_i [ v_i (µ_oi² + σ_oi²) + m_i² σ_oi² ] + σ_b²

Exact: only means and variances of sums of independent products occur. For known inputs v = 0 and
the first product disappears. Linearised (`refbnn.layers.linearisation`), G = µ, and the noise of
the weights, different ones in each output, has the own variances Σ_i (m_i² + v_i) σ_oi² + σ_b².

The equal form Σ E[x²]E[w²] − (mµ)² (arXiv 2511.23440, eq. 5)
subtracts nearly equal numbers when m² ≫ v and is not used here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit

from refbnn.errors import InputError
from refbnn.layers.layer import Arrays, Shape, short_repr
from refbnn.layers.linearisation import quadratic_form
from refbnn.layers.moments import Moments, deterministic
from refbnn.layers.posterior import Posterior
from refbnn.numerics.arguments import whole_number


def forward(x, weight, bias):
    """x Wᵀ + b; x (..., B, in), weight (..., out, in), bias (..., out) -> (..., B, out)."""
    return x @ np.swapaxes(weight, -1, -2) + bias[..., np.newaxis, :]


def moments(x: Moments, weight: Posterior, bias: Posterior) -> Moments:
    """Moments of y for random inputs; x (B, in), weight (out, in), bias (out,) -> (B, out)."""
    mean = x.mean @ weight.mean.T + bias.mean
    var = x.var @ (weight.mean**2 + weight.var).T + x.mean**2 @ weight.var.T + bias.var
    return Moments(mean, var)


def linearise(
    x: Moments, weight: Posterior, bias: Posterior, J: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """J diag(σ²(m² + v) + σ_b²) Jᵀ (B, K, K), and J µ (K, B, in), for J (K, B, out)."""
    own = (x.mean**2 + x.var) @ weight.var.T + bias.var
    return quadratic_form(J, own), J @ weight.mean


def moments_of_known(x: np.ndarray, weight: Posterior, bias: Posterior) -> Moments:
    """Moments of y for known inputs, such as those of a first layer; shapes as in `moments`."""
    return Moments(x @ weight.mean.T + bias.mean, x**2 @ weight.var.T + bias.var)


@njit(cache=True)
def moments_loops(m, v, w_mean, w_scale, b_mean, b_scale):
    """Compute the sums of `moments` one product at a time: the check of the matrix form.

    m, v (B, in) are the inputs' moments; w_* (out, in), b_* (out,) -> mean, var (B, out).
    """
    n_batch, n_in = m.shape
    n_out = w_mean.shape[0]
    mean = np.empty((n_batch, n_out))
    var = np.empty((n_batch, n_out))
    for r in range(n_batch):
        for o in range(n_out):
            m_sum = b_mean[o]
            v_sum = b_scale[o] * b_scale[o]
            for i in range(n_in):
                w_var = w_scale[o, i] * w_scale[o, i]
                m_sum += m[r, i] * w_mean[o, i]
                v_sum += v[r, i] * w_mean[o, i] ** 2 + (v[r, i] + m[r, i] ** 2) * w_var
            mean[r, o] = m_sum
            var[r, o] = v_sum
    return mean, var


@dataclass(frozen=True, repr=False)
class Dense:
    """Dense layer of the given sizes; see the formulas at the top of the file.

    Examples
    --------
    >>> from refbnn.layers import Dense
    >>> layer = Dense(2, 1)
    >>> weights = {"weight": np.array([[3.0, -1.0]]), "bias": np.array([0.5])}
    >>> layer.forward(np.array([[1.0, 2.0]]), weights)
    array([[1.5]])
    """

    in_features: int
    out_features: int

    def __post_init__(self):
        for name in ("in_features", "out_features"):
            size = whole_number(getattr(self, name), 1, f"Dense: {name}")
            object.__setattr__(self, name, size)

    __repr__ = short_repr

    def parameter_shapes(self) -> dict[str, Shape]:
        """Shapes of `weight` and `bias`."""
        return {"weight": (self.out_features, self.in_features), "bias": (self.out_features,)}

    def output_shape(self, shape: Shape) -> Shape:
        """(in,) -> (out,)."""
        if shape != (self.in_features,):
            raise InputError(f"{self}: input has shape {shape}; expected ({self.in_features},)")
        return (self.out_features,)

    def forward(self, x: np.ndarray, weights: Arrays) -> np.ndarray:
        """See `forward` of this module."""
        self.output_shape(x.shape[-1:])
        return forward(x, weights["weight"], weights["bias"])

    def backward(
        self, x: np.ndarray, weights: Arrays, grad_y: np.ndarray, need_grad_x: bool = True
    ) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
        """∂L/∂x (..., B, in), and ∂L/∂W and ∂L/∂b summed over the batch."""
        grads = {"weight": np.swapaxes(grad_y, -1, -2) @ x, "bias": grad_y.sum(axis=-2)}
        return grad_y @ weights["weight"] if need_grad_x else None, grads

    def moments(self, x: np.ndarray | Moments, posteriors: Mapping[str, Posterior]) -> Moments:
        """See `moments` and `moments_of_known` of this module."""
        self.output_shape(x.shape[1:])
        weight, bias = posteriors["weight"], posteriors["bias"]
        if isinstance(x, Moments):
            return moments(x, weight, bias)
        return moments_of_known(x, weight, bias)

    def linearise(
        self,
        x: np.ndarray | Moments,
        y: Moments,
        posteriors: Mapping[str, Posterior],
        J: np.ndarray,
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """See `linearise` of this module."""
        random = x if isinstance(x, Moments) else deterministic(x)
        return linearise(random, posteriors["weight"], posteriors["bias"], J)
