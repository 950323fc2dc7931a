"""Pyro: the parameter store of an `AutoNormal` guide, as `pyro.get_param_store().save(file)`.

    {"params":      {"AutoNormal.locs.fc1.weight": µ, "AutoNormal.scales.fc1.weight": ρ, ...},
     "constraints": {"AutoNormal.locs.fc1.weight": real, "AutoNormal.scales.fc1.weight": ..., ...}}

The store keeps every parameter unconstrained, and beside it the constraint, which says what ρ is:

    SoftplusPositive      σ = softplus(ρ) = log(1 + e^ρ)      AutoNormal's default
    GreaterThan(0)        σ = e^ρ                             constraints.positive

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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refbnn.errors import InputError, cut, quoted
from refbnn.files.plain_pickle import Constraint
from refbnn.files.torch_file import read_torch
from refbnn.network.interchange.sites import (
    Sites,
    exponential,
    posterior_of_site,
    require_arrays,
    require_partner,
    unchanged,
)
from refbnn.numerics.softplus import softplus

_EXPECTED = "the parameter store of a Pyro AutoNormal guide (pyro.get_param_store().save)"


def read(path: str | os.PathLike[str]) -> Sites:
    """Posterior of every site, by name, in the store's order; InputError if the file differs."""
    path = Path(path)
    store = read_torch(path)
    if not isinstance(store, dict) or not {"params", "constraints"} <= store.keys():
        raise InputError(f"{path}: no 'params' and 'constraints'; expected {_EXPECTED}")
    params = require_arrays(path, store["params"], _EXPECTED)
    constraints = store["constraints"]
    if not isinstance(constraints, dict):
        raise InputError(f"{path}: 'constraints' is no dict; expected {_EXPECTED}")
    sites: Sites = {}
    for name in params:
        guide, middle, site = name.partition(".locs.")
        if not middle:
            if ".scales." in name:
                require_partner(path, params, name.replace(".scales.", ".locs.", 1), name)
                continue
            raise InputError(
                f"{path}: parameter {quoted(name)} is no loc or scale; expected {_EXPECTED}"
            )
        if site in sites:
            raise InputError(
                f"{path}: site {quoted(site)} is in two guides; expected one AutoNormal"
            )
        scale_name = f"{guide}.scales.{site}"
        rho = require_partner(path, params, scale_name, name)
        _transform(path, name, constraints, {"_Real": unchanged})
        to_scale = _transform(path, scale_name, constraints, _POSITIVE)
        sites[site] = posterior_of_site(path, site, params[name], rho, to_scale)
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
        f"{path}: parameter {quoted(name)} has the constraint {cut(said)}; "
        f"expected {' or '.join(known)}"
    )
