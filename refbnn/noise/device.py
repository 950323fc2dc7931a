"""Device law: noise on a bounded support with vanishing, finite or singular edges.

Formula
-------
On y ∈ [−1, 1], with exponents α, β > −1 and g(y) = Σ_{k≥1} c_k T_k(y) in Chebyshev polynomials,

    q(y) = (1 + y)^α (1 − y)^β exp(g(y)) / Z,

and the law itself is that of x = (y − m)/s, where m and s are the mean and standard deviation of
y: standardised by construction, with support [(−1 − m)/s, (1 − m)/s]. The family holds the uniform
law (all zero), the arcsine law (α = β = −½), every scaled beta law, and the exact Boltzmann law of
a uniaxial macrospin (α = β = 0, g of degree 2).

Integrals
---------
*Distribution function.* From the lower edge, with d = 1 + y,

    Q = ∫₀^d t^α h(t) dt / Z,  h smooth on [0, 1],

by Gauss–Jacobi with t^α in the weight, and the same from the upper edge with β: each half has
relative accuracy near its edge. *Moments and Gauss rules*: discretised Stieltjes over
Gauss–Jacobi nodes (`refbnn.quadrature`). *Entropy*: log q₀ is singular at the edges, where Gauss
rules converge slowly, so by tanh–sinh points.

Sources: family and inverse-transform sampling as in arXiv 2501.05564, section 3.1.

Range
-----
Relative error below 1e-13 for g of degree up to 4 within ±30 and α, β within (−0.8, 20); below
1e-12 for sharper singularities, down to −0.95, where the weights of the Gauss–Jacobi nodes vary
over more decades. It grows with degree and size of g; a law whose two halves do not add up to 1
within 1e-10 is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.polynomial import chebyshev

from refbnn import inverse_cdf
from refbnn.errors import InputError
from refbnn.quadrature import (
    Rule,
    gauss_jacobi,
    golub_welsch,
    jacobi_log_total,
    stieltjes,
    tanh_sinh,
)

MIN_EXPONENT = -0.95  # below, most of the mass sits within rounding of the edge

_HALF_NODES = 64  # Gauss–Jacobi nodes for the mass of part of one half
_INNERMOST = np.nextafter(1.0, 0.0)
_RESOLVED = 1e-10  # of the total probability: no law of lower accuracy is made
_BLOCK = 8192  # points at a time, so that points × nodes stay in cache
_BASE_NODES = 200  # points of the discrete measure behind Gauss rules: three times n = 64


@dataclass(frozen=True)
class DeviceLaw:
    """The bounded law above; the methods are those of `refbnn.noise.law.Law`.

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
    """

    alpha: float
    beta: float
    coefficients: Sequence[float] = ()

    def __post_init__(self):
        # Plain floats, whatever number type came in, so that a law prints and compares cleanly.
        object.__setattr__(self, "alpha", float(self.alpha))
        object.__setattr__(self, "beta", float(self.beta))
        object.__setattr__(self, "coefficients", tuple(float(c) for c in self.coefficients))
        if not np.isfinite([self.alpha, self.beta, *self.coefficients]).all():
            raise InputError("DeviceLaw: NaN or infinity; expected finite parameters")
        if not MIN_EXPONENT <= min(self.alpha, self.beta) <= max(self.alpha, self.beta) <= 100.0:
            raise InputError(
                f"DeviceLaw: edge exponents {self.alpha} and {self.beta}; "
                f"expected {MIN_EXPONENT} to 100"
            )
        # Both halves are integrated apart from the whole: they agree if g is resolved.
        with np.errstate(over="ignore", invalid="ignore"):
            total = float((self._lower_mass(np.ones(1)) + self._upper_mass(np.ones(1)))[0])
        if not abs(total - 1.0) <= _RESOLVED:
            raise InputError(
                f"DeviceLaw: the interior varies too much, its probability is {total:.12g}; "
                "expected fewer or smaller coefficients"
            )

    @property
    def support(self) -> tuple[float, float]:
        """((−1 − m)/s, (1 − m)/s)."""
        m, s = self.location
        return ((-1.0 - m) / s, (1.0 - m) / s)

    @cached_property
    def location(self) -> tuple[float, float]:
        """Mean m and standard deviation s of y, before standardising."""
        y, mass = self._base
        m = float(np.sum(mass * y))
        return m, float(np.sqrt(np.sum(mass * (y - m) ** 2)))

    @cached_property
    def entropy(self) -> float:
        """H = −E[log q₀], in nats."""
        grid = tanh_sinh(step=0.02)  # half the usual step: narrow laws, exponents near 100
        log_q = self._log_q(grid.y, grid.log_lower, grid.log_upper)
        return -float(np.sum(np.exp(grid.log_weight + log_q) * log_q)) - np.log(self.location[1])

    def log_pdf(self, x: np.ndarray) -> np.ndarray:
        """Log q₀(x) = log q(y) + log s; −∞ outside the support.

        At an edge, that of the nearest y inside: a sample may round onto a singular edge, and its
        density there must stay a number.
        """
        m, s = self.location
        y = m + s * np.asarray(x, dtype=float)
        inside = np.abs(y) <= 1.0
        y = np.where(inside, np.clip(y, -_INNERMOST, _INNERMOST), 0.0)
        log_q = self._log_q(y, np.log1p(y), np.log1p(-y))
        return np.where(inside, log_q + np.log(s), -np.inf)

    def score(self, x: np.ndarray) -> np.ndarray:
        """s·(α/(1 + y) − β/(1 − y) + g′(y)), inside the support."""
        m, s = self.location
        y = m + s * np.asarray(x, dtype=float)
        slope = chebyshev.chebval(y, chebyshev.chebder(self._series))
        return s * (self.alpha / (1.0 + y) - self.beta / (1.0 - y) + slope)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Q(x), relative accuracy towards the lower edge, absolute towards the upper."""
        m, s = self.location
        d = np.clip(1.0 + m + s * np.asarray(x, dtype=float), 0.0, 2.0)
        below = d <= 1.0
        q = np.empty(d.shape)
        q[below] = self._lower_mass(d[below])
        q[~below] = 1.0 - self._upper_mass(2.0 - d[~below])
        return q

    def icdf(self, u: np.ndarray) -> np.ndarray:
        """G(u), finite at 0 and 1; accuracy as stated in `refbnn.inverse_cdf`."""
        return self._inverse(u)

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draw by inverse transform: G of uniform numbers."""
        return self._inverse.of_probabilities(rng.random(shape))

    def quadrature(self, n: int) -> Rule:
        """Gauss rule by Stieltjes and Golub–Welsch, n up to 64."""
        if not 1 <= n <= 64:
            raise InputError(f"DeviceLaw.quadrature: n is {n}; expected 1 to 64")
        y, mass = self._base
        m, s = self.location
        return golub_welsch(*stieltjes((y - m) / s, mass, n))

    @cached_property
    def _series(self) -> np.ndarray:
        return np.array([0.0, *self.coefficients])

    @cached_property
    def _whole(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Gauss–Jacobi nodes, their probabilities under q, and log Z."""
        jacobi = gauss_jacobi(_BASE_NODES, self.beta, self.alpha)
        g = chebyshev.chebval(jacobi.nodes, self._series)
        mass = jacobi.weights * np.exp(g - g.max())
        total = mass.sum()
        log_z = jacobi_log_total(self.beta, self.alpha) + float(g.max() + np.log(total))
        return jacobi.nodes, mass / total, log_z

    @property
    def _base(self) -> tuple[np.ndarray, np.ndarray]:
        """Discrete measure equivalent to q for smooth integrands."""
        return self._whole[:2]

    @property
    def _log_z(self) -> float:
        return self._whole[2]

    @cached_property
    def _edge_rules(self) -> dict[float, Rule]:
        """Gauss–Jacobi rules on part of one half, by the exponent of its edge."""
        return {p: gauss_jacobi(_HALF_NODES, 0.0, p) for p in (self.alpha, self.beta)}

    def _log_q(self, y, log_lower, log_upper):
        """Log q from y, log(1 + y) and log(1 − y); 0·log 0 at a finite edge is 0."""
        log_q = chebyshev.chebval(y, self._series) - self._log_z
        if self.alpha != 0.0:
            log_q = log_q + self.alpha * log_lower
        if self.beta != 0.0:
            log_q = log_q + self.beta * log_upper
        return log_q

    def _lower_mass(self, d: np.ndarray) -> np.ndarray:
        """∫ of q over 0 ≤ 1 + y ≤ d, for d ≤ 1; (N,) -> (N,)."""
        return self._edge_mass(d, self.alpha, self.beta, 1.0)

    def _upper_mass(self, d: np.ndarray) -> np.ndarray:
        """∫ of q over 0 ≤ 1 − y ≤ d, for d ≤ 1; (N,) -> (N,)."""
        return self._edge_mass(d, self.beta, self.alpha, -1.0)

    def _edge_mass(self, d, near, far, sign):
        jacobi = self._edge_rules[near]
        log_total = jacobi_log_total(0.0, near) - self._log_z
        mass = np.empty_like(d)
        for start in range(0, d.size, _BLOCK):
            half = 0.5 * d[start : start + _BLOCK, np.newaxis]
            t = half * (1.0 + jacobi.nodes)  # distance from the near edge
            g = chebyshev.chebval(sign * (t - 1.0), self._series)
            h = (2.0 - t) ** far * np.exp(g + log_total)
            mass[start : start + _BLOCK] = half[:, 0] ** (near + 1.0) * (h @ jacobi.weights)
        return mass

    @cached_property
    def _inverse(self) -> inverse_cdf.InverseCDF:
        _, s = self.location
        # The halves meet at y = 0; distances in y become distances in x by 1/s.
        lower = inverse_cdf.Side(lambda d: self._lower_mass(s * d), self.alpha, 1.0 / s)
        upper = inverse_cdf.Side(lambda d: self._upper_mass(s * d), self.beta, 1.0 / s)
        return inverse_cdf.build(self.support, lower, upper)
