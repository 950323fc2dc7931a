"""Ratio of sampled to propagated variance: how much a method that has no factor leaves out.

Linearised propagation and full covariances use the variances of the weights as they are; no factor
makes up for what they drop. Where `refbnn.uncertainty.variance_factor` chooses one, this measures
whether one would be needed.

Formula
-------
V_n is the mean over outputs of the variance of one example's outputs in S sampled passes (unbiased,
S − 1 below), U_n the propagated one, r = Σ_n V_n/Σ_n U_n. By the delta method for a ratio of means

    se_examples(r) = sd(V_n − r U_n)/(√N mean U_n),

over the choice of examples for the same passes; over the passes a jackknife of ten groups,
se² = (9/10) Σ_g (V̄_−g − mean V̄_−g)², over mean U_n. The two are independent. A ratio of 1 within
two standard errors says that the passes show no difference in the sums.

The sums are led by the examples and outputs of large variance. Beside r stands the median of the
ratios of all outputs of all examples, which counts each the same. The ratio of a Gaussian output
has a standard deviation of √(2/99) = 14 % from the passes, and a median of 0.993.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refbnn.errors import InputError
from refbnn.network.network import Network
from refbnn.numerics.random.streams import stream
from refbnn.prediction.predict import joint_moments

PASSES = 100
_GROUPS = 10


@dataclass(frozen=True)
class VarianceRatio:
    """Sampled over propagated variance of the outputs, and its standard errors.

    Parameters
    ----------
    ratio : float
        r, by sums.
    error_examples, error_passes : float
        Its standard errors.
    median : float
        Median of the ratios of every output of every example whose propagated variance is not 0.
    """

    ratio: float
    error_examples: float
    error_passes: float
    median: float

    @property
    def standard_error(self) -> float:
        """Standard error from both sources."""
        return float(np.hypot(self.error_examples, self.error_passes))


def variance_ratio(net: Network, x: np.ndarray, *, method: str, seed: int = 0) -> VarianceRatio:
    """Measure the ratio on inputs (N, ...), N ≥ 2, with 100 sampled passes.

    Parameters
    ----------
    net : Network
    x : (N, ...)
    method : {"linearised", "full"}
    seed : int
        Seed of the passes.

    Raises
    ------
    InputError
        If `predict` would raise it, there are fewer than two inputs, or all variances are 0.

    Examples
    --------
    >>> from refbnn import Network
    >>> from refbnn.layers import Dense
    >>> found = variance_ratio(Network([Dense(4, 3)]), np.ones((5, 4)), method="linearised")
    >>> abs(found.ratio - 1.0) < 4.0 * found.standard_error
    True
    """
    if len(x) < 2:
        many = "example" if len(x) == 1 else "examples"
        raise InputError(f"variance ratio: {len(x)} {many}; expected at least 2")
    propagated_of = joint_moments(net, x, method).var
    passes = net.sample(x, PASSES, stream(seed, "predict"))
    sampled_of = passes.var(axis=0, ddof=1)
    propagated, sampled = propagated_of.mean(axis=1), sampled_of.mean(axis=1)
    scale = propagated.mean()
    if not (scale > 0.0 and np.isfinite(sampled).all()):
        raise InputError(
            f"variance ratio: the mean variance is {scale:g} propagated, {sampled.mean():g} "
            "sampled; expected finite numbers above 0"
        )
    ratio = float(sampled.mean() / scale)
    examples = np.std(sampled - ratio * propagated, ddof=1) / np.sqrt(len(x)) / scale
    left = [
        np.delete(passes, group, axis=0).var(axis=0, ddof=1).mean()
        for group in np.split(np.arange(PASSES), _GROUPS)
    ]
    jackknife = np.sqrt((_GROUPS - 1) * np.var(left)) / scale
    random = propagated_of > 0.0
    median = np.median(sampled_of[random] / propagated_of[random])
    return VarianceRatio(ratio, float(examples), float(jackknife), float(median))
