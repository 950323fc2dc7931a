"""refbnn: reference Bayesian neural networks with device-shaped weights.

The names below load on first use, so that the command line answers at once.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refbnn.errors import InputError
    from refbnn.layers.moments import Moments
    from refbnn.layers.posterior import Posterior
    from refbnn.network.file import load, save
    from refbnn.network.network import Network
    from refbnn.prediction.predict import predict
    from refbnn.training.train import train

# By default Numba keeps what it has compiled beside the sources. In an installed package pip does
# not remove those files, and the folder that stays hides an editable install made afterwards.
_CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
os.environ.setdefault("NUMBA_CACHE_DIR", os.path.join(_CACHE, "refbnn", "numba"))

__all__ = ["InputError", "Moments", "Network", "Posterior", "load", "predict", "save", "train"]

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


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'refbnn' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
