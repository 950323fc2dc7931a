"""Bimodal law: a mixture of two normal laws, symmetric or not.

Formula
-------
With weight w of the lower component, separation d and ratio r of the standard deviations,

    q₀ = w N(µ₁, s₁²) + (1 − w) N(µ₂, s₂²),
    µ₁ = −d √((1 − w)/w),   µ₂ = d √(w/(1 − w)),   s₂ = r s₁,   s₁² = (1 − d²)/(w + (1 − w) r²).

Then E[z] = wµ₁ + (1 − w)µ₂ = 0, the variance between the components is wµ₁² + (1 − w)µ₂² = d² and
that within them ws₁² + (1 − w)s₂² = 1 − d²: standardised by construction, d² being the share of
the variance between the components. Symmetric for w = ½, r = 1, and then with two peaks where
d > √½. With d = 0 and r ≠ 1 it is a scale mixture with heavy shoulders.

Sources: the bimodal shapes of arXiv 2501.05564, section 4; mixture moments are elementary.

Range
-----
d from 0 to 0.999, w from 0.001 to 0.999, r from 0.001 to 1000: beyond, one component is a spike
that panels may miss.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refbnn.errors import InputError
from refbnn.noise.families.mixture import LEAST_SHARE, NormalMixture
from refbnn.numerics.arguments import real_number


@dataclass(frozen=True)
class Bimodal(NormalMixture):
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

    Examples
    --------
    >>> law = Bimodal(separation=0.8)
    >>> weights, means, deviations = law.components
    >>> np.round(means, 6), np.round(deviations, 6)
    (array([-0.8,  0.8]), array([0.6, 0.6]))
    """

    separation: float = 0.9
    weight: float = 0.5
    ratio: float = 1.0

    def __post_init__(self):
        for name, least, most in (
            ("separation", 0.0, 1.0 - LEAST_SHARE),
            ("weight", LEAST_SHARE, 1.0 - LEAST_SHARE),
            ("ratio", LEAST_SHARE, 1.0 / LEAST_SHARE),
        ):
            value = real_number(getattr(self, name), f"Bimodal: {name}")
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
