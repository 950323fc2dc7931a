"""Fit a device law: a bounded support with free edges.

Formula
-------
For a support [a, b], y = (2G − a − b)/(b − a) maps measurements G to [−1, 1], where the family

    log q(y) = η·t(y) − log Z(η),   t = (log(1 + y), log(1 − y), T₁(y), …, T_d(y)),
                                    η = (α, β, c₁, …, c_d)

is exponential: with t̄ the mean of t over the measurements, the log-likelihood per measurement
ℓ(η) = η·t̄ − log Z(η) is concave, with gradient t̄ − E_q[t] and Hessian −Cov_q[t] (Barndorff-Nielsen
1978, section 9). Newton's method finds its one maximum; expectations over q, log singularities
included, are tanh–sinh sums.

Outside, (a, b) maximise the profile p(a, b) = ℓ(η̂(a, b)) − log h, h = (b − a)/2. At η̂ the gradient
by η vanishes (or η is held at a bound), so p has the partial derivatives at fixed η, with
l = (G − a)/h and u = (b − G)/h:

    ∂p/∂a = (1 + α + β)/(b − a) − mean[α/(G − a) + g′(y) u/(b − a)],
    ∂p/∂b = −(1 + α + β)/(b − a) + mean[β/(b − G) − g′(y) l/(b − a)].

With a singular edge the likelihood grows without bound as the edge meets the outermost
measurement: one value would decide the shape. So the gap between them is at least half the
distance from that measurement to its nearest distinct neighbour, which moves the fitted
probabilities by O(1/n) at most. It is at most one range of the data, and ends at the given bounds.
The profile has several maxima, with either edge close or far: L-BFGS starts from all four
combinations and from the support of the degree below.

Edges with exponents of at most 1 are not regular: the density's derivative by the edge is not
square-integrable, the information is infinite, and the edge is found faster than at the rate
n^{−1/2} of regular parameters (as n^{−1/(α + 1)}; Smith 1985). Beside the others it counts as
known.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import chebyshev
from scipy.optimize import minimize

from refbnn.errors import InputError
from refbnn.noise.device import MIN_EXPONENT, DeviceLaw
from refbnn.noise.fitting.estimate import Estimate, Placed
from refbnn.noise.fitting.sample import Sample
from refbnn.quadrature import EdgeGrid, tanh_sinh

MAX_DEGREE = 6

EDGES = ("lower edge", "upper edge")

# Beyond, exp(g) and the edge factors cancel each other over more decades than DeviceLaw resolves.
_MAX_EXPONENT = 20.0
_MAX_COEFFICIENT = 15.0
_REGULAR = 1.0  # exponents above: finite information on the edge
_NEWTON_STEPS = 100
_MOST_DAMPING = 1e12
_CONVERGED = 1e-14  # nats per value: rounding
_TOLERANCE = 1e-6  # of a bound: both searches end on it exactly
_SEARCH = {"ftol": 1e-11, "gtol": 1e-7, "maxiter": 100}  # nats per value


def fit_device(
    sample: Sample, bounds: tuple[float, float], max_degree: int = MAX_DEGREE
) -> list[Estimate]:
    """Maximise the likelihood over support, exponents and coefficients, for d = 0 … max_degree.

    Degrees whose law quadrature does not resolve are left out.
    """
    profile = _Profile(sample, bounds)
    estimates = []
    previous = None
    for degree in range(max_degree + 1):
        value, log_gaps, eta = _best_support(profile, degree, previous)
        previous = log_gaps
        a, b = profile.support(log_gaps)
        theta = np.array([a, b, *eta])
        try:
            scale = place_device(theta).scale
        except InputError:
            continue
        near = np.abs(np.array([a, b]) - sample.values[[0, -1]])
        estimates.append(
            Estimate(
                family=f"device, degree {degree}",
                names=(*EDGES, *_names(eta.size)),
                theta=theta,
                # An edge moves by less than its distance from the data; α stays above −1.
                units=np.array([*np.minimum(near, scale), *(1.0 + eta[:2]), *np.ones(degree)]),
                place=place_device,
                log_likelihood=value,
                at_bound=_at_bound(profile, log_gaps, eta),
                irregular=tuple(EDGES[i] for i in range(2) if eta[i] <= _REGULAR),
            )
        )
    return estimates


def place_device(theta: np.ndarray) -> Placed:
    """(a, b, α, β, c₁, …) -> the standardised law, its location and scale."""
    a, b = float(theta[0]), float(theta[1])
    law = DeviceLaw(theta[2], theta[3], tuple(theta[4:]))
    m, s = law.location
    half = 0.5 * (b - a)
    return Placed(law, a + half * (1.0 + m), half * s)


def device_to_line(theta: np.ndarray) -> np.ndarray:
    """θ as numbers of the whole line: (a, log(b − a), log(1 + α), log(1 + β), c)."""
    a, b = theta[:2]
    return np.array([a, np.log(b - a), *np.log1p(theta[2:4]), *theta[4:]])


def device_from_line(p: np.ndarray) -> np.ndarray:
    """Inverse of `device_to_line`."""
    return np.array([p[0], p[0] + np.exp(p[1]), *np.expm1(p[2:4]), *p[4:]])


class _Profile:
    """p(a, b) and its gradient, by the logarithms of both gaps in ranges of the data."""

    def __init__(self, sample: Sample, bounds: tuple[float, float]):
        self.sample = sample
        self.low, self.high = sample.values[0], sample.values[-1]
        self.span = self.high - self.low
        distinct = sample.distinct
        # Neighbours closer than rounding are one value: they say nothing about the edge.
        rounding = 8.0 * np.spacing(np.abs(distinct[[0, -1]]).max())
        outermost = np.maximum(distinct[[1, -1]] - distinct[[0, -2]], rounding)
        room = np.array([self.low - bounds[0], bounds[1] - self.high])
        self.most = np.log(np.minimum(room / self.span, 1.0))
        self.physical = room < self.span
        self.least = np.minimum(np.log(0.5 * outermost / self.span), self.most)
        self.grid = tanh_sinh()

    def support(self, log_gaps) -> tuple[float, float]:
        gaps = self.span * np.exp(log_gaps)
        return float(self.low - gaps[0]), float(self.high + gaps[1])

    def __call__(self, log_gaps, t_grid, eta):
        """Log-likelihood per value, its gradient by log_gaps, and η̂ found from the start eta."""
        degree = eta.size - 2
        a, b = self.support(log_gaps)
        width = b - a
        x, share = self.sample.points, self.sample.weights / self.sample.n
        above, below = x - a, b - x
        lower, upper = 2.0 * above / width, 2.0 * below / width  # 1 + y and 1 − y
        y = lower - 1.0
        t_mean = _statistics(y, np.log(lower), np.log(upper), degree) @ share
        eta, value = _newton(t_mean, self.grid, t_grid, eta)
        alpha, beta = eta[:2]
        slope = share * chebyshev.chebval(y, chebyshev.chebder([0.0, *eta[2:]]))
        common = 1.0 + alpha + beta
        by_a = (common - slope @ upper) / width - alpha * (share @ (1.0 / above))
        by_b = -(common + slope @ lower) / width + beta * (share @ (1.0 / below))
        gradient = np.array([-by_a * (self.low - a), by_b * (b - self.high)])
        return value - np.log(0.5 * width), gradient, eta


def _best_support(profile: _Profile, degree: int, previous):
    """Profile maximised over the support: (log L, log gaps, η)."""
    t_grid = _statistics(profile.grid.y, profile.grid.log_lower, profile.grid.log_upper, degree)
    eta = np.zeros(degree + 2)

    def negative(log_gaps):
        nonlocal eta
        value, gradient, eta = profile(log_gaps, t_grid, eta)
        return -value, -gradient

    near, far = 1.0 / profile.sample.n, 0.2
    starts = [np.log(gaps) for gaps in ((near, near), (far, far), (near, far), (far, near))]
    if previous is not None:
        starts.append(previous)
    best = None
    for start in starts:
        eta = np.zeros(degree + 2)
        found = minimize(
            negative,
            np.clip(start, profile.least, profile.most),
            jac=True,
            method="L-BFGS-B",
            bounds=np.stack([profile.least, profile.most], axis=1),
            options=_SEARCH,
        )
        if best is None or found.fun < best.fun:
            best = found
    value, _, eta = profile(best.x, t_grid, eta)
    return float(profile.sample.n * value), best.x, eta


def _at_bound(profile: _Profile, log_gaps, eta) -> dict[str, str]:
    """Parameters that either search left at a bound."""
    at_bound = {}
    for i, name in enumerate(EDGES):
        if profile.most[i] - log_gaps[i] < _TOLERANCE:
            at_bound[name] = "physical" if profile.physical[i] else "one range from the values"
        elif log_gaps[i] - profile.least[i] < _TOLERANCE:
            at_bound[name] = "half a spacing from the outermost value"
    least, most = _limits(eta.size)
    for i, name in enumerate(_names(eta.size)):
        if min(eta[i] - least[i], most[i] - eta[i]) < _TOLERANCE:
            at_bound[name] = f"{eta[i]:g}"
    return at_bound


def _names(size: int) -> tuple[str, ...]:
    """Of η."""
    return ("alpha", "beta", *(f"c{k}" for k in range(1, size - 1)))


def _limits(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Of η."""
    least, most = np.full(size, -_MAX_COEFFICIENT), np.full(size, _MAX_COEFFICIENT)
    least[:2], most[:2] = MIN_EXPONENT, _MAX_EXPONENT
    return least, most


