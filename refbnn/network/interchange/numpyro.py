"""NumPyro: an `AutoNormal` or `AutoDiagonalNormal` guide, as `numpy.savez(file, **get_params)`.

    "fc1.weight_auto_loc": µ,   "fc1.weight_auto_scale": σ,   ...     AutoNormal
    "auto_loc": µ,   "auto_scale": σ                                  AutoDiagonalNormal

`svi.get_params(state)` gives constrained values: the scales are σ already. JAX sorts a dict by its
keys, so that the order of the model's sites is lost and "fc10" comes before "fc2". Sites are
returned in the order of their names, with numbers in names read as numbers.

AutoDiagonalNormal keeps all weights in one row, with neither names nor shapes.

Source: NumPyro, numpyro/infer/autoguide.py. The file: NumPy, numpy/lib/format.py; arrays of Python
objects, which are pickles, are refused.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection
from pathlib import Path

from refbnn.errors import InputError
from refbnn.files import npy
from refbnn.files.archive import read_members
from refbnn.network.interchange.sites import (
    FlatGuide,
    Sites,
    posterior_of_site,
    require_arrays,
    require_mean_field,
    require_partner,
    unchanged,
    without_skipped,
)

_EXPECTED = "an .npz file of a NumPyro guide's parameters: numpy.savez(file, **svi.get_params())"
_LOC, _SCALE = "_auto_loc", "_auto_scale"
_FLAT_LOC, _FLAT_SCALE = "auto_loc", "auto_scale"


def read(path: str | os.PathLike[str], skip: Collection[str] = ()) -> Sites:
    """Every site that is not skipped, by name, in natural order; InputError if the file differs."""
    path = Path(path)
    _require_no_pickle(path)
    members = read_members(path, _EXPECTED, stored=False)
    read_in = {
        name.removesuffix(".npy"): npy.parse(data, f"{path}: {name[:80]!r}")
        for name, data in members.items()
    }
    arrays = require_arrays(path, read_in, _EXPECTED)
    require_mean_field(path, arrays, _EXPECTED)
    sites: Sites = {}
    others: list[str] = []
    for name in sorted(arrays, key=_natural):
        if name == _FLAT_LOC:
            scale = require_partner(path, arrays, _FLAT_SCALE, name)
            flat = posterior_of_site(path, name, arrays[name], scale, unchanged)
            sites["AutoDiagonalNormal"] = FlatGuide(flat)
        elif name == _FLAT_SCALE:
            require_partner(path, arrays, _FLAT_LOC, name)
        elif name.endswith(_SCALE):
            require_partner(path, arrays, name.removesuffix(_SCALE) + _LOC, name)
        elif name.endswith(_LOC):
            site = name.removesuffix(_LOC)
            scale = require_partner(path, arrays, site + _SCALE, name)
            sites[site] = posterior_of_site(path, site, arrays[name], scale, unchanged)
        elif name in skip:
            others.append(name)
        else:
            raise InputError(
                f"{path}: array {name!r} is no loc or scale; expected {_EXPECTED}, or --skip {name}"
            )
    return without_skipped(path, sites, skip, others)


def _require_no_pickle(path: Path) -> None:
    with contextlib.suppress(OSError):  # `read_members` reports them
        if path.is_file():
            with path.open("rb") as file:
                pickled = file.read(1) == b"\x80"
            if pickled:
                raise InputError(
                    f"{path}: a pickle, which could run code and is not read; expected {_EXPECTED}"
                )


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key: "fc2" before "fc10"."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", name)
    return [(int(digits), "") if digits else (-1, text) for digits, text in parts]
