"""The most likely member of one family, and the search for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from refbnn.noise.fitting.placing import Placed

AT_BOUND = 1e-6  # distance from a bound: a search that meets one ends on it exactly
_FIRST, _LAST = 1e-9, 1e-13  # nats per value: to compare starts, and to finish the best


@dataclass(frozen=True, eq=False)
class Estimate:
    """The most likely member of one family."""

    family: str
    names: tuple[str, ...]  # of the p parameters θ
    theta: np.ndarray  # (p,); p counts in the Bayesian information criterion
    # (p,): a length along each parameter over which the law changes little but visibly;
    # derivatives by θ are central differences of 1e-4 of it.
    units: np.ndarray
    place: Callable[[np.ndarray], Placed]
    log_likelihood: float  # sum over all measurements, in nats, per unit of the measurements
    at_bound: dict[str, str] = field(default_factory=dict)  # which bound a parameter ended at
    irregular: tuple[str, ...] = ()  # parameters of infinite information
    cut: float = 0.0  # probability that bounds cut off, see `truncation`
    # The distribution function by θ and values where it takes less work than `place`.
    distribution: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None

    @cached_property
    def placed(self) -> Placed:
        """The law at θ."""
        return self.place(self.theta)

    def cdf(self, theta: np.ndarray, values: np.ndarray) -> np.ndarray:
        """F(values; θ) at any θ."""
        if self.distribution is not None:
            return self.distribution(theta, values)
        return self.place(theta).cdf(values)

    def bic(self, n: int) -> float:
        """p log n − 2 log L (Schwarz 1978)."""
        return float(self.theta.size * np.log(n) - 2.0 * self.log_likelihood)

    @property
    def free(self) -> list[int]:
        """Indices in θ of the regular parameters inside their bounds."""
        kept = set(self.names) - set(self.at_bound) - set(self.irregular)
        return [i for i, name in enumerate(self.names) if name in kept]


def minimise(negative, starts, bounds):
    """L-BFGS-B, finished from the best of several starts; `negative` returns value and gradient."""
    from scipy.optimize import minimize

    def search(p, tolerance):
        options = {"ftol": tolerance, "gtol": 1e-8, "maxiter": 500}
        return minimize(negative, p, jac=True, method="L-BFGS-B", bounds=bounds, options=options)

    first = min((search(p, _FIRST) for p in starts), key=lambda result: result.fun)
    return search(first.x, _LAST)