def _statistics(y, log_lower, log_upper, degree) -> np.ndarray:
    """t(y), shape (degree + 2, ...)."""
    polynomials = chebyshev.chebvander(y, degree)[..., 1:]
    return np.concatenate([[log_lower, log_upper], np.moveaxis(polynomials, -1, 0)])


def _newton(t_mean, grid: EdgeGrid, t, eta):
    """Maximise ℓ(η) within its bounds from the start η.

    Newton's steps with Marquardt's damping (1963): where the quadratic model fails, the covariance
    gains a multiple of its diagonal, down to a short step along the scaled gradient, which climbs
    even after clipping at the bounds.
    """
    least, greatest = _limits(eta.size)

    def likelihood(eta):
        log_q = grid.log_weight + eta @ t
        peak = log_q.max()
        mass = np.exp(log_q - peak)
        total = mass.sum()
        return eta @ t_mean - peak - np.log(total), mass / total

    value, mass = likelihood(eta)
    damping = 0.0
    for _ in range(_NEWTON_STEPS):
        expected = t @ mass
        gradient = t_mean - expected
        centred = t - expected[:, np.newaxis]
        covariance = (centred * mass) @ centred.T
        # At a bound, move only along the other parameters.
        free = ~((eta <= least) & (gradient < 0.0) | (eta >= greatest) & (gradient > 0.0))
        hessian, slope = covariance[np.ix_(free, free)], gradient[free]
        while damping < _MOST_DAMPING:
            step = np.zeros_like(eta)
            step[free] = np.linalg.lstsq(hessian + damping * np.diag(np.diag(hessian)), slope)[0]
            if gradient @ step < _CONVERGED:
                return eta, value
            trial = np.clip(eta + step, least, greatest)
            trial_value, trial_mass = likelihood(trial)
            if trial_value > value:
                break
            damping = max(10.0 * damping, 1e-3)
        else:
            return eta, value
        gain = trial_value - value
        eta, value, mass = trial, trial_value, trial_mass
        damping = 0.0 if damping < 1e-2 else 0.1 * damping
        if gain < _CONVERGED:
            break
    return eta, value
