"""State dicts of PyTorch modules whose layers keep a mean and an unconstrained scale side by side.

    "<layer>.<mean>": µ,    "<layer>.<scale>": ρ,    σ = f(ρ)

with names and f of the library that made them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refbnn.errors import InputError, quoted
from refbnn.files.torch_file import read_torch
from refbnn.network.interchange.sites import (
    Sites,
    posterior_of_site,
    require_arrays,
    require_partner,
)


@dataclass(frozen=True)
class Convention:
    """How one library names its parameters.

    Parameters
    ----------
    library : str
    pairs : mapping of str to (str, str)
        Name of a mean -> name of its ρ, and name of the site here, "weight" or "bias".
    to_scale : callable
        σ = f(ρ), in float64.
    ignored : tuple of str
        First letters of buffers that say nothing of the posterior.
    """

    library: str
    pairs: Mapping[str, tuple[str, str]]
    to_scale: Callable[[np.ndarray], np.ndarray]
    ignored: tuple[str, ...]


def read_state_dict(path: str | os.PathLike[str], convention: Convention) -> Sites:
    """Posterior of every site, "<layer>.weight" and "<layer>.bias", in the order of the module.

    Raises
    ------
    InputError
        If the file is not a state dict, or holds parameters that the library does not name so.
    """
    path = Path(path)
    expected = f"a state dict of {convention.library} layers"
    arrays = require_arrays(path, read_torch(path), expected)
    scales = {scale for scale, _ in convention.pairs.values()}
    sites: Sites = {}
    for name, mean in arrays.items():
        layer, dot, own = name.rpartition(".")
        if own in convention.pairs:
            scale_name, kind = convention.pairs[own]
            site = f"{layer}{dot}{kind}"
            rho = require_partner(path, arrays, f"{layer}{dot}{scale_name}", name)
            if site in sites:
                raise InputError(f"{path}: site {quoted(site)} is there twice; expected it once")
            sites[site] = posterior_of_site(path, site, mean, rho, convention.to_scale)
        elif own in scales:
            partners = [m for m, (scale, _) in convention.pairs.items() if scale == own]
            if not any(f"{layer}{dot}{partner}" in arrays for partner in partners):
                raise InputError(
                    f"{path}: {quoted(name)} has no mean beside it; expected {expected}"
                )
        elif not own.startswith(convention.ignored):
            raise InputError(f"{path}: parameter {quoted(name)} is unknown; expected {expected}")
    return sites
