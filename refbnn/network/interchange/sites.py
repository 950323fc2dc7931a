"""Sites: the named numbers of a posterior from another tool, checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refbnn.errors import InputError, suggestion
from refbnn.layers.posterior import Posterior

_LONGEST_NAME = 200


@dataclass(frozen=True, eq=False)
class Statistics:
    """Numbers of a batch normalisation after training, one a channel each."""

    mean: np.ndarray
    var: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray


@dataclass(frozen=True, eq=False)
class FlatGuide:
    """All weights in one row, with neither names nor shapes: AutoDiagonalNormal keeps no others."""

    posterior: Posterior


Sites = dict[str, Any]  # Posterior, Statistics or FlatGuide: a caller knows what his file holds


def require_arrays(path: Path, value: Any, expected: str) -> dict[str, np.ndarray]:
    """`value` if it is a dict of arrays by printable names; InputError if not."""
    if not isinstance(value, Mapping):
        raise InputError(f"{path}: holds a {type(value).__name__}; expected {expected}")
    arrays = {}
    for name, array in value.items():
        if not isinstance(array, np.ndarray) or not isinstance(name, str):
            raise InputError(
                f"{path}: {str(name)[:80]!r} is a {type(array).__name__}; expected {expected}"
            )
        if not name.isprintable() or len(name) > _LONGEST_NAME:
            raise InputError(
                f"{path}: name {name[:80]!r} of {len(name)} letters; expected at most "
                f"{_LONGEST_NAME}, all printable, in {expected}"
            )
        arrays[name] = array
    return arrays


def unwrapped(path: Path, value: Any, fits: Callable[[dict], bool], expected: str) -> Any:
    """The part of a training checkpoint that fits, where the whole does not.

    Training loops save {"epoch": 3, "state_dict": ..., "optimizer": ...}, with keys of their own:
    the part is known by what it holds. InputError if several fit.
    """
    if not isinstance(value, dict) or fits(value):
        return value
    parts = {key: part for key, part in value.items() if isinstance(part, dict) and fits(part)}
    if len(parts) > 1:
        keys = ", ".join(repr(str(key)[:40]) for key in list(parts)[:4])
        raise InputError(f"{path}: {keys} all hold weights; expected one, {expected}")
    return next(iter(parts.values()), value)


def without_prefix(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names as in the module itself: DataParallel and torch.compile put a word before all."""
    for prefix in ("module.", "_orig_mod.", "module."):  # either may wrap the other
        if arrays and all(name.startswith(prefix) for name in arrays):
            arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return arrays


def without_skipped(path: Path, sites: Sites, skip: Collection[str], others: Collection[str]):
    """Sites but those to skip; InputError if a name to skip is neither a site nor of `others`.

    A flat guide has no names: the caller names what lies in it.
    """
    known = [*sites, *others]
    has_names = not any(isinstance(site, FlatGuide) for site in sites.values())
    for name in skip:
        if has_names and name not in known:
            raise InputError(
                f"{path}: --skip {name[:80]}: expected one of {_listed(known)}"
                f"{suggestion(name, known)}"
            )
    return {name: site for name, site in sites.items() if name not in skip}


def require_mean_field(path: Path, names: Iterable[str], expected: str) -> None:
    """InputError if a parameter tells of covariances, which independent scales would leave out."""
    for name in names:
        if any(word in name for word in ("cov_factor", "cov_diag", "scale_tril", ".deps.")):
            raise InputError(
                f"{path}: {name!r} is of a guide with covariances; expected {expected}"
            )


def posterior_of_site(
    path: Path,
    site: str,
    mean: np.ndarray,
    unconstrained: np.ndarray,
    to_scale: Callable[[np.ndarray], np.ndarray],
) -> Posterior:
    """Posterior in float64, σ = to_scale(ρ); InputError names the site.

    Reparameterised models of Pyro and NumPyro have sites that are no weights: "w_decentered" is
    (w − µ)/σ of its prior, "w_base" a weight before a transformation.
    """
    if site.endswith(("_decentered", "_base")):
        raise InputError(
            f"{path}: site {site!r} is of a reparameterised model, before the transformation to a "
            "weight; expected the weights themselves"
        )
    for array in (mean, unconstrained):
        require_finite(path, f"site {site!r}", array)
    try:
        return Posterior(mean.astype(float), to_scale(unconstrained.astype(float)))
    except InputError as error:
        raise InputError(f"{path}: site {site!r}: {error}") from None


def require_finite(path: Path, what: str, array: np.ndarray) -> None:
    """InputError unless the array holds finite floats."""
    if array.dtype.kind != "f":
        raise InputError(f"{path}: {what} is of type {array.dtype}; expected floats")
    if not np.isfinite(array).all():
        raise InputError(f"{path}: {what} holds NaN or infinity; expected finite numbers")


def require_partner(path: Path, arrays: Mapping[str, np.ndarray], name: str, of: str) -> np.ndarray:
    """The array `name`; InputError if the file has `of` without it."""
    if name not in arrays:
        raise InputError(f"{path}: {of!r} has no partner; expected {name!r} beside it")
    return arrays[name]


def unchanged(scale: np.ndarray) -> np.ndarray:
    """σ itself."""
    return scale


def exponential(rho: np.ndarray) -> np.ndarray:
    """σ = e^ρ; infinity where that overflows, which Posterior refuses."""
    with np.errstate(over="ignore"):
        return np.exp(rho)


def _listed(names: Iterable[str]) -> str:
    """The first few names."""
    names = list(dict.fromkeys(names))
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
