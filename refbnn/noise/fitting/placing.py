"""Parameters of a family, as a law on the instrument's scale and as numbers of the whole line.

The parameters θ of a fit have the usual meaning: means, standard deviations, weights, edges,
exponents. On the line every number is allowed: the logarithm stands for standard deviations, widths
and 1 + α, log wᵢ/w_k for weights, log ζ for steepness and artanh ρ for asymmetry. Any two laws of a
family can be interpolated there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from refbnn.errors import InputError, quoted
from refbnn.noise.families.bimodal import Bimodal
from refbnn.noise.families.device import DeviceLaw
from refbnn.noise.families.gaussian import Gaussian
from refbnn.noise.families.heavy_tailed import MAX_STEEPNESS, MIN_STEEPNESS, HeavyTailed
from refbnn.noise.families.mixture import Mixture
from refbnn.noise.law import Law
from refbnn.numerics.arrays import real_array


class Placed(NamedTuple):
    """A law on the instrument's scale: G = location + scale·z with z from the law."""

    law: Law
    location: float
    scale: float

    def cdf(self, values: np.ndarray) -> np.ndarray:
        """F(G); any shape."""
        return self.law.cdf((real_array(values, "cdf") - self.location) / self.scale)


class Family(NamedTuple):
    """Functions of one family; θ and its numbers on the line are arrays of one shape."""

    place: Callable[[np.ndarray], Placed]
    to_line: Callable[[np.ndarray], np.ndarray]
    from_line: Callable[[np.ndarray], np.ndarray]


def place_gaussian(theta: np.ndarray) -> Placed:
    """(mean, standard deviation) -> the Gaussian law, its location and scale."""
    return Placed(Gaussian(), float(theta[0]), float(theta[1]))


def components(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, standard deviations and all weights of (m₁ … m_k, s₁ … s_k, w₁ … w_{k−1})."""
    k = (theta.size + 1) // 3
    w = theta[2 * k :]
    return theta[:k], theta[k : 2 * k], np.append(w, 1.0 - w.sum())


def place_mixture(theta: np.ndarray) -> Placed:
    """(m₁ … m_k, s₁ … s_k, w₁ … w_{k−1}) -> the standardised law, its location and scale.

    Location m = Σ wᵢ mᵢ, variance Σ wᵢ (sᵢ² + (mᵢ − m)²).
    """
    m, s, w = components(theta)
    location = float(w @ m)
    scale = float(np.sqrt(w @ (s**2 + (m - location) ** 2)))
    if m.size == 2:
        i, j = (0, 1) if m[0] <= m[1] else (1, 0)
        separation = np.sqrt(w[0] * w[1]) * (m[j] - m[i]) / scale
        return Placed(Bimodal(separation, weight=w[i], ratio=s[j] / s[i]), location, scale)
    law = Mixture(tuple(w), tuple((m - location) / scale), tuple(s / scale))
    return Placed(law, location, scale)


def mixture_to_line(theta: np.ndarray) -> np.ndarray:
    """θ as numbers of the whole line: (m, log s, log wᵢ/w_k)."""
    m, s, w = components(theta)
    return np.concatenate([m, np.log(s), np.log(w[:-1] / w[-1])])


def mixture_from_line(p: np.ndarray) -> np.ndarray:
    """Inverse of `mixture_to_line`."""
    k = (p.size + 1) // 3
    w = softmax(np.append(p[2 * k :], 0.0))
    return np.concatenate([p[:k], np.exp(p[k : 2 * k]), w[:-1]])


def place_heavy_tailed(theta: np.ndarray) -> Placed:
    """(mean, standard deviation, ξ, χ) -> the law, its location and scale."""
    m, s, xi, chi = (float(t) for t in theta)
    return Placed(HeavyTailed(steepness=xi, asymmetry=chi), m, s)


def heavy_tailed_to_line(theta: np.ndarray) -> np.ndarray:
    """θ as numbers of the whole line: (M, log S, log ζ, artanh ρ)."""
    m, s, xi, chi = theta
    return np.array([m, np.log(s), np.log(1.0 / xi**2 - 1.0), np.arctanh(chi / xi)])


def heavy_tailed_from_line(p: np.ndarray) -> np.ndarray:
    """Inverse of `heavy_tailed_to_line`, within the range of the law."""
    xi = np.clip(1.0 / np.sqrt(1.0 + np.exp(p[2])), MIN_STEEPNESS, MAX_STEEPNESS)
    return np.array([p[0], np.exp(p[1]), xi, xi * np.tanh(p[3])])


def place_device(theta: np.ndarray) -> Placed:
    """(a, b, α, β, c₁, …) -> the standardised law, its location and scale."""
    a, b = float(theta[0]), float(theta[1])
    law = DeviceLaw(theta[2], theta[3], tuple(theta[4:]))
    m, s = law.location
    half = 0.5 * (b - a)
    return Placed(law, a + half * (1.0 + m), half * s)


def device_to_line(theta: np.ndarray) -> np.ndarray:
    """θ as numbers of the whole line: (a, log(b − a), log(1 + α), log(1 + β), c)."""
    a, b = theta[:2]
    return np.array([a, np.log(b - a), *np.log1p(theta[2:4]), *theta[4:]])


def device_from_line(p: np.ndarray) -> np.ndarray:
    """Inverse of `device_to_line`."""
    return np.array([p[0], p[0] + np.exp(p[1]), *np.expm1(p[2:4]), *p[4:]])


_MIXTURE = Family(place_mixture, mixture_to_line, mixture_from_line)
_FAMILIES = {
    "Gaussian": _MIXTURE._replace(place=place_gaussian),  # on the line a mixture of one
    "bimodal": _MIXTURE,
    "three normals": _MIXTURE,
    "heavy-tailed": Family(place_heavy_tailed, heavy_tailed_to_line, heavy_tailed_from_line),
    "device": Family(place_device, device_to_line, device_from_line),
}
FAMILIES = tuple(_FAMILIES)


def family_of(name: str) -> Family:
    """Functions of one of `FAMILIES`, or of "device, degree d"; InputError for another name."""
    if (family := name.partition(",")[0]) not in _FAMILIES:
        raise InputError(f"family {quoted(name)}; expected one of {', '.join(FAMILIES)}")
    return _FAMILIES[family]
