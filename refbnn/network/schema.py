"""Structure of a network as plain data for JSON, and back: everything but its weights.

    {"format": "refbnn network", "version": 1, "layers": [{"type": "Dense", ...}, ...],
     "input_shape": [784], "law": {...}, "prior": {"family": "GaussianPrior", "scale": 0.3},
     "correlated": []}

Layers and priors are dataclasses, stored field by field; laws are stored by `refbnn.noise.storage`.
Residual blocks hold layers, the device-shaped prior a law. "variance_factor" is there where the
network's variance factor is not 1, "input_range": [low, high] where that is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from refbnn import layers as layer_types
from refbnn.errors import InputError, quoted
from refbnn.files.plain_data import LARGEST, as_fields, make
from refbnn.layers import Layer, Residual
from refbnn.network.input_range import input_range
from refbnn.network.memory import require_moderate
from refbnn.network.network import Network
from refbnn.noise import DeviceLaw, storage
from refbnn.prior import (
    DevicePrior,
    GaussianPrior,
    LaplacePrior,
    Prior,
    ScaleMixturePrior,
    StudentTPrior,
)

FORMAT, VERSION = "refbnn network", 1
_MOST_LAYERS = 10_000
_DEEPEST = 20  # residual blocks in residual blocks
_LAYERS = {name: getattr(layer_types, name) for name in layer_types.__all__ if name != "Layer"}
_PRIORS = {
    prior.__name__: prior
    for prior in (GaussianPrior, LaplacePrior, StudentTPrior, ScaleMixturePrior, DevicePrior)
}


def of_network(net: Network) -> dict[str, Any]:
    """Structure of a network.

    Raises
    ------
    InputError
        If law, prior or a layer is of no kind that can be read back.
    """
    calibrated = net.variance_factor != 1.0  # files of version 1 may lack it
    return {
        "format": FORMAT,
        "version": VERSION,
        "layers": [_layer_data(layer) for layer in net.layers],
        "input_shape": None if net.input_shape is None else list(net.input_shape),
        "law": storage.as_data(net.law),
        "prior": _prior_data(net.prior),
        "correlated": sorted(net.correlation),
        **({"variance_factor": net.variance_factor} if calibrated else {}),
        **({} if net.input_range is None else {"input_range": list(net.input_range)}),
    }


def network(header: Mapping[str, Any], source: str, most_bytes: int) -> Network:
    """A network of this structure, its weights as at the start of training.

    Parameters
    ----------
    header : mapping
        The dictionary that `of_network` returns; other keys are ignored.
    source : str
        Name of the file, for errors.
    most_bytes : int
        Limit for all means, scales and correlations in float64, checked before they are made.

    Raises
    ------
    InputError
        If the data is no such structure, or its network would take more.
    """
    if header.get("format") != FORMAT:
        raise InputError(f'{source}: expected a network, "format": "{FORMAT}"')
    if type(header.get("version")) is not int or header["version"] != VERSION:
        raise InputError(f"{source}: version {quoted(header.get('version'))}; expected {VERSION}")
    layers = _layers(header.get("layers"), source)
    law, _ = storage.from_data(header.get("law"), source)
    prior = _prior(header.get("prior"), source)
    shape, correlated = header.get("input_shape"), header.get("correlated", [])
    if not (shape is None or _integers(shape)) or not _integers(correlated):
        raise InputError(f"{source}: input_shape, correlated: expected lists of integers")
    sizes = [sum(map(math.prod, layer.parameter_shapes().values())) for layer in layers]
    if correlated != sorted(set(correlated) & set(range(len(layers)))):
        raise InputError(f"{source}: correlated: expected indices of layers, ascending")
    # Before any array is made: what the layers claim must fit into the file.
    if 16 * sum(sizes) + 8 * sum(sizes[index] ** 2 for index in correlated) > most_bytes:
        raise InputError(f"{source}: claims {sum(sizes)} weights; expected as many as it holds")
    factor = header.get("variance_factor", 1.0)
    if type(factor) not in (int, float) or not 0.0 < factor < LARGEST:
        raise InputError(f"{source}: variance_factor: expected a positive number")
    try:
        net = Network(
            layers,
            law=law,
            prior=prior,
            input_shape=None if shape is None else tuple(shape),
            correlated=correlated,
        ).with_variance_factor(factor)
        if header.get("input_range") is not None:
            if not _numbers(header["input_range"]):
                given = quoted(header["input_range"])
                raise InputError(f"input_range {given}; expected a list of two numbers")
            net.input_range = input_range(header["input_range"])
        require_moderate(net.layers, net.input_shape)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    return net


def _known(thing: object, kinds: Mapping[str, type], what: str) -> str:
    """Name of the thing's type; InputError unless it is one of those that can be read back."""
    name = type(thing).__name__
    if kinds.get(name) is not type(thing):
        raise InputError(f"{what} {name}: cannot be saved; expected one of {', '.join(kinds)}")
    return name


def _layer_data(layer: Layer) -> dict[str, Any]:
    kind = _known(layer, _LAYERS, "layer")
    if isinstance(layer, Residual):
        return {"type": kind, "layers": [_layer_data(inner) for inner in layer.layers]}
    return {"type": kind} | as_fields(layer)


def _layers(data: Any, source: str, depth: int = 0) -> list[Layer]:
    if depth > _DEEPEST:
        raise InputError(f"{source}: expected at most {_DEEPEST} blocks in each other")
    if not isinstance(data, list) or not 0 < len(data) <= _MOST_LAYERS:
        raise InputError(f'{source}: "layers": expected a list of 1 to {_MOST_LAYERS} layers')
    layers: list[Layer] = []
    for index, given in enumerate(data):
        kind = _LAYERS.get(str(given.get("type"))) if isinstance(given, Mapping) else None
        if kind is None:
            raise InputError(f"{source}: layer {index}: expected a type of {', '.join(_LAYERS)}")
        what = f"{source}: layer {index}: {kind.__name__}"
        if kind is Residual:
            layers.append(Residual(tuple(_layers(given.get("layers"), what, depth + 1))))
        else:
            layers.append(make(kind, {k: v for k, v in given.items() if k != "type"}, what))
    return layers


def _prior_data(prior: Prior) -> dict[str, Any]:
    data = {"family": _known(prior, _PRIORS, "prior")} | as_fields(prior)
    if isinstance(prior, DevicePrior):
        data["law"] = storage.as_data(prior.law)
    return data


def _prior(data: Any, source: str) -> Prior:
    kind = _PRIORS.get(str(data.get("family"))) if isinstance(data, Mapping) else None
    if kind is None:
        raise InputError(f"{source}: prior: expected a family of {', '.join(_PRIORS)}")
    given = {name: value for name, value in data.items() if name != "family"}
    what = f"{source}: {kind.__name__}"
    if kind is not DevicePrior:
        return make(kind, given, what)
    law, _ = storage.from_data(given.pop("law", None), what)
    if not isinstance(law, DeviceLaw):
        raise InputError(f"{what}: law {type(law).__name__}; expected DeviceLaw")
    return make(kind, given, what, law=law)


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(v) in (int, float) for v in value)


def _integers(value: Any) -> bool:
    return isinstance(value, list) and all(type(v) is int and abs(v) < LARGEST for v in value)
