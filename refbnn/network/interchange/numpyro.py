"""NumPyro: parameters of an `AutoNormal` guide, as `numpy.savez(file, **svi.get_params(state))`.

    "fc1.weight_auto_loc": µ,   "fc1.weight_auto_scale": σ,   ...

`get_params` gives constrained values: the scales are σ already. JAX sorts a dict by its keys, so
that the order of the model's sites is lost and "fc10" comes before "fc2". Sites are returned in the
order of their names, with numbers in names read as numbers.

Source: NumPyro, numpyro/infer/autoguide.py. The file: NumPy, numpy/lib/format.py; arrays of Python
objects, which are pickles, are refused.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from refbnn.errors import InputError, quoted
from refbnn.files import npy
from refbnn.files.archive import read_members
from refbnn.network.interchange.sites import (
    Sites,
    posterior_of_site,
    require_arrays,
    require_partner,
    unchanged,
)

_EXPECTED = "an .npz file of a NumPyro AutoNormal guide's parameters"
_LOC, _SCALE = "_auto_loc", "_auto_scale"


def read(path: str | os.PathLike[str]) -> Sites:
    """Posterior of every site, by name, in natural order; InputError if the file differs."""
    path = Path(path)
    members = read_members(path, _EXPECTED, stored=False)
    read_in = {
        name.removesuffix(".npy"): npy.parse(data, f"{path}: {quoted(name)}")
        for name, data in members.items()
    }
    arrays = require_arrays(path, read_in, _EXPECTED)
    sites: Sites = {}
    for name in sorted(arrays, key=_natural):
        if name.endswith(_SCALE):
            require_partner(path, arrays, name.removesuffix(_SCALE) + _LOC, name)
        elif name.endswith(_LOC):
            site = name.removesuffix(_LOC)
            scale = require_partner(path, arrays, site + _SCALE, name)
            sites[site] = posterior_of_site(path, site, arrays[name], scale, unchanged)
        else:
            raise InputError(
                f"{path}: array {quoted(name)} is no loc or scale; expected {_EXPECTED}"
            )
    return sites


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key: "fc2" before "fc10"."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", name)
    return [(int(digits), "") if digits else (-1, text) for digits, text in parts]
