"""Laws of one weight's noise: families, fits to measurements, drift in time, files.

Start with `law` for the interface and `families` for the laws; `fitting` fits them to measurements,
and `junction` simulates a device to measure.
"""

from refbnn.noise.drift import DriftingLaw, fit_drift
from refbnn.noise.families.bimodal import Bimodal
from refbnn.noise.families.density import DensityLaw
from refbnn.noise.families.device import DeviceLaw
from refbnn.noise.families.gaussian import Gaussian
from refbnn.noise.families.heavy_tailed import HeavyTailed
from refbnn.noise.families.mixture import Mixture
from refbnn.noise.fitting import NoiseFit, fit
from refbnn.noise.law import Law, cumulants
from refbnn.noise.measurements import read_measurements
from refbnn.noise.storage import load_law, save_law
from refbnn.noise.table import Layout

__all__ = [
    "Bimodal",
    "DensityLaw",
    "DeviceLaw",
    "DriftingLaw",
    "Gaussian",
    "HeavyTailed",
    "Law",
    "Layout",
    "Mixture",
    "NoiseFit",
    "cumulants",
    "fit",
    "fit_drift",
    "load_law",
    "read_measurements",
    "save_law",
]
