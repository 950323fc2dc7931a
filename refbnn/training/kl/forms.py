"""Log-densities of priors, c₀ + c₂θ² + f, in the form that `refbnn.training.kl.loops` takes."""

from __future__ import annotations

import numpy as np
from numpy.polynomial import chebyshev

from refbnn.prior import DevicePrior, ScaleMixturePrior, StudentTPrior
from refbnn.training.kl.loops import DEVICE, MIXTURE, STUDENT, Form

PanelPrior = StudentTPrior | ScaleMixturePrior | DevicePrior  # whose log p has singularities


def loop_form(prior: PanelPrior) -> Form:
    """Compute c₀, c₂ and the parameters of f for one prior."""
    match prior:
        case StudentTPrior():
            return _student(prior)
        case ScaleMixturePrior():
            return _mixture(prior)
        case DevicePrior():
            return _device(prior)


def _student(prior: StudentTPrior) -> Form:
    a = np.sqrt(prior.dof) * prior.scale
    return Form(STUDENT, (prior.log_peak, 0.0), (a, 0.5 * (prior.dof + 1.0)))


def _mixture(prior: ScaleMixturePrior) -> Form:
    """The first singularity is x + iy, x and y > 0: x² − y² = 2L/D and xy = π/D."""
    real, imaginary = 2.0 * prior.log_ratio / prior.curvature, np.pi / prior.curvature
    larger = np.sqrt(0.5 * (abs(real) + np.hypot(real, 2.0 * imaginary)))
    x, y = larger, imaginary / larger
    if real < 0.0:
        x, y = y, x
    s_w = prior.broad.scale
    c_0 = prior.log_share - np.log(s_w * np.sqrt(2.0 * np.pi))
    return Form(MIXTURE, (c_0, -0.5 / s_w**2), (prior.log_ratio, prior.curvature, x, y))


def _device(prior: DevicePrior) -> Form:
    law = prior.law
    m, s = law.location  # of y = m + s·(standardised value)
    # At y = 0, where log q₀ is the constant plus g(0).
    g = np.array([0.0, *law.coefficients])
    constant = float(law.log_pdf(np.array(-m / s))) - float(chebyshev.chebval(0.0, g))
    return Form(
        DEVICE,
        (constant - np.log(prior.scale), 0.0),
        (*prior.support, s / prior.scale, law.alpha, law.beta, *g),
        degree=len(law.coefficients),
    )
