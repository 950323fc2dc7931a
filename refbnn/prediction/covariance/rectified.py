"""Covariance of rectified Gaussians: Cov(max(0, X), max(0, Y)) for jointly Gaussian X and Y.

Formula
-------
X = σ₁(a + z₁), Y = σ₂(b + z₂), z standard normal with correlation ρ. For smooth f and g,
∂E[f(X)g(Y)]/∂Cov(X, Y) = E[f′(X)g′(Y)] (Price 1958). For f = g = max(0, ·) that is the bivariate
distribution function Φ₂(a, b; ρ), whose own derivative is the density φ₂ (Plackett 1954). At ρ = 0
the covariance is 0, so

    C = Cov/(σ₁σ₂) = ∫₀^ρ Φ₂(a, b; t) dt = ρΦ(a)Φ(b) + J,      J = ∫₀^ρ (ρ − t) φ₂(a, b; t) dt,

equal to E[r₁r₂] − E[r₁]E[r₂] by

    E[r₁r₂]/(σ₁σ₂) = (ab + ρ)Φ₂ + aφ(b)Φ((a − ρb)/q) + bφ(a)Φ((b − ρa)/q) + q²φ₂,   q² = 1 − ρ²,

but without differences of nearly equal numbers and without Φ₂: one integral of one sign remains.
For ρ < 0 use φ₂(a, b; −t) = φ₂(a, −b; t): J(a, b, ρ) = J(a, −b, |ρ|).

The integral
------------
φ₂(t) is singular at t = ±1. With t = tanh u and U = atanh ρ it is an entire function of e^u:

    J = (1/2π) ∫₀^U [sinh(U − u)/(cosh U cosh² u)] exp(−(a² + b²)/4 − P e^{2u} − M e^{−2u}) du,
    P = (a − b)²/8,   M = (a + b)²/8,

by −(a² − 2abt + b²)/(2(1 − t²)) with 1/(1 − t²) = cosh² u, t/(1 − t²) = ½ sinh 2u. The exponent has
one maximum, at e^{2u} = √(M/P), and falls by 36 from it where P y + M/y has risen by 36, a
quadratic equation in y = e^{2u}. Between these ends (and at most 12.5 beyond the lower: the first
factor falls as e^{−3u}) stand Gauss–Legendre rules of 12 nodes, one for every 1.2 in u and every 12
that the exponent falls. (Integrating over the correlation is the way of Drezner & Wesolowsky 1990
and Genz 2004 for Φ₂ itself.)

Range
-----
a, b in [−35, 35]: relative error below 1e-12 for ρ ≥ 0, up to ρ = 1, where C is the variance of a
rectified Gaussian for a = b. For ρ < 0 the two terms have opposite signs: absolute error below
3e-13 |ρ|Φ(a)Φ(b), and C = 0 where that product underflows. About half a microsecond a pair.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from scipy.special import ndtr

from refbnn.numerics.normal import rectified_moments

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)
_FALL = 36.0  # the exponent is cut where it has fallen by this: 2e-16
_LENGTH, _STEEPNESS = 1.2, 12.0  # of one rule, in u and in the exponent
_LONGEST = 12.5  # e^(−3·12.5) is below rounding
_FAR = 20.0  # 1 − tanh 20 is below rounding: stands for U = ∞
_BEYOND = 39.0  # φ₂ ≤ φ(a) underflows


@njit(cache=True)
def _tail(a, b, rho):
    """J for ρ in (0, 1]."""
    if max(abs(a), abs(b)) > _BEYOND:
        return 0.0
    U = _FAR if rho >= 1.0 else min(math.atanh(rho), _FAR)
    P, M = (a - b) * (a - b) / 8.0, (a + b) * (a + b) / 8.0
    top = math.exp(2.0 * U)
    y = top if P * top * top <= M else max(math.sqrt(M / P), 1.0)
    least = P * y + M / y
    # P y + M/y = E at both ends, in the forms of the roots that do not cancel.
    E = least + _FALL
    root = E + math.sqrt(E * E - 4.0 * P * M)
    y_low = max(1.0, 2.0 * M / root)
    y_high = top if 2.0 * P * top <= root else root / (2.0 * P)
    low = 0.5 * math.log(y_low)
    high = min(0.5 * math.log(y_high), low + _LONGEST)
    fall = P * y_low + M / y_low + P * y_high + M / y_high - 2.0 * least
    n_rules = max(1, math.ceil((high - low) / _LENGTH + fall / _STEEPNESS))
    half = 0.5 * (high - low) / n_rules
    total = 0.0
    end = 1.0 / top  # e^{−2U}
    constant = 0.25 * (a * a + b * b)
    for rule in range(n_rules):
        middle = low + (2 * rule + 1) * half
        for k in range(_NODES.size):
            u = middle + half * _NODES[k]
            e = math.exp(-u)
            e2 = e * e
            # sinh(U − u)/cosh U = e^{−u}(1 − e^{−2(U−u)})/(1 + e^{−2U}); 1/cosh² u = 4e₂/(1 + e₂)²
            factor = e * (e2 - end) / ((1.0 + e2) * (1.0 + e2))
            total += _WEIGHTS[k] * factor * math.exp(-(constant + P / e2 + M * e2))
    return 2.0 * half * total / (math.pi * (1.0 + end))


@njit(cache=True)
def _fill(a, s, probability, cov):
    """Replace the off-diagonal entries of cov (B, n, n); a = mean/s, s and Φ(a) are (B, n)."""
    n_batch, n = a.shape
    for r in range(n_batch):
        for i in range(n):
            for j in range(i + 1, n):
                scale = s[r, i] * s[r, j]
                c = 0.0
                if scale > 0.0 and cov[r, i, j] != 0.0:
                    rho = min(max(cov[r, i, j] / s[r, i] / s[r, j], -1.0), 1.0)
                    tail = _tail(a[r, i], a[r, j] if rho > 0.0 else -a[r, j], abs(rho))
                    c = scale * (rho * probability[r, i] * probability[r, j] + tail)
                cov[r, i, j] = c
                cov[r, j, i] = c


def rectified_covariance(mean: np.ndarray, cov: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of max(0, x) for Gaussian vectors x.

    Parameters
    ----------
    mean : (B, n)
    cov : (B, n, n), symmetric positive semidefinite; the diagonal may hold zeros

    Returns
    -------
    mean : (B, n)
    cov : (B, n, n), symmetric
        Its diagonal is that of `refbnn.numerics.normal.rectified_moments`.
    """
    var = np.diagonal(cov, axis1=1, axis2=2)
    s = np.sqrt(var)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        a = np.where(s > 0.0, mean / s, np.where(mean > 0.0, np.inf, -np.inf))
    out_mean, out_var = rectified_moments(mean, var)
    out = cov.copy()
    _fill(a, s, ndtr(a), out)
    diagonal = np.arange(mean.shape[1])
    out[:, diagonal, diagonal] = out_var
    return out_mean, out
