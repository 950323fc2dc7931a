"""Softplus: scales σ > 0 from unconstrained numbers ρ.

Formulas
--------
    σ = log(1 + e^ρ) = max(ρ, 0) + log1p(t),    t = e^−|ρ|,
    dσ/dρ = 1/(1 + e^−ρ) = (1 or t)/(1 + t),

1 for ρ ≥ 0 and t for ρ < 0. Both keep relative accuracy for small σ, to a few roundings of the
type, float32 or float64, and never overflow. Inverse: ρ = log(e^σ − 1) = σ + log(1 − e^−σ).
"""

from __future__ import annotations

import numpy as np
from numba import njit


def softplus(rho: np.ndarray) -> np.ndarray:
    """σ = log(1 + e^ρ), without overflow."""
    return softplus_and_slope(rho)[0]


def softplus_and_slope(rho: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """σ and dσ/dρ, of the shape and type of ρ; in C order, so that reshape(-1) is a view."""
    t = np.abs(rho, out=np.empty(rho.shape, rho.dtype))
    np.negative(t, out=t)
    np.exp(t, out=t)  # NumPy's exp and log1p are vectorised, Numba's are not
    scale = np.log1p(t, out=np.empty(rho.shape, rho.dtype))
    _finish_softplus(rho.reshape(-1), scale.reshape(-1), t.reshape(-1))
    return scale, t


@njit(cache=True, error_model="numpy")
def _finish_softplus(rho, scale, t):
    """σ in place of log1p(t), and dσ/dρ in place of t."""
    zero, one = rho.dtype.type(0), rho.dtype.type(1)
    for i in range(rho.size):
        scale[i] += max(rho[i], zero)
        t[i] = (one if rho[i] >= zero else t[i]) / (one + t[i])


def inverse_softplus(sigma: np.ndarray) -> np.ndarray:
    """ρ = log(e^σ − 1) = σ + log(1 − e^−σ)."""
    return sigma + np.log(-np.expm1(-sigma))
