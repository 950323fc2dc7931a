"""Full-covariance propagation of dense networks: the yardstick of the diagonal one."""

from refbnn.prediction.covariance.prediction import from_joint
from refbnn.prediction.covariance.propagation import JointMoments, propagate
from refbnn.prediction.covariance.rectified import rectified_covariance

__all__ = ["JointMoments", "from_joint", "propagate", "rectified_covariance"]
