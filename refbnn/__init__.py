"""refbnn: reference Bayesian neural networks with device-shaped weights.

Names and sub-packages load on first use, so that the command line answers at once.

Examples
--------
>>> import numpy as np
>>> import refbnn
>>> layers = [refbnn.layers.Dense(4, 8), refbnn.layers.ReLU(), refbnn.layers.Dense(8, 3)]
>>> net = refbnn.Network(layers, law=refbnn.noise.Gaussian(), seed=0)
>>> net.propagate(np.ones((2, 4))).mean.shape
(2, 3)
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from refbnn.files.cache import compiled_folder

if TYPE_CHECKING:
    from refbnn import data, layers, noise, prior
    from refbnn.errors import InputError
    from refbnn.layers.moments import Moments
    from refbnn.layers.posterior import Posterior
    from refbnn.network.file import load, save
    from refbnn.network.network import Network
    from refbnn.prediction.predict import predict
    from refbnn.training.train import train

    __version__: str

# By default Numba keeps what it has compiled beside the sources. In an installed package pip does
# not remove those files, and the folder that stays hides an editable install made afterwards.
if not os.environ.get("NUMBA_CACHE_DIR"):
    os.environ["NUMBA_CACHE_DIR"] = str(compiled_folder())

_HOME = {
    "InputError": "refbnn.errors",
    "Moments": "refbnn.layers.moments",
    "Network": "refbnn.network.network",
    "Posterior": "refbnn.layers.posterior",
    "load": "refbnn.network.file",
    "predict": "refbnn.prediction.predict",
    "save": "refbnn.network.file",
    "train": "refbnn.training.train",
}
_PACKAGES = ("data", "layers", "noise", "prior")

__all__ = [
    "InputError",
    "Moments",
    "Network",
    "Posterior",
    "data",
    "layers",
    "load",
    "noise",
    "predict",
    "prior",
    "save",
    "train",
]


def __getattr__(name: str):
    if name in _PACKAGES:
        return importlib.import_module(f"refbnn.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name == "__version__":
        from importlib import metadata

        try:
            return metadata.version("refbnn")
        except metadata.PackageNotFoundError:
            return "0+uninstalled"
    raise AttributeError(f"module 'refbnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
