"""What a fit reports: the law in its place, and the evidence for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refbnn.noise.families.gaussian import Gaussian
from refbnn.noise.law import Law

REFUTED = 0.01  # p-value of the Kolmogorov–Smirnov test at or below which a fit is refuted


@dataclass(frozen=True)
class Parameter:
    """One fitted parameter.

    Parameters
    ----------
    name : str
    value : float
        In the measurements' unit where it has one.
    uncertainty : float or None
        Its standard error; for an edge that is not regular, the distance from it of the fitted
        law's 1/n-quantile; None where the measurements do not tell.
    at_bound : bool
        Whether it ended at a bound of the search: a longer search space might fit better.
    note : str
        Which bound, or why the uncertainty is no standard error; empty for a regular parameter.
    """

    name: str
    value: float
    uncertainty: float | None
    at_bound: bool
    note: str


@dataclass(frozen=True)
class Candidate:
    """The most likely law of one family that was tried.

    Parameters
    ----------
    family : str
    n_parameters : int
    log_likelihood : float
        Of all measurements, in nats.
    bic : float
        n_parameters·log n − 2 log-likelihood; the least is best.
    ks_p_value : float or None
        None where a family of lesser BIC was chosen, so that this one was not tested, or where the
        law is too sharp to be made.
    """

    family: str
    n_parameters: int
    log_likelihood: float
    bic: float
    ks_p_value: float | None


@dataclass(frozen=True)
class NoiseFit:
    """A law fitted to measurements G = location + scale·z, and the evidence for it.

    Parameters
    ----------
    law : Law
        Standardised.
    location, scale : float
        Mean and standard deviation of the fitted law in the measurements' unit.
    family : str
        Of the law, as in `candidates`.
    n_values : int
    log_likelihood : float
        Of all measurements, in nats.
    parameters : tuple of Parameter
        What was estimated; their number counts in the information criterion.
    candidates : tuple of Candidate
        Every family tried, best first by the information criterion.
    ks_distance, ks_p_value : float
        Kolmogorov–Smirnov test that knows the law was fitted; see `refbnn.noise.fitting.evidence`.
    kl_from_data : float
        KL(data ‖ fit) in nats, by Vasicek's estimate, whose own bias is of the order of n^(−½).
    """

    law: Law
    location: float
    scale: float
    family: str
    n_values: int
    log_likelihood: float
    parameters: tuple[Parameter, ...]
    candidates: tuple[Candidate, ...]
    ks_distance: float
    ks_p_value: float
    kl_from_data: float

    @property
    def fits(self) -> bool:
        """Whether the test leaves the law standing."""
        return self.ks_p_value > REFUTED

    @property
    def verdict(self) -> str:
        """One sentence: what the test says, and no more than that."""
        numbers = f"D = {self.ks_distance:.4f}, p = {self.ks_p_value:.3g}"
        if self.fits:
            return f"{self.family} is not refuted by {self.n_values} values ({numbers})"
        return f"no law tried fits: {self.family}, the nearest, does not ({numbers})"

    @property
    def support(self) -> tuple[float, float]:
        """Ends of the fitted law in the measurements' unit; infinite where unbounded."""
        low, high = self.law.support
        return (self.location + self.scale * low, self.location + self.scale * high)

    @property
    def laws(self) -> dict[str, Law]:
        """The fitted law and the Gaussian it is compared with, by label."""
        return {"fitted law": self.law, "Gaussian law": Gaussian()}

    def standardise(self, values: np.ndarray) -> np.ndarray:
        """z = (G − location)/scale."""
        return (values - self.location) / self.scale
