"""Pyro: the parameter store of a mean-field guide, as `pyro.get_param_store().save(file)`.

    {"params":      {"AutoNormal.locs.fc1.weight": µ, "AutoNormal.scales.fc1.weight": ρ, ...},
     "constraints": {"AutoNormal.locs.fc1.weight": real, "AutoNormal.scales.fc1.weight": ..., ...}}

The names depend on the guide:

    "AutoNormal.locs.fc1.weight", "AutoNormal.scales.fc1.weight"     AutoNormal
    "guide.fc1.weight.loc", "guide.fc1.weight.scale"                 a guide written by hand
    "fc1.weight_loc", "fc1.weight_scale"                             the same
    "AutoDiagonalNormal.loc", "AutoDiagonalNormal.scale"             AutoDiagonalNormal

AutoDiagonalNormal keeps all weights in one row, with neither names nor shapes.

The store keeps every parameter unconstrained, and beside it the constraint, which says what ρ is:

    SoftplusPositive      σ = softplus(ρ) = log(1 + e^ρ)      AutoNormal's default
    GreaterThan(0)        σ = e^ρ                             constraints.positive

Weights take any real number; a site whose prior takes positive ones alone, say, lies in the store
before the transformation to them, and nothing there tells.

Reading ρ without its constraint, as log σ² for example, changes the posterior. Any other constraint
is refused.

Source: Pyro 1.9.2, pyro/params/param_store.py, pyro/infer/autoguide/guides.py; torch/distributions/
constraint_registry.py.

Accuracy: µ is the file's float32, exactly. σ is computed in float64 from the file's float32 ρ, to
rounding. Pyro itself reports σ in float32, within 2 ulp of that: PyTorch rounds e^ρ and the
logarithm, and the entries that fill vector registers go through other routines than the last few of
an array.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from refbnn.errors import InputError
from refbnn.files.plain_pickle import Constraint
from refbnn.files.torch_file import read_torch
from refbnn.layers.posterior import Posterior
from refbnn.network.interchange.sites import (
    FlatGuide,
    Sites,
    exponential,
    posterior_of_site,
    require_arrays,
    require_mean_field,
    require_partner,
    unchanged,
    unwrapped,
    without_skipped,
)
from refbnn.numerics.softplus import softplus

_EXPECTED = "the parameter store of a Pyro mean-field guide (pyro.get_param_store().save)"
_PARTS = {"params", "constraints"}


def read(path: str | os.PathLike[str], skip: Collection[str] = ()) -> Sites:
    """Every site that is not skipped, by name, in the store's order.

    Raises
    ------
    InputError
        If the file is no such store, or holds a parameter that is neither of a guide nor skipped.
    """
    path = Path(path)
    store = unwrapped(path, read_torch(path), lambda part: part.keys() >= _PARTS, _EXPECTED)
    if not isinstance(store, dict) or not store.keys() >= _PARTS:
        raise InputError(f"{path}: no 'params' and 'constraints'; expected {_EXPECTED}")
    params = require_arrays(path, store["params"], _EXPECTED)
    constraints = store["constraints"]
    if not isinstance(constraints, dict):
        raise InputError(f"{path}: 'constraints' is no dict; expected {_EXPECTED}")
    require_mean_field(path, params, _EXPECTED)
    sites: Sites = {}
    others: list[str] = []
    for name in params:
        pair = _pair(name)
        if pair is None:
            if name not in skip:
                raise InputError(
                    f"{path}: parameter {name!r} is no loc or scale; expected {_EXPECTED}, "
                    f"or --skip {name}"
                )
            others.append(name)
            continue
        site, partner, is_loc = pair
        beside = require_partner(path, params, partner, name)
        if not is_loc:
            continue
        if site in sites:
            raise InputError(f"{path}: site {site!r} is in two guides; expected one guide")
        _transform(path, name, constraints, {"_Real": unchanged})
        to_scale = _transform(path, partner, constraints, _POSITIVE)
        sites[site] = posterior_of_site(path, site, params[name], beside, to_scale)
    return without_skipped(path, _flat(sites), skip, others)


def _pair(name: str) -> tuple[str, str, bool] | None:
    """Site of a parameter, name of its partner, and whether it is a loc; None if it is neither."""
    for own, other in (("locs", "scales"), ("scales", "locs")):
        guide, middle, site = name.partition(f".{own}.")
        if middle:
            return site, f"{guide}.{other}.{site}", own == "locs"
    for dot in (".", "_"):
        for own, other in (("loc", "scale"), ("scale", "loc")):
            if name.endswith(f"{dot}{own}"):
                site = name.removesuffix(f"{dot}{own}")
                return site, f"{site}{dot}{other}", own == "loc"
    return None


def _flat(sites: Sites) -> Sites:
    """A lone row is no site of a network, which has weights: it is all of them."""
    match list(sites.items()):
        case [(name, Posterior() as row)] if len(row.shape) == 1:
            return {name: FlatGuide(row)}
    return sites


_POSITIVE: dict[str, Callable] = {"_SoftplusPositive": softplus, "_GreaterThan": exponential}


def _transform(path: Path, name: str, constraints: dict[str, Any], known: dict[str, Callable]):
    found = constraints.get(name)
    if isinstance(found, Constraint) and found.name in known:
        bound = found.fields.get("lower_bound", 0.0)
        if isinstance(bound, int | float) and bound == 0.0:
            return known[found.name]
        found = f"{found.name} with another bound than 0"
    said = found.name if isinstance(found, Constraint) else found
    raise InputError(
        f"{path}: parameter {name!r} has the constraint {str(said)[:80]}; "
        f"expected {' or '.join(known)}"
    )
