"""Fit a device law to measurements by maximum likelihood.

Formula
-------
For a support [a, b], y = (2G − a − b)/(b − a) maps measurements G to [−1, 1], where the family

    log q(y) = η·t(y) − log Z(η),   t = (log(1 + y), log(1 − y), T₁(y), …, T_d(y)),
                                    η = (α, β, c₁, …, c_d)

is exponential: with t̄ the mean of t over the n measurements, the log-likelihood per measurement
ℓ(η) = η·t̄ − log Z(η) is concave, with gradient t̄ − E_q[t] and Hessian −Cov_q[t] (Barndorff-Nielsen
1978, section 9). Newton's method finds its one maximum; expectations over q, log singularities
included, are tanh–sinh sums.

Outside, (a, b) maximise the profile n·[ℓ(η̂(a, b)) − log((b − a)/2)]. With a singular edge the
likelihood grows without bound as the edge meets the outermost measurement: one value would decide
the shape. So the gap between them is at least half the distance from that measurement to its
nearest distinct neighbour, which moves the fitted probabilities by O(1/n) at most, and at most one
range of the data.

The degree d is chosen by the Bayesian information criterion, BIC = (d + 4) log n − 2 log L
(Schwarz 1978): two edges, two exponents, d coefficients.

Evidence
--------
Kolmogorov–Smirnov distance with its p-value: that of a law known beforehand, so it is too large for
a fitted one; a small value refutes the fit, a large one only fails to. KL(data ‖ fit) =
−Ĥ − mean log q, Ĥ being Vasicek's spacing estimate of entropy (1976).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev
from scipy.optimize import minimize
from scipy.stats import differential_entropy, kstest

from refbnn.errors import InputError
from refbnn.noise.device import MIN_EXPONENT, DeviceLaw
from refbnn.noise.gaussian import Gaussian
from refbnn.noise.law import Law
from refbnn.quadrature import EdgeGrid, tanh_sinh

MAX_DEGREE = 6
MIN_DISTINCT = 4  # two edges and two exponents
_GREATEST = 1e300  # a range of two such numbers does not overflow
_LEAST_DISTINCT = 0.9  # share of values: with more ties, spacings show the instrument's steps
REFUTED = 0.01  # KS p-value below which a fit is called refuted

# Beyond, exp(g) and the edge factors cancel each other over more decades than DeviceLaw resolves.
_MAX_EXPONENT = 20.0
_MAX_COEFFICIENT = 15.0
_NEWTON_STEPS = 60


@dataclass(frozen=True)
class NoiseFit:
    """A law fitted to measurements G = location + scale·z, and the evidence for it.

    Parameters
    ----------
    law : DeviceLaw
    location, scale : float
        Mean and standard deviation of the fitted law in the measurements' unit.
    support : (float, float)
        Fitted ends a, b in the measurements' unit.
    n_values : int
    log_likelihood : float
        Of all measurements, in nats.
    bic : dict of int to float
        BIC of each degree tried; the least of those that quadrature resolves was chosen.
    ks_distance, ks_p_value : float
    kl_from_data : float or None
        KL(data ‖ fit) in nats, by Vasicek's estimate; None where many values are tied, since the
        entropy of a density is not seen through such coarse steps.
    """

    law: DeviceLaw
    location: float
    scale: float
    support: tuple[float, float]
    n_values: int
    log_likelihood: float
    bic: dict[int, float]
    ks_distance: float
    ks_p_value: float
    kl_from_data: float | None

    @property
    def laws(self) -> dict[str, Law]:
        """The fitted law and the Gaussian it is compared with, by label."""
        return {"device law": self.law, "Gaussian law": Gaussian()}

    def standardise(self, values: np.ndarray) -> np.ndarray:
        """z = (G − location)/scale."""
        return (values - self.location) / self.scale


def fit(values: np.ndarray, max_degree: int = MAX_DEGREE) -> NoiseFit:
    """Fit a device law to raw measurements.

    Parameters
    ----------
    values : (n,)
        Any order, any unit.
    max_degree : int
        Greatest degree d to try.

    Raises
    ------
    InputError
        If the values are not one row of finite numbers or hold fewer than four distinct ones.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise InputError(
            f"fit: values of shape {values.shape}, {np.sum(~np.isfinite(values))} of them NaN or "
            "infinite; expected one row of finite measurements"
        )
    distinct = np.unique(values)
    if distinct.size < MIN_DISTINCT:
        raise InputError(
            f"fit: {distinct.size} distinct values; expected at least {MIN_DISTINCT} to see a shape"
        )
    if np.abs(distinct).max() > _GREATEST:
        raise InputError("fit: the range of the values overflows; expected a smaller unit")
    fits = [_fit_degree(values, distinct, degree) for degree in range(max_degree + 1)]
    n = values.size
    bic = {d: float((d + 4) * np.log(n)) - 2.0 * fits[d][0] for d in range(max_degree + 1)}
    law, log_likelihood, (a, b) = _best(fits, bic)
    m, s = law.location
    location, scale = a + 0.5 * (b - a) * (1.0 + m), 0.5 * (b - a) * s
    z = (values - location) / scale
    ks = kstest(z, law.cdf)
    seen = distinct.size >= _LEAST_DISTINCT * n
    entropy = float(differential_entropy(z, method="vasicek")) if seen else None
    return NoiseFit(
        law=law,
        location=location,
        scale=scale,
        support=(a, b),
        n_values=n,
        log_likelihood=log_likelihood,
        bic=bic,
        ks_distance=float(ks.statistic),
        ks_p_value=float(ks.pvalue),
        kl_from_data=None if entropy is None else -entropy - float(np.mean(law.log_pdf(z))),
    )


