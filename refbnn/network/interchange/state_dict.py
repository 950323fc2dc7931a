"""State dicts of PyTorch modules whose layers keep a mean and an unconstrained scale side by side.

    "<layer>.<mean>": µ,    "<layer>.<scale>": ρ,    σ = f(ρ)

with names and f of the library that made them. Layers of PyTorch itself may stand between:

    "<layer>.weight", "<layer>.bias"                          γ and β of a batch normalisation,
    "<layer>.running_mean", "<layer>.running_var"             and its statistics
    "<layer>.weight", "<layer>.bias"                          known weights, σ = 0

A file of known weights alone holds no posterior and is refused. The state dict may be part of a
training checkpoint, {"epoch": 3, "state_dict": ...}, and all names may begin with "module.".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refbnn.errors import InputError
from refbnn.files.torch_file import read_torch
from refbnn.layers.posterior import Posterior
from refbnn.network.interchange.sites import (
    Sites,
    Statistics,
    posterior_of_site,
    require_arrays,
    require_finite,
    require_partner,
    unwrapped,
    without_prefix,
    without_skipped,
)

Arrays = Mapping[str, np.ndarray]

_MEAN, _VAR = "running_mean", "running_var"
_KNOWN = ("weight", "bias")
_OF_NORM = (*_KNOWN, _MEAN, _VAR, "num_batches_tracked")


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


def read_state_dict(
    path: str | os.PathLike[str], skip: Collection[str] = (), *, convention: Convention
) -> Sites:
    """Every site that is not skipped, in the order of the module.

    The posterior of a weight is called "<layer>.weight" or "<layer>.bias", the statistics of a
    batch normalisation "<layer>".

    Raises
    ------
    InputError
        If the file is not a state dict, holds no scales, or holds parameters that are neither
        skipped nor named so by the library or PyTorch.
    """
    path = Path(path)
    expected = f"a state dict of {convention.library} layers"
    whole = unwrapped(path, read_torch(path), _holds_weights(convention), expected)
    arrays = without_prefix(require_arrays(path, whole, expected))
    if not arrays:
        raise InputError(f"{path}: holds no parameters; expected {expected}")
    scales = {scale for scale, _ in convention.pairs.values()}
    sites: Sites = {}
    others: list[str] = []
    for name, array in arrays.items():
        layer, dot, own = name.rpartition(".")
        if own in convention.pairs:
            site = f"{layer}{dot}{convention.pairs[own][1]}"
            if site in sites:
                raise InputError(f"{path}: site {site!r} is there twice; expected it once")
            sites[site] = _posterior(path, arrays, name, convention)
        elif own in scales:
            _require_mean(path, arrays, name, convention)
        elif f"{layer}{dot}{_MEAN}" in arrays and own in _OF_NORM:
            if layer not in sites:
                sites[layer] = _statistics(path, arrays, layer)
        elif own in _KNOWN and name not in sites:
            sites[name] = _known(path, name, array)
        elif name in skip:
            others.append(name)
        elif not own.startswith(convention.ignored):
            raise InputError(
                f"{path}: parameter {name!r} is unknown; expected {expected}, or --skip {name}"
            )
    if not any(isinstance(site, Posterior) and site.scale.any() for site in sites.values()):
        raise InputError(f"{path}: holds weights without scales; expected {expected}")
    return without_skipped(path, sites, skip, others)


def _posterior(path: Path, arrays: Arrays, name: str, convention: Convention) -> Posterior:
    """Posterior of a mean and the ρ beside it."""
    layer, dot, own = name.rpartition(".")
    scale, kind = convention.pairs[own]
    if f"{layer}{dot}{_MEAN}" in arrays:
        raise InputError(
            f"{path}: {name!r} is a random factor of a batch normalisation; expected fixed ones"
        )
    rho = require_partner(path, arrays, f"{layer}{dot}{scale}", name)
    site = f"{layer}{dot}{kind}"
    return posterior_of_site(path, site, arrays[name], rho, convention.to_scale)


def _require_mean(path: Path, arrays: Arrays, name: str, convention: Convention) -> None:
    layer, dot, own = name.rpartition(".")
    partners = [mean for mean, (scale, _) in convention.pairs.items() if scale == own]
    if not any(f"{layer}{dot}{partner}" in arrays for partner in partners):
        raise InputError(
            f"{path}: {name!r} has no mean beside it; "
            f"expected a state dict of {convention.library} layers"
        )


def _statistics(path: Path, arrays: Arrays, layer: str) -> Statistics:
    """Numbers of a batch normalisation; γ = 1 and β = 0 where it has none of its own."""
    dot = "." if layer else ""
    mean = arrays[f"{layer}{dot}{_MEAN}"]
    var = require_partner(path, arrays, f"{layer}{dot}{_VAR}", f"{layer}{dot}{_MEAN}")
    gamma = arrays.get(f"{layer}{dot}weight", np.ones_like(mean))
    beta = arrays.get(f"{layer}{dot}bias", np.zeros_like(mean))
    for array in (mean, var, gamma, beta):
        require_finite(path, f"normalisation {layer!r}", array)
        if array.shape != mean.shape or array.ndim != 1 or not array.size:
            raise InputError(
                f"{path}: normalisation {layer!r} holds arrays of shapes {mean.shape} and "
                f"{array.shape}; expected one number a channel each"
            )
    return Statistics(*(array.astype(float) for array in (mean, var, gamma, beta)))


def _known(path: Path, name: str, array: np.ndarray) -> Posterior:
    """Posterior of a weight without a scale, as of a layer that stayed deterministic."""
    require_finite(path, f"site {name!r}", array)
    if name.endswith("weight") and array.ndim == 1:
        raise InputError(
            f"{path}: {name!r} is of a normalisation without running statistics; expected "
            "batch normalisation, with 'running_mean' and 'running_var'"
        )
    return Posterior(array.astype(float), np.zeros(array.shape))


def _holds_weights(convention: Convention) -> Callable[[dict], bool]:
    """Whether a dict holds a mean as the library names it."""
    ends = tuple(convention.pairs)

    def fits(part: dict) -> bool:
        return any(
            isinstance(name, str) and name.endswith(ends) and isinstance(value, np.ndarray)
            for name, value in part.items()
        )

    return fits
