"""A law: the shape of one weight's noise, standardised to mean 0 and variance 1.

A weight is θ = µ + σ z with z from the law, so µ and σ are its mean and standard deviation for
every law. Expectations over a law are Gauss rules (`refbnn.numerics.quadrature`).
"""

from __future__ import annotations

from math import comb
from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike

from refbnn.numerics.quadrature import Rule


class Law(Protocol):
    """The interface of every law; x is in units of the standard deviation, any shape.

    Examples
    --------
    >>> from refbnn.noise import DeviceLaw
    >>> law: Law = DeviceLaw(0.0, 0.0)  # the uniform law
    >>> np.round(law.icdf(np.array([0.0, 0.5, 1.0])), 6) + 0.0
    array([-1.732051,  0.      ,  1.732051])
    >>> round(law.quadrature(4).expect(law.quadrature(4).nodes ** 4), 6)
    1.8
    """

    @property
    def support(self) -> tuple[float, float]:
        """Least and greatest value; infinite where unbounded."""

    @property
    def reach(self) -> tuple[float, float]:
        """The support; if unbounded, a finite interval that holds all but 1e-20 on each side."""

    @property
    def entropy(self) -> float:
        """H = −E[log q₀(z)] in nats."""

    def log_pdf(self, x: np.ndarray) -> np.ndarray:
        """Log q₀(x); −∞ outside the support."""

    def score(self, x: np.ndarray) -> np.ndarray:
        """(log q₀)′(x), inside the support."""

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Q(x) = P(z ≤ x)."""

    def partial_mean(self, x: np.ndarray) -> np.ndarray:
        """M(x) = E[z; z ≤ x]."""

    def icdf(self, u: np.ndarray) -> np.ndarray:
        """G(u) = Q⁻¹(u) for u in [0, 1]."""

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], dtype: DTypeLike = float
    ) -> np.ndarray:
        """Independent values of the given shape, float64 or float32, however the type is spelt.

        Float32 values come from uniform numbers of 24 bits: the outermost 6e-8 of the probability
        at each end is one value.
        """

    def quadrature(self, n: int) -> Rule:
        """Gauss rule with n nodes: exact for polynomials of degree 2n − 1."""

    def rules_between(self, breaks: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Gauss rules on the intervals between P + 1 ascending breaks: nodes and weights (P, n)."""


def cumulants(law: Law, order: int = 6) -> list[float]:
    """Cumulants κ₁ … κ_order from exact moments (a Gauss rule of degree 2n − 1 ≥ order).

    Recursion: κ_n = m_n − Σ_{k=1}^{n−1} C(n−1, k−1) κ_k m_{n−k}, m_n = E[zⁿ]
    (Smith 1995, "A recursive formulation of the old problem of obtaining moments from cumulants").

    Returns
    -------
    list of float
        For a standardised law κ₁ = 0, κ₂ = 1, κ₃ the skewness and κ₄ the excess kurtosis.

    Examples
    --------
    >>> from refbnn.noise import DeviceLaw
    >>> np.round(cumulants(DeviceLaw(0.0, 0.0), 4), 9) + 0.0  # the uniform law
    array([ 0. ,  1. ,  0. , -1.2])
    """
    rule = law.quadrature(order // 2 + 1)
    m = [rule.expect(rule.nodes**n) for n in range(order + 1)]
    kappa: list[float] = []
    for n in range(1, order + 1):
        kappa.append(m[n] - sum(comb(n - 1, k) * kappa[k] * m[n - 1 - k] for k in range(n - 1)))
    return kappa
