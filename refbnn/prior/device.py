"""The device-shaped prior: a prior over the weights that a device can hold.

θ = m + s·z with z from a device law q₀ (`refbnn.noise.families.device`), on m + s·(support of q₀).
A posterior weight that can leave this interval has an infinite KL divergence from the prior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refbnn.errors import InputError
from refbnn.noise.families.device import DeviceLaw
from refbnn.numerics.arguments import real_number, shown
from refbnn.prior.prior import make_positive

MAX_DEGREE = 31  # greatest degree: the longest rule of KL, 16 nodes, is exact up to here


@dataclass(frozen=True)
class DevicePrior:
    """The law of m + s·z: log p(θ) = log q₀((θ − m)/s) − log s, −∞ outside the support.

    Parameters
    ----------
    law : DeviceLaw
    mean, scale : float
        m and s > 0, mean and standard deviation of the prior.

    Raises
    ------
    InputError
        If the mean is not finite, the scale not positive, or the law's polynomial of a higher
        degree than the Gauss rules are exact for.

    Examples
    --------
    >>> from refbnn.noise import DeviceLaw
    >>> prior = DevicePrior(DeviceLaw(0.0, 0.0), mean=1.0, scale=3.0**-0.5)  # uniform on [0, 2]
    >>> np.round(prior.support, 6) + 0.0, np.round(prior.log_pdf(np.array([0.5, 3.0])), 6)
    (array([0., 2.]), array([-0.693147,      -inf]))
    """

    law: DeviceLaw
    mean: float = 0.0
    scale: float = 1.0

    def __post_init__(self):
        if not isinstance(self.law, DeviceLaw):
            raise InputError(f"DevicePrior: law is {shown(self.law)}; expected a DeviceLaw")
        object.__setattr__(self, "mean", real_number(self.mean, "DevicePrior: mean"))
        make_positive(self, "scale")
        if len(self.law.coefficients) > MAX_DEGREE:
            raise InputError(
                f"DevicePrior: a law of degree {len(self.law.coefficients)}; "
                f"expected at most {MAX_DEGREE}"
            )

    @property
    def support(self) -> tuple[float, float]:
        """Least and greatest weight."""
        low, high = self.law.support
        return (self.mean + self.scale * low, self.mean + self.scale * high)

    def log_pdf(self, theta: np.ndarray) -> np.ndarray:
        """Log p(θ)."""
        return self.law.log_pdf((theta - self.mean) / self.scale) - np.log(self.scale)

    def score(self, theta: np.ndarray) -> np.ndarray:
        """(log q₀)′((θ − m)/s)/s, inside the support."""
        return self.law.score((theta - self.mean) / self.scale) / self.scale
