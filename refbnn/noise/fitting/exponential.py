"""The exponential family on [−1, 1] behind device laws, fitted by Newton's method.

Formula
-------
    log q(y) = η·t(y) − log Z(η),   t = (log(1 + y), log(1 − y), T₁(y), …, T_d(y)),
                                    η = (α, β, c₁, …, c_d).

With t̄ the mean of t over the measurements, the log-likelihood per measurement
ℓ(η) = η·t̄ − log Z(η) is concave, with gradient t̄ − E_q[t] and Hessian −Cov_q[t] (Barndorff-Nielsen
1978, section 9). Expectations over q, log singularities included, are tanh–sinh sums.

Newton's method finds the one maximum within −0.95 ≤ α, β ≤ 20 and |c| ≤ 15. Beyond these bounds,
exp(g) and the edge factors cancel each other over more decades than DeviceLaw resolves.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import chebyshev

from refbnn.noise.families.device import MIN_EXPONENT
from refbnn.numerics.quadrature import EdgeGrid

_MAX_EXPONENT = 20.0
_MAX_COEFFICIENT = 15.0
_STEPS = 100
_MOST_DAMPING = 1e12
_RIDGE = 1e-13  # keeps a singular covariance solvable; a poor step only meets more damping
_CONVERGED = 1e-12  # nats per value


def names(size: int) -> tuple[str, ...]:
    """Names of η, which has `size` entries."""
    return ("alpha", "beta", *(f"c{k}" for k in range(1, size - 1)))


def limits(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest η."""
    least, most = np.full(size, -_MAX_COEFFICIENT), np.full(size, _MAX_COEFFICIENT)
    least[:2], most[:2] = MIN_EXPONENT, _MAX_EXPONENT
    return least, most


def statistics(y, log_lower, log_upper, degree) -> np.ndarray:
    """t(y), shape (degree + 2, ...)."""
    polynomials = chebyshev.chebvander(y, degree)[..., 1:]
    return np.concatenate([[log_lower, log_upper], np.moveaxis(polynomials, -1, 0)])


def most_likely(t_mean, grid: EdgeGrid, t, eta):
    """Maximise ℓ(η) within its bounds from the start η.

    Newton's steps with Marquardt's damping (1963): where the quadratic model fails, the covariance
    gains a multiple of its diagonal, down to a short step along the scaled gradient, which climbs
    even after clipping at the bounds.
    """
    least, greatest = limits(eta.size)

    def likelihood(eta):
        log_q = grid.log_weight + eta @ t
        peak = log_q.max()
        mass = np.exp(log_q - peak)
        total = mass.sum()
        return eta @ t_mean - peak - np.log(total), mass / total

    value, mass = likelihood(eta)
    damping = 0.0
    for _ in range(_STEPS):
        expected = t @ mass
        gradient = t_mean - expected
        centred = t - expected[:, np.newaxis]
        covariance = (centred * mass) @ centred.T
        # At a bound, move only along the other parameters.
        free = ~((eta <= least) & (gradient < 0.0) | (eta >= greatest) & (gradient > 0.0))
        hessian, slope = covariance[np.ix_(free, free)], gradient[free]
        while damping < _MOST_DAMPING:
            damped = hessian.copy()
            damped.flat[:: len(damped) + 1] *= 1.0 + damping + _RIDGE
            step = np.zeros_like(eta)
            step[free] = np.linalg.solve(damped, slope)
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
