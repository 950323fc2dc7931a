"""Device law: noise on a bounded support with vanishing, finite or singular edges.

Formula
-------
On y ∈ [−1, 1], with exponents α, β > −1 and g(y) = Σ_{k≥1} c_k T_k(y) in Chebyshev polynomials,

    q(y) = (1 + y)^α (1 − y)^β exp(g(y)) / Z,

and the law itself is that of x = (y − m)/s, where m and s are the mean and standard deviation of
y: standardised by construction, with support [(−1 − m)/s, (1 − m)/s]. It includes the uniform
law (all zero), the arcsine law (α = β = −½), every scaled beta law, and the exact Boltzmann law of
a uniaxial macrospin (α = β = 0, g of degree 2).

Sources: family and inverse-transform sampling as in arXiv 2501.05564, section 3.1.

Range
-----
α, β from −0.95 to 100; relative error 1e-15·(1 + (|α| + |β| + Σ|c_k|)/4) of the density, and of its
integrals (`refbnn.noise.numerical`) towards either edge. Near −0.95 most of the probability lies
within rounding of the edge: log_pdf of a *sample* is that of the nearest number
inside, so a Monte Carlo mean of −log q₀ misses the entropy, by up to 3 nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.polynomial import chebyshev

from refbnn.errors import InputError
from refbnn.noise.numerical import NumericalLaw
from refbnn.numerics.arguments import real_number
from refbnn.numerics.arrays import real_array

MIN_EXPONENT = -0.95  # below, most of the mass sits within rounding of the edge
MAX_EXPONENT = 100.0
_MOST_COEFFICIENTS = 1000  # seconds of quadrature; fits have up to a dozen


@dataclass(frozen=True, repr=False)
class DeviceLaw(NumericalLaw):
    """Law on a bounded support; the methods are those of `refbnn.noise.law.Law`.

    Parameters
    ----------
    alpha, beta : float
        Edge exponents, −0.95 to 100.
    coefficients : sequence of float
        c₁, c₂, … of g; kept as a tuple.

    Raises
    ------
    InputError
        If an exponent is out of range, a parameter is not finite, or the quadrature does not
        resolve exp(g).

    Examples
    --------
    >>> law = DeviceLaw(-0.5, -0.5)  # the arcsine law
    >>> np.round(law.support, 6)
    array([-1.414214,  1.414214])
    >>> round(law.entropy, 6)  # log(π/√2)
    0.798156
    """

    alpha: float
    beta: float
    coefficients: Sequence[float] = ()

    def __post_init__(self):
        # Plain floats, whatever number type came in, so that a law prints and compares cleanly.
        for name in ("alpha", "beta"):
            value = real_number(getattr(self, name), f"DeviceLaw: {name}")
            object.__setattr__(self, name, value)
        coefficients = real_array(self.coefficients, "DeviceLaw: coefficients").astype(float)
        if coefficients.size > _MOST_COEFFICIENTS:
            raise InputError(
                f"DeviceLaw: {coefficients.size} coefficients; expected at most "
                f"{_MOST_COEFFICIENTS}"
            )
        object.__setattr__(self, "coefficients", tuple(coefficients.tolist()))
        if not np.isfinite([self.alpha, self.beta, *self.coefficients]).all():
            raise InputError("DeviceLaw: NaN or infinity; expected finite parameters")
        if not MIN_EXPONENT <= min(self.exponents) <= max(self.exponents) <= MAX_EXPONENT:
            raise InputError(
                f"DeviceLaw: edge exponents {self.alpha} and {self.beta}; "
                f"expected {MIN_EXPONENT} to {MAX_EXPONENT:g}"
            )
        self._resolved  # noqa: B018, an interior that cannot be integrated is an error now

    def __repr__(self) -> str:
        c = f", coefficients={self.coefficients}" if self.coefficients else ""
        return f"DeviceLaw(alpha={self.alpha}, beta={self.beta}{c})"

    @property
    def exponents(self) -> tuple[float, float]:
        """α, β."""
        return (self.alpha, self.beta)

    @property
    def _ends(self) -> tuple[float, float]:
        return (-1.0, 1.0)

    @property
    def _terms(self) -> float:
        return float(np.abs(self._series).sum()) + abs(self.alpha) + abs(self.beta)

    @cached_property
    def _series(self) -> np.ndarray:
        return np.array([0.0, *self.coefficients])

    def _log_density(self, y: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        log_q = chebyshev.chebval(y, self._series)
        if self.alpha != 0.0:  # 0·log 0 at a finite edge is 0
            log_q = log_q + self.alpha * np.log(lower)
        if self.beta != 0.0:
            log_q = log_q + self.beta * np.log(upper)
        return log_q

    def score(self, x: np.ndarray) -> np.ndarray:
        """s·(α/(1 + y) − β/(1 − y) + g′(y)), inside the support."""
        m, s = self.location
        y = m + s * self._real(x)
        slope = chebyshev.chebval(y, chebyshev.chebder(self._series))
        if self.alpha != 0.0:
            slope = slope + self.alpha / (1.0 + y)
        if self.beta != 0.0:
            slope = slope - self.beta / (1.0 - y)
        return s * slope
