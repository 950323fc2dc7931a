"""Laws of one weight's noise: shapes, fitting, and the junction that makes measurements."""

from refbnn.noise.device import DeviceLaw
from refbnn.noise.fitting import NoiseFit, fit
from refbnn.noise.gaussian import Gaussian
from refbnn.noise.law import Law, cumulants
from refbnn.noise.measurements import read_measurements

__all__ = ["DeviceLaw", "Gaussian", "Law", "NoiseFit", "cumulants", "fit", "read_measurements"]
