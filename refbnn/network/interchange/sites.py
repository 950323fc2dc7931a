"""Sites: the named arrays of a posterior from another tool, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refbnn.errors import InputError, quoted
from refbnn.layers.posterior import Posterior

Sites = dict[str, Posterior]
_LONGEST_NAME = 200


def require_arrays(path: Path, value: Any, expected: str) -> dict[str, np.ndarray]:
    """`value` if it is a dict of arrays by printable names; InputError if not."""
    if not isinstance(value, Mapping):
        raise InputError(f"{path}: holds a {type(value).__name__}; expected {expected}")
    arrays = {}
    for name, array in value.items():
        printable = isinstance(name, str) and name.isprintable() and len(name) <= _LONGEST_NAME
        if not printable or not isinstance(array, np.ndarray):
            raise InputError(
                f"{path}: {quoted(name)} is a {type(array).__name__}; expected {expected}"
            )
        arrays[name] = array
    return arrays


def posterior_of_site(
    path: Path,
    site: str,
    mean: np.ndarray,
    unconstrained: np.ndarray,
    to_scale: Callable[[np.ndarray], np.ndarray],
) -> Posterior:
    """Posterior in float64, σ = to_scale(ρ); InputError names the site."""
    for array in (mean, unconstrained):
        if array.dtype.kind != "f":
            raise InputError(
                f"{path}: site {quoted(site)} is of type {array.dtype}; expected floats"
            )
        if not np.isfinite(array).all():
            raise InputError(
                f"{path}: site {quoted(site)} holds NaN or infinity; expected finite numbers"
            )
    try:
        return Posterior(mean.astype(float), to_scale(unconstrained.astype(float)))
    except InputError as error:
        raise InputError(f"{path}: site {quoted(site)}: {error}") from None


def require_partner(path: Path, arrays: Mapping[str, np.ndarray], name: str, of: str) -> np.ndarray:
    """The array `name`; InputError if the file has `of` without it."""
    if name not in arrays:
        raise InputError(f"{path}: {quoted(of)} has no partner; expected {quoted(name)} beside it")
    return arrays[name]


def unchanged(scale: np.ndarray) -> np.ndarray:
    """σ itself."""
    return scale


def exponential(rho: np.ndarray) -> np.ndarray:
    """σ = e^ρ; infinity where that overflows, which Posterior refuses."""
    with np.errstate(over="ignore"):
        return np.exp(rho)
