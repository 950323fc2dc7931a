"""The result of a fit: the law, its location and scale, and the evidence for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from refbnn.noise.families.gaussian import Gaussian
from refbnn.noise.fitting.evidence import P_FLOOR
from refbnn.noise.law import Law
from refbnn.numerics.arrays import real_array

REFUTED = 0.01  # p-value of the Kolmogorov–Smirnov test at or below which a fit is refuted


def p_text(p: float, sign: bool = False) -> str:
    """Write a p-value, the least one as "≤ 0.001": as many replicates tell no less."""
    if p <= P_FLOOR:
        return f"≤ {P_FLOOR:.1g}"
    return f"= {p:.3g}" if sign else f"{p:.3g}"


@dataclass(frozen=True)
class Parameter:
    """One fitted parameter."""

    name: str
    value: float  # in the measurements' unit where it has one
    # Standard error; for an edge that is not regular, its distance from the fitted law's
    # 1/n-quantile; None where the measurements do not determine it.
    uncertainty: float | None
    at_bound: bool  # whether it ended at a bound of the search: a wider search might fit better
    note: str  # which bound, or why the uncertainty is no standard error; else empty


@dataclass(frozen=True)
class Candidate:
    """The most likely law of one family that was tried."""

    family: str
    n_parameters: int
    log_likelihood: float  # sum over all measurements, in nats
    bic: float  # n_parameters·log n − 2 log-likelihood; the least is best
    # None if a family of lower BIC was chosen first, so that this one was not tested, or if the law
    # is too sharp for its panels.
    ks_p_value: float | None


@dataclass(frozen=True, repr=False)
class NoiseFit:
    """A law fitted to measurements G = location + scale·z, and the evidence for it.

    Parameters
    ----------
    law : Law
        The standardised law.
    location, scale : float
        Mean and standard deviation of the fitted law in the measurements' unit.
    family : str
        Family of the law, as in `candidates`.
    n_values : int
    log_likelihood : float
        Sum over all measurements, in nats.
    parameters : tuple of Parameter
        Estimated parameters; their number counts in the information criterion.
    candidates : tuple of Candidate
        Every family tried, best first by the information criterion.
    ks_distance, ks_p_value : float
        Kolmogorov–Smirnov test for a fitted law; see `refbnn.noise.fitting.evidence`.
        The p-value is a share of 1000 replicates, at least `P_FLOOR`: there it means "at most".
    ks_critical_distance : float
        Greatest distance that would not be refuted: half the width of the test's band around the
        fitted distribution function.
    kl_from_data : float
        KL(data ‖ fit) in nats, by Vasicek's estimate, whose own bias is of the order of n^(−½).
    cut : float
        Probability of the law that was cut off by the bounds; see
        `refbnn.noise.fitting.truncation`.
    left_out : mapping of str to float
        Families that were left out since the bounds would cut off more than 1 %, with what they
        would cut off.

    Examples
    --------
    >>> from refbnn.noise import fit
    >>> values = np.random.default_rng(0).normal(50.0, 3.0, 200)
    >>> result = fit(values, families=["Gaussian"])
    >>> result.fits, result.support, [p.name for p in result.parameters]
    (True, (-inf, inf), ['mean', 'standard deviation'])
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
    ks_critical_distance: float
    kl_from_data: float
    cut: float = 0.0
    left_out: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"NoiseFit(family={self.family!r}, location={self.location:.6g}, "
            f"scale={self.scale:.6g}, n_values={self.n_values}, ks_p_value={self.ks_p_value:.3g})"
        )

    @property
    def fits(self) -> bool:
        """Whether the test does not refute the law."""
        return self.ks_p_value > REFUTED

    @property
    def verdict(self) -> str:
        """Outcome of the test in one sentence."""
        numbers = f"D = {self.ks_distance:.4f}, p {p_text(self.ks_p_value, sign=True)}"
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
        return (real_array(values, "NoiseFit.standardise") - self.location) / self.scale
