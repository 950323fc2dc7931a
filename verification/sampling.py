"""Samples of a law against its moments and its distribution function."""

from __future__ import annotations

import numpy as np
from scipy.stats import kstest

from refbnn.noise import Law
from verification.check import FALSE_ALARM, Check, against_monte_carlo

_ORDER = 4


def check(label: str, law: Law, n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Moments E[z], …, E[z⁴] of samples against the Gauss rule; and a Kolmogorov–Smirnov test.

    The standard error of a mean of z^k is √((E[z^2k] − E[z^k]²)/n), with E from the Gauss rule.
    """
    z = law.sample(rng, (n_samples,))
    rule = law.quadrature(_ORDER + 1)  # exact to degree 9 ≥ 2·4
    moments = [rule.expect(rule.nodes**k) for k in range(2 * _ORDER + 1)]
    orders = range(1, _ORDER + 1)
    ks = kstest(law.cdf(z), "uniform")
    return [
        against_monte_carlo(
            f"sampling: moments ({label})",
            "E[z^k], k = 1 to 4, of samples against the Gauss rule",
            np.array([moments[k] for k in orders]),
            np.array([np.mean(z**k) for k in orders]),
            np.sqrt([(moments[2 * k] - moments[k] ** 2) / n_samples for k in orders]),
            n_samples,
        ),
        Check(
            name=f"sampling: distribution ({label})",
            method="Kolmogorov–Smirnov test of Q(samples) against the uniform law",
            statistic=float(-np.log10(max(ks.pvalue, 1e-300))),
            limit=-float(np.log10(FALSE_ALARM)),
            unit="−log₁₀ of the p-value",
            n_compared=1,
            n_samples=n_samples,
        ),
    ]
