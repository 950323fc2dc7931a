"""What the search of one family returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from refbnn.noise.fitting.placing import Placed

AT_BOUND = 1e-6  # of a bound: a search that meets one ends on it exactly
FIRST, LAST = 1e-9, 1e-13  # nats per value: to compare starts of L-BFGS-B, and to finish the best


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

    @cached_property
    def placed(self) -> Placed:
        """The law at θ."""
        return self.place(self.theta)

    def bic(self, n: int) -> float:
        """p log n − 2 log L (Schwarz 1978)."""
        return float(self.theta.size * np.log(n) - 2.0 * self.log_likelihood)

    @property
    def free(self) -> list[int]:
        """Places in θ of the regular parameters inside their bounds."""
        kept = set(self.names) - set(self.at_bound) - set(self.irregular)
        return [i for i, name in enumerate(self.names) if name in kept]
