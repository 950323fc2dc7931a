"""Mean and variance of the maximum of k independent Gaussians.

Two (Clark 1961)
----------------
For independent X₁, X₂ with m₁ ≥ m₂, θ² = v₁ + v₂, α = (m₁ − m₂)/θ, write max(X₁, X₂) = X₁ + R with
R = max(0, X₂ − X₁). With h_n = h_n(−α) of `refbnn.numerics.normal`, E[R] = θh₁ and Var[R] = θ²(h₂ −
h₁²); by Stein's lemma Cov(X₁, R) = −v₁Φ(−α). So

    E = m₁ + θh₁,      Var = v₁(1 − 2Φ(−α)) + θ²(h₂ − h₁²).

These are Clark's equations 2 and 3 for correlation 0, in terms that are all positive: neither
moment cancels, and at θ = 0 (α = ∞, every h_n = 0) they are the deterministic limits, ties
included. No small number is added anywhere.

k by pairs
----------
Clark's approximation treats the maximum of two as Gaussian again. `tree` pairs neighbours, then the
maxima of pairs, and so on.

k exactly
---------
F(x) = ∏Φ((x − m_i)/s_i) is the distribution function of the maximum, with density
f = F Σ φ((x − m_i)/s_i)/(s_i Φ((x − m_i)/s_i)), and a jump of F(L) at the greatest deterministic
entry L. F < 1e-15 below x₀ = max(m_i − 8 s_i). From x₀ on, panels of 20 Gauss–Legendre nodes are
3 times as long as the least s_i whose Φ still varies; moments are summed as offsets from the
entry that x₀ belongs to, the variance about the mean.

Source: Clark, *The greatest of a finite set of random variables*, Operations Research 9, 1961.

Range
-----
Two: relative error below 1e-12 while α ≤ 35, as the rectified moments. `exact`: mean to 3e-12
of the standard deviation, variance to 3e-12 relative, measured for k ≤ 25, scales over twelve
decades, ties, far means, and deterministic entries up to 35 standard deviations above the rest.
Four N(0, 1): variance by tree 0.46470, exact 0.49172.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.polynomial import legendre

from refbnn.numerics import correlated_maximum

_REACH = 8.0  # Φ(−8) = 6e-16
_STEP = 3.0
_NODES, _WEIGHTS = legendre.leggauss(20)


def pair(mean_1, var_1, mean_2, var_2):
    """Mean and variance of max(X₁, X₂); arrays of one shape.

    A mean of −∞ with variance 0 marks an absent entry.
    """
    return correlated_maximum.pair(mean_1, mean_2, var_1, var_2, 0.0)[:2]


def tree(mean, var):
    """Clark's approximation by pairs of neighbours; (..., k) -> (...). An odd one waits a round."""
    entries = [(mean[..., i], var[..., i]) for i in range(mean.shape[-1])]
    while len(entries) > 1:
        left_over = entries[-1:] if len(entries) % 2 else []
        pairs = zip(entries[:-1:2], entries[1::2], strict=True)
        entries = [pair(*one, *other) for one, other in pairs] + left_over
    return entries[0]


def exact(mean, var):
    """Mean and variance by quadrature; (..., k) -> (...). Absent entries as in `pair`."""
    k = mean.shape[-1]
    flat_mean = np.ascontiguousarray(mean, dtype=float).reshape(-1, k)
    flat_scale = np.sqrt(np.ascontiguousarray(var, dtype=float).reshape(-1, k))
    m, v = np.empty(len(flat_mean)), np.empty(len(flat_mean))
    _exact_loops(flat_mean, flat_scale, m, v)
    return m.reshape(mean.shape[:-1]), v.reshape(mean.shape[:-1])


def weights(mean, var):
    """Probability of each entry to be the greatest, by the same quadrature; (..., k) -> (..., k).

    With f_i = F φ((x − m_i)/s_i)/(s_i Φ((x − m_i)/s_i)), the density of a maximum that entry i
    makes, it is ∫ f_i, and F(L) for a deterministic entry at the jump. It is ∂E[max]/∂m_i, too.
    """
    k = mean.shape[-1]
    flat_mean = np.ascontiguousarray(mean, dtype=float).reshape(-1, k)
    flat_scale = np.sqrt(np.ascontiguousarray(var, dtype=float).reshape(-1, k))
    probability = np.empty(flat_mean.shape)
    _weights_loops(flat_mean, flat_scale, probability)
    return probability.reshape(mean.shape)


@njit(cache=True, error_model="numpy")
def _exact_loops(mean, scale, m_out, v_out):
    offset, mass = np.empty(0), np.empty(0)
    for n in range(len(mean)):
        j, count, offset, mass = _panels(mean[n], scale[n], offset, mass)
        atom = _jump(mean[n], scale[n], j)
        _times_density(mean[n], scale[n], j, offset[:count], mass[:count])

        shift = 0.0
        for c in range(count):
            shift += mass[c] * offset[c]
        spread = atom * shift * shift
        for c in range(count):
            away = offset[c] - shift
            spread += mass[c] * away * away
        m_out[n], v_out[n] = mean[n, j] + shift, spread


