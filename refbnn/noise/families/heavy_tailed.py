"""Heavy-tailed law: the normal-inverse-Gaussian law, standardised.

Formula
-------
With steepness ξ and asymmetry χ, |χ| < ξ < 1, let ζ = 1/ξ² − 1, ρ = χ/ξ and

    γ = √(ζ/(1 − ρ²)),   δ = √(ζ(1 − ρ²)),   α = γ/√(1 − ρ²),   β = ρα,   µ = −δβ/γ;

    q₀(x) = (αδ/π) K₁(αr)/r · exp(γδ + βw),       w = x − µ,   r = √(δ² + w²).

This is the law of a normal variable whose variance, and with it the mean, is drawn from an inverse
Gaussian law. Its cumulant generating function µt + δ(γ − √(α² − (β + t)²)) gives mean 0 and
variance δα²/γ³ = 1, skewness 3ρ/√ζ and excess kurtosis 3(1 + 4ρ²)/ζ. Tails fall as
|x|^(−3/2) exp(−(α ∓ β)|x|): heavy, yet every moment exists, and so do Gauss rules. (χ, ξ) do not
change with location and scale, so they are the parameters; ξ → 0 is the Gaussian law.

The exponent γδ + βw − αr cancels for large ζ; it is evaluated as −(αw − βr)²/(αr − βw + γδ), which
is equal by (αr − βw)² − γ²δ² = (αw − βr)². Where β and w have one sign these differences cancel
too:

    αw − βr = γ² x (w + δβ/γ)/(αw + βr),      αr − βw = (γ²w² + α²δ²)/(αr + βw).

Sources: Barndorff-Nielsen 1997 (Scand. J. Statist. 24, 1); the shape triangle (χ, ξ) in
Barndorff-Nielsen & Prause 2001, section 3.

Range
-----
ξ from 0.01 to 0.995, |ρ| up to 0.999: log q₀ to 1e-13 times 1 + |log q₀|.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import k0e, k1e

from refbnn.errors import InputError
from refbnn.noise.numerical import AROUND_PEAK, WholeLineLaw
from refbnn.numerics.arguments import real_number
from refbnn.numerics.piecewise_density import LEAST_LOG

MIN_STEEPNESS, MAX_STEEPNESS = 0.01, 0.995
MAX_SHARE = 0.999  # greatest |asymmetry| divided by steepness


@dataclass(frozen=True)
class HeavyTailed(WholeLineLaw):
    """Normal-inverse-Gaussian law; the methods are those of `refbnn.noise.law.Law`.

    Parameters
    ----------
    steepness : float
        ξ, 0.01 (nearly Gaussian) to 0.995 (excess kurtosis 300 and more).
    asymmetry : float
        χ, at most 0.999 ξ in size; positive for a long upper tail.

    Raises
    ------
    InputError
        If a parameter is out of range or NaN.

    Examples
    --------
    >>> from refbnn.noise import cumulants
    >>> np.round(cumulants(HeavyTailed(0.5), 4), 9) + 0.0  # excess kurtosis 3/ζ, ζ = 1/ξ² − 1
    array([0., 1., 0., 1.])
    """

    steepness: float = 0.7
    asymmetry: float = 0.0

    def __post_init__(self):
        for name in ("steepness", "asymmetry"):
            value = real_number(getattr(self, name), f"HeavyTailed: {name}")
            object.__setattr__(self, name, value)
        if not MIN_STEEPNESS <= self.steepness <= MAX_STEEPNESS:
            raise InputError(
                f"HeavyTailed: steepness is {self.steepness}; "
                f"expected {MIN_STEEPNESS:g} to {MAX_STEEPNESS:g}"
            )
        if not abs(self.asymmetry) <= MAX_SHARE * self.steepness:
            raise InputError(
                f"HeavyTailed: asymmetry is {self.asymmetry}; "
                f"expected at most {MAX_SHARE:g} of the steepness {self.steepness:g} in size"
            )

    @cached_property
    def parameters(self) -> tuple[float, float, float, float, float]:
        """α, β, γ, δ, µ."""
        zeta = (1.0 - self.steepness) * (1.0 + self.steepness) / self.steepness**2
        rho = self.asymmetry / self.steepness
        rest = (1.0 - rho) * (1.0 + rho)
        gamma, delta = np.sqrt(zeta / rest), np.sqrt(zeta * rest)
        alpha = gamma / np.sqrt(rest)
        beta = rho * alpha
        mu = -delta * beta / gamma
        return float(alpha), float(beta), float(gamma), float(delta), float(mu)

    @cached_property
    def _ends(self) -> tuple[float, float]:
        """Ends where the density has fallen by e^LEAST_LOG; near ρ = ±1 as e^(−(α ∓ β)|x|)."""
        from scipy.optimize import brentq

        def above(x):
            return float(self.log_pdf(np.array(x)) - self.log_pdf(np.array(0.0))) - LEAST_LOG

        alpha, beta, *_ = self.parameters
        low = 2.0 * LEAST_LOG / (alpha + beta) - 50.0
        high = -2.0 * LEAST_LOG / (alpha - beta) + 50.0
        return float(brentq(above, low, 0.0)), float(brentq(above, 0.0, high))

    @property
    def _features(self) -> np.ndarray:
        *_, delta, mu = self.parameters
        return mu + delta * AROUND_PEAK

    def log_pdf(self, x: np.ndarray) -> np.ndarray:
        """Log q₀(x)."""
        alpha, beta, gamma, delta, mu = self.parameters
        x = self._real(x)
        infinite, x = np.isinf(x), np.where(np.isinf(x), 0.0, x)
        w = x - mu
        r = np.hypot(delta, w)
        across, along = alpha * w - beta * r, alpha * r - beta * w
        with np.errstate(divide="ignore", invalid="ignore"):
            same = beta * w > 0.0
            exact = gamma**2 * x * (w + delta * beta / gamma) / (alpha * w + beta * r)
            across = np.where(same, exact, across)
            exact = ((gamma * w) ** 2 + (alpha * delta) ** 2) / (alpha * r + beta * w)
            along = np.where(same, exact, along)
        exponent = -np.square(across) / (along + gamma * delta)
        log_q = np.log(alpha * delta / np.pi) + np.log(k1e(alpha * r) / r) + exponent
        return np.where(infinite, -np.inf, log_q)

    def score(self, x: np.ndarray) -> np.ndarray:
        """β − (w/r)(α K₀(αr)/K₁(αr) + 2/r), by K₁′ = −K₀ − K₁/(αr)."""
        alpha, beta, _, delta, mu = self.parameters
        w = self._real(x) - mu
        r = np.hypot(delta, w)
        return beta - w / r * (alpha * k0e(alpha * r) / k1e(alpha * r) + 2.0 / r)
