"""Bimodal law: a mixture of two normal laws, symmetric or not.

Formula
-------
With weight w of the lower component, separation d and ratio r of the standard deviations,

    q₀ = w N(µ₁, s₁²) + (1 − w) N(µ₂, s₂²),
    µ₁ = −d √((1 − w)/w),   µ₂ = d √(w/(1 − w)),   s₂ = r s₁,   s₁² = (1 − d²)/(w + (1 − w) r²).

Then E[z] = wµ₁ + (1 − w)µ₂ = 0, the variance between the components is wµ₁² + (1 − w)µ₂² = d² and
that within them ws₁² + (1 − w)s₂² = 1 − d²: standardised by construction, d² being the share of
the variance that the separation makes. Symmetric for w = ½, r = 1, and then with two peaks where
d > √½. With d = 0 and r ≠ 1 it is a scale mixture with heavy shoulders.

Sources: the bimodal shapes of arXiv 2501.05564, section 4; mixture moments are elementary.

Range
-----
d from 0 to 0.999, w from 0.001 to 0.999, r from 0.001 to 1000: beyond, one component is a spike
that panels need not see.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refbnn import normal
from refbnn.errors import InputError
from refbnn.noise.numerical import CUT, NumericalLaw

_LEAST_SHARE = 1e-3


@dataclass(frozen=True)
class Bimodal(NumericalLaw):
    """Mixture of two normal laws; the methods are those of `refbnn.noise.law.Law`.

    Parameters
    ----------
    separation : float
        d, 0 to 0.999.
    weight : float
        w of the lower component, 0.001 to 0.999.
    ratio : float
        r = s₂/s₁, 0.001 to 1000.

    Raises
    ------
    InputError
        If a parameter is out of range or NaN.
    """

    separation: float = 0.9
    weight: float = 0.5
    ratio: float = 1.0

    def __post_init__(self):
        for name, least, most in (
            ("separation", 0.0, 1.0 - _LEAST_SHARE),
            ("weight", _LEAST_SHARE, 1.0 - _LEAST_SHARE),
            ("ratio", _LEAST_SHARE, 1.0 / _LEAST_SHARE),
        ):
            value = float(getattr(self, name))
            object.__setattr__(self, name, value)
            if not least <= value <= most:
                raise InputError(f"Bimodal: {name} is {value}; expected {least:g} to {most:g}")

    @property
    def components(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights, means and standard deviations, each of shape (2,)."""
        d, w, r = self.separation, self.weight, self.ratio
        s = np.sqrt((1.0 - d) * (1.0 + d) / (w + (1.0 - w) * r**2))
        odds = np.sqrt((1.0 - w) / w)
        return np.array([w, 1.0 - w]), d * np.array([-odds, 1.0 / odds]), s * np.array([1.0, r])

    @property
    def bounded(self) -> bool:
        """Never."""
        return False

    @property
    def location(self) -> tuple[float, float]:
        """Mean and standard deviation, 0 and 1 by construction."""
        return (0.0, 1.0)

    @property
    def _ends(self) -> tuple[float, float]:
        _, mu, s = self.components
        return (float(np.min(mu - CUT * s)), float(np.max(mu + CUT * s)))

    @property
    def _middle(self) -> float:
        return 0.0

    def _log_density(self, y: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        return np.logaddexp(*self._log_parts(y))

    def _log_parts(self, x: np.ndarray) -> list[np.ndarray]:
        """Log of each component's part of the density."""
        constant = 0.5 * np.log(2.0 * np.pi)
        return [
            -0.5 * np.square((x - mu) / s) + np.log(w / s) - constant
            for w, mu, s in zip(*self.components, strict=True)
        ]

    def log_pdf(self, x: np.ndarray) -> np.ndarray:
        """Log q₀(x)."""
        return self._log_density(np.asarray(x, dtype=float), x, x)

    def score(self, x: np.ndarray) -> np.ndarray:
        """Mean of the components' −(x − µ)/s², weighted by their share of the density at x."""
        x = np.asarray(x, dtype=float)
        parts = self._log_parts(x)
        total = np.logaddexp(*parts)
        slopes = [-(x - mu) / s**2 for _, mu, s in zip(*self.components, strict=True)]
        return sum(np.exp(part - total) * slope for part, slope in zip(parts, slopes, strict=True))

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Q(x) = w Φ((x − µ₁)/s₁) + (1 − w) Φ((x − µ₂)/s₂)."""
        x = np.asarray(x, dtype=float)
        parts = zip(*self.components, strict=True)
        return sum(w * normal.cdf((x - mu) / s) for w, mu, s in parts)

    def partial_mean(self, x: np.ndarray) -> np.ndarray:
        """M(x) = Σ w (µ Φ(t) − s φ(t)), t = (x − µ)/s."""
        x = np.asarray(x, dtype=float)
        return sum(
            w * (mu * normal.cdf((x - mu) / s) - s * normal.pdf((x - mu) / s))
            for w, mu, s in zip(*self.components, strict=True)
        )
