"""The scale-mixture prior: a broad and a narrow Gaussian around zero.

    p(θ) = π N(θ; 0, s₁²) + (1 − π) N(θ; 0, s₂²).

With w the broader component and n the narrower, π_w and π_n their shares, s_w > s_n,

    p = π_w N(θ; 0, s_w²)·(1 + e^ℓ),      ℓ(θ) = log(π_n s_w/(π_w s_n)) − ½ D θ²,
    D = 1/s_n² − 1/s_w²,

so log p is a parabola plus the softplus log(1 + e^ℓ), which matters near zero only.

Source: Blundell et al. 2015 (arXiv 1505.05424), section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from refbnn.errors import InputError
from refbnn.prior.gaussian import GaussianPrior
from refbnn.prior.prior import make_positive

_MAX_LOG_RATIO = 300.0  # log ratio of the peaks' heights; e to this is far from overflow


@dataclass(frozen=True)
class ScaleMixturePrior:
    """π N(0, s₁²) + (1 − π) N(0, s₂²).

    Parameters
    ----------
    share : float
        π, above 0 and below 1.
    scale_1, scale_2 : float
        s₁ ≠ s₂, in either order.

    Raises
    ------
    InputError
        If a scale is not positive, both are equal, the share is not between 0 and 1, or one peak is
        negligible against the other.

    Examples
    --------
    >>> prior = ScaleMixturePrior(share=0.25, scale_1=1.0, scale_2=0.1)
    >>> np.round(prior.log_pdf(np.array([0.0, 1.0])), 6)
    array([ 1.128754, -2.805233])
    """

    share: float = 0.5
    scale_1: float = 1.0
    scale_2: float = 0.1

    def __post_init__(self):
        make_positive(self, "share", "scale_1", "scale_2")
        if not self.share < 1.0:
            raise InputError(
                f"ScaleMixturePrior: share is {self.share}; expected between 0 and 1, both excluded"
            )
        if self.curvature == 0.0:
            raise InputError(
                f"ScaleMixturePrior: both scales are {self.scale_1}; expected two different ones "
                "(one is a GaussianPrior)"
            )
        if not abs(self.log_ratio) < _MAX_LOG_RATIO:
            raise InputError(
                f"ScaleMixturePrior: one peak is e^{abs(self.log_ratio):.0f} times as high as the "
                f"other; expected less than e^{_MAX_LOG_RATIO:.0f}"
            )

    @property
    def broad(self) -> GaussianPrior:
        """N(0, s_w²)."""
        return GaussianPrior(max(self.scale_1, self.scale_2))

    @property
    def log_share(self) -> float:
        """Log π_w."""
        return float(np.log(self._shares[0]))

    @property
    def log_ratio(self) -> float:
        """ℓ(0) = log(π_n s_w/(π_w s_n)), log ratio of the peaks' heights, narrow to broad."""
        broad, narrow = self._shares
        scales = abs(np.log(self.scale_1 / self.scale_2))
        return float(np.log(narrow / broad) + scales)

    @property
    def curvature(self) -> float:
        """D = 1/s_n² − 1/s_w²."""
        a, b = 1.0 / self.scale_1, 1.0 / self.scale_2
        return abs(b - a) * (b + a)

    def log_pdf(self, theta: np.ndarray) -> np.ndarray:
        """Log p(θ) = log π_w + log N(θ; 0, s_w²) + log(1 + e^ℓ)."""
        softplus = np.logaddexp(0.0, self._ell(theta))
        return self.log_share + self.broad.log_pdf(theta) + softplus

    def score(self, theta: np.ndarray) -> np.ndarray:
        """−θ/s_w² − Dθ/(1 + e^−ℓ)."""
        return self.broad.score(theta) - self.curvature * theta * expit(self._ell(theta))

    @property
    def _shares(self) -> tuple[float, float]:
        """π_w and π_n."""
        shares = (self.share, 1.0 - self.share)
        return shares if self.scale_1 > self.scale_2 else shares[::-1]

    def _ell(self, theta):
        return self.log_ratio - 0.5 * self.curvature * np.square(theta)
