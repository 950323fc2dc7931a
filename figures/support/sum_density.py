"""The exact law of the standardised sum (z₁ + … + z_n)/√n of independent values of one law.

Density by Fourier: with the characteristic function φ(t) = E e^{itz},

    p(x) − g(x) = (1/2π) ∫ (φ(t/√n)ⁿ − e^{−t²/2}) e^{−itx} dt,      g the standard normal density.

φ by Gauss rules of the law on panels, 8 nodes each and π/2 of phase a panel at most at the highest
frequency; the integral by a fast Fourier transform on the grid below. The difference
itself is transformed: then its rounding error is relative to it, not to p.

From it: KL(p ‖ g) = ∫ g f(p/g) with f(r) = r log r − r + 1 ≥ 0, W₁ = ∫ |F − Φ| dx, and
E relu(a + X) − E relu(a + Z) = ∫ relu(a + x)(p − g) dx.

Range: laws with a continuous density, n ≥ 2. Then φ = O(t⁻²), and the part above the highest
frequency, 420, is below 1e-9 of p. For n = 1, KL = ½ log 2πe − H and the law's own
density are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from refbnn.noise.law import Law
from refbnn.numerics.normal import pdf, rectified_moments

_HALF_WIDTH, _POINTS = 30.0, 8192  # of the grid in x; the highest frequency is π/spacing
_RELIABLE = 1e-12  # smaller densities are rounding error
_NOTHING = 1e-18


@dataclass(frozen=True, eq=False)
class StandardisedSum:
    """Density of a standardised sum on an equidistant grid; both arrays (N,)."""

    x: np.ndarray
    density: np.ndarray

    @property
    def _step(self) -> float:
        return float(self.x[1] - self.x[0])

    @property
    def divergence(self) -> float:
        """KL from the standard normal law, nats."""
        g = pdf(self.x)
        p = np.maximum(self.density, 0.0)
        kept = np.maximum(g, p) > _RELIABLE
        g, p, x = g[kept], p[kept], self.x[kept]
        log_ratio = np.log(np.maximum(p, 1e-300)) + 0.5 * x**2 + 0.5 * np.log(2.0 * np.pi)
        r = np.expm1(log_ratio)
        small = np.abs(r) < 1e-3
        # p log(p/g) − p + g = g(r²/2 − r³/6 + r⁴/12 − …) for p = g(1 + r)
        series = g * r**2 * (0.5 - r / 6.0 + r**2 / 12.0)
        whole = p * np.where(p > 0.0, log_ratio, 0.0) - p + g
        return float(np.sum(np.where(small, series, whole)) * self._step)

    @property
    def wasserstein(self) -> float:
        """W₁ distance from the standard normal law."""
        gap = np.cumsum(self.density) * self._step - 0.5 * self.density * self._step - ndtr(self.x)
        return float(np.sum(np.abs(gap)) * self._step)

    def relu_error(self, a: float) -> tuple[float, float]:
        """Errors of mean and standard deviation of max(0, a + X) when X is taken as normal Z."""
        r = np.maximum(0.0, a + self.x)
        gap = (self.density - pdf(self.x)) * self._step
        mean, var = (m.item() for m in rectified_moments(np.array([a]), np.array([1.0])))
        d_mean, d_second = float(np.sum(r * gap)), float(np.sum(r**2 * gap))
        d_var = d_second - d_mean * (2.0 * mean + d_mean)
        return d_mean, d_var / (np.sqrt(var + d_var) + np.sqrt(var))

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Distribution function, (N,) -> (N,): the normal one plus the integral of p − g."""
        gap = np.cumsum((self.density - pdf(self.x)) * self._step)
        return ndtr(x) + np.interp(x, self.x + 0.5 * self._step, gap)


def power_of_characteristic(law: Law, t: np.ndarray, n: int) -> np.ndarray:
    """Compute φ(t/√n)ⁿ for t ≥ 0 ascending; 0 once a whole block of frequencies is below 1e-18."""
    found = np.zeros(t.size, dtype=complex)
    low, high = law.reach
    start, size = 0, 128
    while start < t.size:
        rows = slice(start, start + size)
        u = t[rows] / np.sqrt(n)
        n_panels = int(np.ceil((high - low) * u[-1] / (0.5 * np.pi))) + 8
        nodes, weights = law.rules_between(np.linspace(low, high, n_panels + 1), 8)
        positive = weights > 0.0
        for k in range(0, u.size, 128):
            phase = np.multiply.outer(u[k : k + 128], nodes[positive])
            found[start + k : start + k + 128] = (np.exp(1j * phase) @ weights[positive]) ** n
        if np.abs(found[rows]).max() < _NOTHING:
            break
        start, size = start + size, 2 * size if start else size
    return found


def standardised_sum(law: Law, n: int) -> StandardisedSum:
    """Compute the law of the sum of n ≥ 2 independent values over √n."""
    step = 2.0 * _HALF_WIDTH / _POINTS
    x = step * (np.arange(_POINTS) - _POINTS // 2)
    t = 2.0 * np.pi * np.arange(_POINTS // 2 + 1) / (2.0 * _HALF_WIDTH)
    gap = power_of_characteristic(law, t, n) - np.exp(-0.5 * t**2)
    # e^{−itx} with x from −half-width on: a shift by half a period.
    return StandardisedSum(x, pdf(x) + np.fft.fftshift(np.fft.irfft(np.conj(gap), _POINTS)) / step)
