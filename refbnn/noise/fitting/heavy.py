"""Fit a normal-inverse-Gaussian law, the heavy-tailed one.

Formula
-------
With ζ = 1/ξ² − 1, ρ = χ/ξ, c = √(1 − ρ²), A = ζ/c (see `refbnn.noise.families.heavy_tailed`), the
law of mean m₀ = ρ/c and standard deviation s₀ = 1/(c√ζ) has

    log f(y) = log(A/π) + ζ + ρAy + log K₁(Ar) − log r,   r = √(1 + y²),

and a measurement G of mean M and standard deviation S is y = m₀ + s₀z, z = (G − M)/S, with density
f(y) s₀/S. From (log K₁)′(x) = −K₀/K₁ − 1/x, with k = K₀(Ar)/K₁(Ar) + 1/(Ar):

    L_y = ρA − kAy/r − y/r²,   L_A = 1/A + ρy − kr,
    ∂/∂M = −L_y s₀/S,          ∂/∂log S = −L_y s₀z − 1,
    ∂/∂log ζ = L_A A + ζ − ½(L_y s₀z + 1),
    ∂/∂artanh ρ = c²Ay + ρ L_A A + L_y(1/c + ρ s₀z) + ρ.

Mean and standard deviation as parameters keep the search well conditioned towards the normal law
(ζ → ∞), where kurtosis 3(1 + 4ρ²)/ζ and skewness 3ρ/√ζ vanish and ζ and ρ cease to matter.

Source: Barndorff-Nielsen 1997 (density), Barndorff-Nielsen et al. 1985 (the triangle of ξ and χ).
"""

from __future__ import annotations

import numpy as np
from scipy.special import k0e, k1e

from refbnn.noise.families.heavy_tailed import MAX_SHARE, MAX_STEEPNESS, MIN_STEEPNESS
from refbnn.noise.fitting.estimate import AT_BOUND, FIRST, LAST, Estimate
from refbnn.noise.fitting.placing import heavy_tailed_from_line, place_heavy_tailed
from refbnn.noise.fitting.sample import Sample

_RHO = 0.995  # inside MAX_SHARE, so that a difference may be taken there
_STARTS = ((5.0, 0.0), (1.0, 0.4), (1.0, -0.4), (0.2, 0.0), (20.0, 0.8), (20.0, -0.8))  # ζ, ρ


def fit_heavy_tailed(sample: Sample) -> Estimate:
    """Maximise the likelihood over mean, scale, steepness and asymmetry."""
    from scipy.optimize import minimize

    unit, centre = sample.deviation, sample.mean
    x = (sample.points - centre) / unit
    mean = sample.weights / sample.n
    low, high = (np.log(1.0 / xi**2 - 1.0) for xi in (MAX_STEEPNESS, MIN_STEEPNESS))
    tilt = float(np.arctanh(_RHO))
    # A scale of 0.2 to 5 sample deviations: heavy tails may lie beyond the sample, or not.
    bounds = [(x.min(), x.max()), np.log([0.2, 5.0]), (low, high), (-tilt, tilt)]

    def negative(p):
        log_f, gradient = _density(p, x)
        return -float(mean @ log_f), -(gradient @ mean)

    def search(p, tolerance):
        options = {"ftol": tolerance, "gtol": 1e-8, "maxiter": 500}
        return minimize(negative, p, jac=True, method="L-BFGS-B", bounds=bounds, options=options)

    starts = (np.array([0.0, 0.0, np.log(zeta), np.arctanh(rho)]) for zeta, rho in _STARTS)
    first = min((search(p, FIRST) for p in starts), key=lambda result: result.fun)
    found = search(first.x, LAST)
    log_zeta, tilt_found = found.x[2:]
    m, s, xi, chi = heavy_tailed_from_line(found.x)
    at_bound = {}
    if min(high - log_zeta, log_zeta - low) < AT_BOUND:
        at_bound["steepness"] = f"{xi:.3g}"
    if tilt - abs(tilt_found) < AT_BOUND:
        at_bound["asymmetry"] = f"{_RHO:g} of the steepness"
    scale = unit * s
    # Differences stay within the law's range; a parameter at its bound is not differentiated.
    room = MAX_SHARE * xi - abs(chi)
    inside = min(MAX_STEEPNESS - xi, xi - MIN_STEEPNESS, room)
    return Estimate(
        family="heavy-tailed",
        names=("mean", "standard deviation", "steepness", "asymmetry"),
        theta=np.array([centre + unit * m, scale, xi, chi]),
        units=np.array([scale, scale, inside, room]),
        place=place_heavy_tailed,
        log_likelihood=-sample.n * (float(found.fun) + float(np.log(unit))),
        at_bound=at_bound,
    )


def _density(p, x):
    """Log density (N,) and its gradient (4, N) by M, log S, log ζ and artanh ρ."""
    m, log_s, log_zeta, tilt = p
    zeta, rho = np.exp(log_zeta), np.tanh(tilt)
    c = 1.0 / np.cosh(tilt)
    A, s0 = zeta / c, 1.0 / (c * np.sqrt(zeta))
    s0_z = s0 * (x - m) * np.exp(-log_s)
    y = rho / c + s0_z
    r = np.sqrt(1.0 + y * y)
    bessel = k1e(A * r)
    log_f = np.log(A / np.pi * s0) + zeta + rho * A * y + np.log(bessel) - A * r - np.log(r) - log_s
    k = k0e(A * r) / bessel + 1.0 / (A * r)
    by_y = rho * A - k * A * y / r - y / r**2
    by_A = 1.0 + A * (rho * y - k * r)  # times A
    gradient = np.stack(
        [
            -by_y * s0 * np.exp(-log_s),
            -by_y * s0_z - 1.0,
            by_A + zeta - 0.5 * (by_y * s0_z + 1.0),
            c**2 * A * y + rho * by_A + by_y * (1.0 / c + rho * s0_z) + rho,
        ]
    )
    return log_f, gradient
