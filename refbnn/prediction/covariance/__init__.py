"""Full-covariance propagation of dense networks, to judge the diagonal one by.

Start with `refbnn.prediction.covariance.propagation`.
"""

from refbnn.prediction.covariance.propagation import propagate
from refbnn.prediction.covariance.rectified import rectified_covariance

__all__ = ["propagate", "rectified_covariance"]
