"""NumPyro: parameters of an `AutoNormal` guide, as `numpy.savez(file, **svi.get_params(state))`.

    "fc1.weight_auto_loc": µ,   "fc1.weight_auto_scale": σ,   ...

`get_params` gives them constrained, so that the scales are σ already and nothing is to be done.
JAX sorts a dict by its keys: the order of the model's sites is lost, "fc10" comes before "fc2".
Sites come out in the order of their names with numbers in them read as numbers.

Source: NumPyro, numpyro/infer/autoguide.py. The file: NumPy, numpy/lib/format.py; arrays of Python
objects, which are pickles, are refused.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.lib import format as npy

from refbnn.archive import read_members
from refbnn.errors import InputError
from refbnn.interchange.sites import (
    Sites,
    posterior_of_site,
    require_arrays,
    require_partner,
    unchanged,
)

_EXPECTED = "an .npz file of a NumPyro AutoNormal guide's parameters"
_BROKEN_HEADER = (  # NumPy reads a header as Python's literals, by Python's parser
    ValueError,
    KeyError,
    TypeError,
    OverflowError,
    SyntaxError,
    TokenError,
    RecursionError,
    MemoryError,
)
_LOC, _SCALE = "_auto_loc", "_auto_scale"


def read(path: str | os.PathLike[str]) -> Sites:
    """Posterior of every site, by the site's name, in natural order.

    Raises
    ------
    InputError
        If the file is not as described.
    """
    path = Path(path)
    members = read_members(path, _EXPECTED, stored=False)
    read_in = {
        name.removesuffix(".npy"): _array(path, name, data) for name, data in members.items()
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
            raise InputError(f"{path}: array {name!r} is no loc or scale; expected {_EXPECTED}")
    return sites


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key: "fc2" before "fc10"."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", name)
    return [(int(digits), "") if digits else (-1, text) for digits, text in parts]


def _array(path: Path, name: str, data: bytes) -> np.ndarray:
    file = io.BytesIO(data)
    try:
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's, on headers that Python 2 wrote
            shape, by_columns, dtype = read_header[npy.read_magic(file)](file)
        content = data[file.tell() :]
        if dtype.kind != "f":
            raise InputError(f"{path}: {name[:80]!r} is of type {dtype}; expected floats")
        # The length must be what the header claims: frombuffer and reshape see to it.
        values = np.frombuffer(content, dtype).reshape(shape, order="F" if by_columns else "C")
    except InputError:
        raise
    except _BROKEN_HEADER as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{path}: {name[:80]!r} is no array ({reason}); expected {_EXPECTED}"
        ) from None
    return values
