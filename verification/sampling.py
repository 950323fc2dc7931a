"""Samples of a law, compared with its moments and its distribution function.

Hypothesis: `law.sample` draws independent values of the law. Two tests of n values z:

* Moments E[z^k], k = 1 … 4, by sample means. Error model: normal with standard error
  √((E[z^2k] − E[z^k]²)/n), E by a Gauss rule of the law. Moments whose mean is not yet normal after
  n samples, such as those of a heavy-tailed law, are left out.
* Kolmogorov–Smirnov's test of Q(z) against the uniform law, at the level of `verification.check`.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import kstest

from refbnn.noise import Law
from verification.check import FALSE_ALARM, Check, against_monte_carlo

_ORDER = 4
# Largest skewness of a mean (that of one term over √n) for which it counts as normal.
_MOST_SKEWED = 0.05


def check(label: str, law: Law, n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check moments of samples and their distribution."""
    z = law.sample(rng, (n_samples,))
    rule = law.quadrature(3 * _ORDER // 2 + 1)  # exact to degree 13 ≥ 3·4
    m = [rule.expect(rule.nodes**k) for k in range(3 * _ORDER + 1)]
    variance = {k: m[2 * k] - m[k] ** 2 for k in range(1, _ORDER + 1)}
    third = {k: m[3 * k] - 3.0 * m[2 * k] * m[k] + 2.0 * m[k] ** 3 for k in variance}
    # k = 1 always stays: its skewness is the law's, at most 100.
    orders = [
        k
        for k in variance
        if k == 1 or abs(third[k]) <= _MOST_SKEWED * np.sqrt(n_samples) * variance[k] ** 1.5
    ]
    ks = kstest(law.cdf(z), "uniform")
    moments = against_monte_carlo(
        f"sampling: moments ({label})",
        f"E[z^k], k = {', '.join(map(str, orders))}, of samples against the Gauss rule",
        np.array([m[k] for k in orders]),
        np.array([np.mean(z**k) for k in orders]),
        np.sqrt([variance[k] / n_samples for k in orders]),
        n_samples,
    )
    return [
        moments,
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
