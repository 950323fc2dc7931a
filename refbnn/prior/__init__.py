"""Prior distributions of one weight, one a file; weights are independent under a prior.

Start with `prior` for the interface and `gaussian` for the simplest of them.
"""

from refbnn.prior.device import DevicePrior
from refbnn.prior.gaussian import GaussianPrior
from refbnn.prior.laplace import LaplacePrior
from refbnn.prior.mixture import ScaleMixturePrior
from refbnn.prior.prior import Prior
from refbnn.prior.student import StudentTPrior

__all__ = [
    "DevicePrior",
    "GaussianPrior",
    "LaplacePrior",
    "Prior",
    "ScaleMixturePrior",
    "StudentTPrior",
]
