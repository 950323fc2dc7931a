"""What the search of one family returns, and how it is placed in the measurements' unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from refbnn.noise.law import Law


class Placed(NamedTuple):
    """G = location + scale·z with z from the law."""

    law: Law
    location: float
    scale: float

    def cdf(self, values: np.ndarray) -> np.ndarray:
        """F(G); any shape."""
        return self.law.cdf((values - self.location) / self.scale)

    def log_pdf(self, values: np.ndarray) -> np.ndarray:
        """log f(G), per unit of the measurements; any shape."""
        return self.law.log_pdf((values - self.location) / self.scale) - np.log(self.scale)


@dataclass(frozen=True)
class Estimate:
    """The most likely member of one family.

    Parameters
    ----------
    family : str
        Such as "heavy-tailed".
    names : tuple of str
        Of the parameters θ.
    theta : (p,)
        Their values; p counts in the Bayesian information criterion.
    units : (p,)
        A length along each parameter over which the law changes little but visibly: derivatives by
        θ are central differences of 1e-4 of it.
    place : callable
        θ -> Placed.
    log_likelihood : float
        Of all measurements, in nats, per unit of the measurements.
    at_bound : dict of str to str
        Parameters that ended at a bound of the search, and which.
    irregular : tuple of str
        Parameters without a finite information.
    """

    family: str
    names: tuple[str, ...]
    theta: np.ndarray
    units: np.ndarray
    place: Callable[[np.ndarray], Placed]
    log_likelihood: float
    at_bound: dict[str, str] = field(default_factory=dict)
    irregular: tuple[str, ...] = ()

    def bic(self, n: int) -> float:
        """p log n − 2 log L (Schwarz 1978)."""
        return float(self.theta.size * np.log(n) - 2.0 * self.log_likelihood)

    @property
    def free(self) -> list[int]:
        """Places in θ of the regular parameters inside their bounds."""
        kept = set(self.names) - set(self.at_bound) - set(self.irregular)
        return [i for i, name in enumerate(self.names) if name in kept]
