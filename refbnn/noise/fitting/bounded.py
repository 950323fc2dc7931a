"""Fit a device law: a bounded support with free edges.

Formula
-------
For a support [a, b], y = (2G − a − b)/(b − a) maps measurements G to [−1, 1], where the parameters
η = (α, β, c₁, …, c_d) have the greatest log-likelihood per measurement ℓ(η̂) at a unique η̂
(`refbnn.noise.fitting.exponential`).

The support maximises the profile p(a, b) = ℓ(η̂(a, b)) − log h, h = (b − a)/2. At η̂ the gradient
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
n^{−1/2} of regular parameters (as n^{−1/(α + 1)}; Smith 1985). For the others' errors it counts as
known.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import chebyshev

from refbnn.errors import InputError
from refbnn.noise.fitting import exponential
from refbnn.noise.fitting.estimate import AT_BOUND, Estimate
from refbnn.noise.fitting.placing import place_device
from refbnn.noise.fitting.sample import Sample
from refbnn.numerics.quadrature import tanh_sinh

MAX_DEGREE = 6
EDGES = ("lower edge", "upper edge")

_REGULAR = 1.0  # exponents above: finite information on the edge
_FIRST, _LAST = 1e-8, 1e-12  # nats per value: to compare starts, and to finish the best


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
                names=(*EDGES, *exponential.names(eta.size)),
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


class _Profile:
    """p(a, b) and its gradient by the logarithms of both gaps, in units of the data's range."""

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
        t_mean = exponential.statistics(y, np.log(lower), np.log(upper), degree) @ share
        eta, value = exponential.most_likely(t_mean, self.grid, t_grid, eta)
        alpha, beta = eta[:2]
        slope = share * chebyshev.chebval(y, chebyshev.chebder([0.0, *eta[2:]]))
        common = 1.0 + alpha + beta
        by_a = (common - slope @ upper) / width - alpha * (share @ (1.0 / above))
        by_b = -(common + slope @ lower) / width + beta * (share @ (1.0 / below))
        gradient = np.array([-by_a * (self.low - a), by_b * (b - self.high)])
        return value - np.log(0.5 * width), gradient, eta


def _best_support(profile: _Profile, degree: int, previous):
    """Maximise the profile over the support: (log L, log gaps, η)."""
    from scipy.optimize import minimize

    t_grid = exponential.statistics(
        profile.grid.y, profile.grid.log_lower, profile.grid.log_upper, degree
    )
    eta = np.zeros(degree + 2)

    def negative(log_gaps):
        nonlocal eta
        value, gradient, eta = profile(log_gaps, t_grid, eta)
        return -value, -gradient

    near, far = 1.0 / profile.sample.n, 0.2
    starts = [np.log(gaps) for gaps in ((near, near), (far, far), (near, far), (far, near))]
    if previous is not None:
        starts.append(previous)

    def search(start, tolerance):
        nonlocal eta
        eta = np.zeros(degree + 2)
        return minimize(
            negative,
            np.clip(start, profile.least, profile.most),
            jac=True,
            method="L-BFGS-B",
            bounds=np.stack([profile.least, profile.most], axis=1),
            options={"ftol": tolerance, "gtol": 1e-7, "maxiter": 100},
        )

    first = min((search(start, _FIRST) for start in starts), key=lambda result: result.fun)
    found = search(first.x, _LAST)
    value, _, eta = profile(found.x, t_grid, eta)
    return float(profile.sample.n * value), found.x, eta


def _at_bound(profile: _Profile, log_gaps, eta) -> dict[str, str]:
    """Parameters that either search left at a bound, and which."""
    at_bound = {}
    for i, name in enumerate(EDGES):
        if profile.most[i] - log_gaps[i] < AT_BOUND:
            at_bound[name] = "physical" if profile.physical[i] else "one range from the values"
        elif log_gaps[i] - profile.least[i] < AT_BOUND:
            at_bound[name] = "half a spacing from the outermost value"
    least, most = exponential.limits(eta.size)
    for i, name in enumerate(exponential.names(eta.size)):
        if min(eta[i] - least[i], most[i] - eta[i]) < AT_BOUND:
            at_bound[name] = f"{eta[i]:g}"
    return at_bound
