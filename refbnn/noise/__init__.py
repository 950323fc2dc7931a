"""Laws of one weight's noise: shapes, fitting, and the junction that makes measurements."""

from refbnn.noise.bimodal import Bimodal
from refbnn.noise.density import DensityLaw
from refbnn.noise.device import DeviceLaw
from refbnn.noise.fitting import NoiseFit, fit
from refbnn.noise.gaussian import Gaussian
from refbnn.noise.heavy_tailed import HeavyTailed
from refbnn.noise.law import Law, cumulants
from refbnn.noise.measurements import read_measurements

__all__ = [
    "Bimodal",
    "DensityLaw",
    "DeviceLaw",
    "Gaussian",
    "HeavyTailed",
    "Law",
    "NoiseFit",
    "cumulants",
    "fit",
    "read_measurements",
]