@njit(cache=True, error_model="numpy")
def _weights_loops(mean, scale, out):
    offset, mass = np.empty(0), np.empty(0)
    for n in range(len(mean)):
        j, count, offset, mass = _panels(mean[n], scale[n], offset, mass)
        product = _product(mean[n], scale[n], j, offset[:count])
        for i in range(mean.shape[1]):
            total = 0.0
            if scale[n, i] > 0.0:
                for c in range(count):
                    z = (mean[n, j] - mean[n, i] + offset[c]) / scale[n, i]
                    ratio = math.exp(-0.5 * z * z) / (0.5 * math.erfc(-z * math.sqrt(0.5)))
                    total += mass[c] * product[c] * ratio
                total /= scale[n, i] * math.sqrt(2.0 * math.pi)
            out[n, i] = total
        if scale[n, j] == 0.0:
            out[n, j] = _jump(mean[n], scale[n], j)


@njit(cache=True, error_model="numpy")
def _panels(mean, scale, offset, mass):
    """Nodes as offsets from m_j and their masses dx: j, their number, both arrays, made longer."""
    # j: the entry that the start x₀ = m_j − 8 s_j belongs to.
    j = 0
    for i in range(1, mean.size):
        start, best = mean[i] - _REACH * scale[i], mean[j] - _REACH * scale[j]
        # Of equals a deterministic one: F may jump there.
        if start > best or (start == best and scale[i] < scale[j]):
            j = i
    start = -_REACH * scale[j]  # from m_j, like every offset below

    # u: from x₀, so that steps of the least scale are not lost in rounding.
    u, count = 0.0, 0
    while True:
        step = _step(mean, scale, j, start, u)
        if step == 0.0:
            break
        if count + _NODES.size > offset.size:
            offset, mass = _longer(offset), _longer(mass)
        panel = slice(count, count + _NODES.size)
        offset[panel] = start + (u + 0.5 * step * (1.0 + _NODES))
        mass[panel] = 0.5 * step * _WEIGHTS
        count += _NODES.size
        u += step
    return j, count, offset, mass


@njit(cache=True, error_model="numpy")
def _product(mean, scale, j, x):
    """F = ∏ Φ over the random entries at offsets x from m_j."""
    product = np.ones(x.size)
    for i in range(mean.size):
        if scale[i] > 0.0:
            for n in range(x.size):
                z = (mean[j] - mean[i] + x[n]) / scale[i]
                product[n] *= 0.5 * math.erfc(-z * math.sqrt(0.5))
    return product


@njit(cache=True, error_model="numpy")
def _step(mean, scale, j, start, u):
    """Length of the panel that starts at u, by the least s_i whose Φ still varies; 0 at the end."""
    least = 0.0
    for i in range(mean.size):
        s = scale[i]
        beyond = start + (mean[j] - mean[i])  # x₀ − m_i
        if scale[j] == 0.0 and beyond > 0.0 and s > 0.0:
            # Beyond a jump the tail is all that varies: it falls by the factor e^{−r²/2} within
            # √(z² + r²) − z standard deviations, r = _REACH.
            z = beyond / s
            s *= _REACH / (math.sqrt(z * z + _REACH * _REACH) + z)
        # Φ varies up to 8 s beyond m_i, or beyond x₀ if that is greater.
        if s > 0.0 and u < max(-beyond, 0.0) + _REACH * s and (least == 0.0 or s < least):
            least = s
    return _STEP * least


@njit(cache=True, error_model="numpy")
def _times_density(mean, scale, j, x, mass):
    """Multiply mass by f = F Σ φ/(sΦ) at offsets x from m_j, where every Φ is at least Φ(−8).

    The outer loop runs over entries: neighbouring x take the same branch of erfc, which the
    processor predicts.
    """
    product, total = np.ones(x.size), np.zeros(x.size)
    for i in range(mean.size):
        if scale[i] > 0.0:
            for n in range(x.size):
                z = (mean[j] - mean[i] + x[n]) / scale[i]
                cdf = 0.5 * math.erfc(-z * math.sqrt(0.5))
                product[n] *= cdf
                total[n] += math.exp(-0.5 * z * z) / (scale[i] * cdf)
    for n in range(x.size):
        mass[n] *= product[n] * total[n] / math.sqrt(2.0 * math.pi)


@njit(cache=True, error_model="numpy")
def _jump(mean, scale, j):
    """F(m_j) if entry j is deterministic, else 0: the probability that the maximum is m_j."""
    if scale[j] > 0.0:
        return 0.0
    product = 1.0
    for i in range(mean.size):
        if scale[i] > 0.0:
            product *= 0.5 * math.erfc((mean[i] - mean[j]) / scale[i] * math.sqrt(0.5))
    return product


@njit(cache=True)
def _longer(array):
    """Copy into an array of twice the size, at least eight panels."""
    longer = np.empty(max(2 * array.size, 8 * _NODES.size))
    longer[: array.size] = array
    return longer