def _best(fits, bic) -> tuple[DeviceLaw, float, tuple[float, float]]:
    """Law, likelihood and support of the least BIC among the laws that quadrature resolves."""
    for degree in sorted(bic, key=bic.__getitem__):
        log_likelihood, support, eta = fits[degree]
        try:
            law = DeviceLaw(eta[0], eta[1], tuple(eta[2:]))
        except InputError:
            continue
        if np.isfinite(log_likelihood):
            return law, log_likelihood, support
    raise InputError(
        "fit: no law of the family comes near these values; expected one spread without far "
        "clusters or steps of rounding"
    )


def _fit_degree(values, distinct, degree):
    """Profile log-likelihood maximised over the support: (log L, (a, b), η)."""
    low, high = distinct[0], distinct[-1]
    span = high - low
    extreme = max(abs(low), abs(high))
    # Neighbours closer than rounding are one value: they say nothing about the edge.
    outermost = np.maximum(distinct[[1, -1]] - distinct[[0, -2]], 8.0 * np.spacing(extreme))
    least, greatest = np.log(np.minimum(0.5 * outermost / span, 1.0)), np.zeros(2)
    grid = tanh_sinh()
    grid_statistics = _statistics(grid.y, grid.log_lower, grid.log_upper, degree)
    start = np.zeros(degree + 2)

    def solve(log_gaps):
        nonlocal start
        a, b = low - span * np.exp(log_gaps[0]), high + span * np.exp(log_gaps[1])
        half = 0.5 * (b - a)
        lower, upper = (values - a) / half, (b - values) / half  # 1 + y and 1 − y
        t_mean = _statistics(lower - 1.0, np.log(lower), np.log(upper), degree).mean(axis=1)
        start, value = _newton(t_mean, grid, grid_statistics, start)
        return float(values.size * (value - np.log(half))), (float(a), float(b)), start

    # The profile may have one maximum with the edges close to the data and one with them far.
    tries = []
    for gap in (1.0 / values.size, 0.2):
        found = minimize(
            lambda log_gaps: -solve(log_gaps)[0],
            np.clip(np.log(gap), least, greatest),
            method="Nelder-Mead",
            bounds=np.stack([least, greatest], axis=1),
            options={"xatol": 1e-3, "fatol": 1e-3},  # nats: far below what BIC weighs
        )
        tries.append(solve(found.x))
    return max(tries, key=lambda result: result[0])


def _statistics(y, log_lower, log_upper, degree) -> np.ndarray:
    """t(y), shape (degree + 2, ...)."""
    polynomials = chebyshev.chebvander(y, degree)[..., 1:]
    return np.concatenate([[log_lower, log_upper], np.moveaxis(polynomials, -1, 0)])


def _newton(t_mean, grid: EdgeGrid, t, eta):
    """Maximise ℓ(η) from the start η: damped Newton, parameters kept within their bounds."""
    least = np.full(eta.size, -_MAX_COEFFICIENT)
    greatest = np.full(eta.size, _MAX_COEFFICIENT)
    least[:2], greatest[:2] = MIN_EXPONENT, _MAX_EXPONENT

    def likelihood(eta):
        log_q = grid.log_weight + eta @ t
        peak = log_q.max()
        mass = np.exp(log_q - peak)
        total = mass.sum()
        return eta @ t_mean - peak - np.log(total), mass / total

    value, mass = likelihood(eta)
    for _ in range(_NEWTON_STEPS):
        expected = t @ mass
        gradient = t_mean - expected
        centred = t - expected[:, np.newaxis]
        covariance = (centred * mass) @ centred.T
        # At a bound, move only along the other parameters.
        free = ~((eta <= least) & (gradient < 0.0) | (eta >= greatest) & (gradient > 0.0))
        step = np.zeros_like(eta)
        step[free] = np.linalg.lstsq(covariance[np.ix_(free, free)], gradient[free])[0]
        gain = gradient @ step
        if gain < 1e-12:  # nats per measurement
            break
        damping = 1.0
        while damping > 1e-6:
            trial = np.clip(eta + damping * step, least, greatest)
            trial_value, trial_mass = likelihood(trial)
            if trial_value > value:
                break
            damping *= 0.5
        else:
            break
        eta, value, mass = trial, trial_value, trial_mass
    return eta, value
