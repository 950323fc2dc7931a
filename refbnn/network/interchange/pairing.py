"""Weights with their biases, in the order of the layers, from sites that have names alone.

A weight has two dimensions (dense) or four (convolution), a bias has one. A bias belongs to the
weight of the same name but for that word: "fc1.bias" to "fc1.weight", "b1" to "w1", "out_b" to
"out_w". Where names do not say so, the caller states the order: another site of one dimension, such
as a noise scale, may fit a bias's place. A weight without a bias has one that is known to be 0.

Files of PyTorch keep the order in which a module defines its layers. JAX sorts by name, which says
nothing: names that differ in numbers alone ("w1", "w2") are taken in the order of the numbers, but
"hidden" and "out" of the same shape are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from refbnn.errors import InputError, suggestion
from refbnn.layers.layer import Shape
from refbnn.layers.posterior import Posterior

_DENSE, _CONVOLUTION = 2, 4  # dimensions of a weight
# "w" and "b" are words only where no letter stands beside them.
_KIND = re.compile(r"weights?|kernels?|bias(?:es)?|(?<![a-z])[wb](?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Pair:
    """Names of the sites of one layer."""

    weight: str
    bias: str | None = None


def paired(
    sites: Mapping[str, Posterior], order: Sequence[str] | None, keeps_order: bool
) -> list[Pair]:
    """Pairs in the order of the layers.

    Parameters
    ----------
    sites : mapping of str to Posterior
    order : sequence of str, optional
        All sites as the layers come, a bias right behind its weight.
    keeps_order : bool
        Whether the order of `sites` is that of the layers.

    Raises
    ------
    InputError
        If a site is neither weight nor bias, `order` does not name all of them, or names leave
        open which bias or layer a site belongs to.
    """
    for site, p in sites.items():
        if len(p.shape) not in (1, _DENSE, _CONVOLUTION) or not p.mean.size:
            skip = f", or --skip {site}" if p.mean.size == 1 else ""
            raise InputError(
                f"site {site!r} has shape {p.shape}; expected a bias of one dimension, "
                f"a dense weight of two or a convolution of four{skip}"
            )
    if order is not None:
        return _ordered(sites, order)
    weights = [site for site, p in sites.items() if len(p.shape) > 1]
    biases = [site for site, p in sites.items() if len(p.shape) == 1]
    if not weights:
        raise InputError(f"0 weights and {len(biases)} biases; expected a weight for every layer")
    if not keeps_order:
        _require_numbered(sites, weights)
    keys = {_key(weight): weight for weight in weights}
    owners = {keys[_key(bias)]: bias for bias in biases if _key(bias) in keys}
    if len(keys) == len(weights) and len(owners) == len(biases):
        return [Pair(weight, owners.get(weight)) for weight in weights]
    lone = next((bias for bias in biases if _key(bias) not in keys), "")
    raise InputError(
        f"names of {len(weights)} weights and {len(biases)} biases do not say which belong together"
        f"{f', as {lone!r}' if lone else ''}; expected --order with all sites as the layers come"
        f"{f', or --skip {lone}' if lone else ''}"
    )


def _key(site: str) -> str:
    """The name without the last word for weight or bias."""
    found = list(_KIND.finditer(site))
    return f"{site[: found[-1].start()]}*{site[found[-1].end() :]}" if found else site


def _require_numbered(sites: Mapping[str, Posterior], names: Iterable[str]) -> None:
    """InputError if two sites of one shape have names that numbers do not order."""
    by_shape: dict[Shape, list[str]] = {}
    for name in names:
        by_shape.setdefault(tuple(sorted(sites[name].shape)), []).append(name)
    for same in by_shape.values():
        for a, b in pairwise(same):
            if re.sub("[0-9]+", "", a) != re.sub("[0-9]+", "", b):
                raise InputError(
                    f"sites {a!r} and {b!r} fit each other's places, and the file keeps no order; "
                    "expected --order with all sites as the layers come"
                )


def _ordered(sites: Mapping[str, Posterior], order: Sequence[str]) -> list[Pair]:
    require_all(sites, order)
    pairs: list[Pair] = []
    for name in order:
        if len(sites[name].shape) > 1:
            pairs.append(Pair(name))
        elif pairs and pairs[-1].bias is None:
            pairs[-1] = Pair(pairs[-1].weight, name)
        else:
            raise InputError(
                f"--order: bias {name!r} does not follow a weight; expected it right behind its own"
            )
    return pairs


def require_all(known: Iterable[str], order: Sequence[str]) -> None:
    """InputError unless the order names each of the known sites once."""
    known = list(known)
    for name in order:
        if name not in known:
            raise InputError(
                f"--order: no site {name[:80]!r}; expected {', '.join(known)}"
                f"{suggestion(name, known)}"
            )
        if order.count(name) > 1:
            raise InputError(f"--order: {name!r} is there twice; expected it once")
    for name in known:
        if name not in order:
            raise InputError(f"--order: {name!r} is not there; expected all sites, or --skip it")
