"""Checkpoints: a network, or a run of training, as one versioned .npz file.

The file is a plain NumPy archive, nothing in it is compressed or pickled:

    header             UTF-8 bytes of a JSON object: format, version, layers, input shape, law,
                       prior, names of all arrays; for a run its options, history, random state;
                       variance_factor where it is not 1
    mean/0.weight ...  µ of every weight array, float64
    scale/0.weight ... σ
    correlation/4      A of a correlated layer (`refbnn.correlation`)
    adam/p/mean ...    for a run: what Adam holds (parameters p, running moments m and v), flat
    best/mean ...      for a run: the parameters of the best epoch by validation

Files from outside are hostile until parsed: the header is read first; from it follow the names,
shapes and types of all arrays; each must be there, in exactly this form, and no larger than the
file. Writing is whole or not at all.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from refbnn import layers as layer_types
from refbnn.elbo import Loss
from refbnn.errors import InputError
from refbnn.files import require_writable, written_atomically
from refbnn.layers import Layer, Residual
from refbnn.network import Network
from refbnn.noise import DeviceLaw, storage
from refbnn.plain_data import LARGEST, as_fields, make
from refbnn.posterior import Posterior
from refbnn.prior import (
    DevicePrior,
    GaussianPrior,
    LaplacePrior,
    Prior,
    ScaleMixturePrior,
    StudentTPrior,
)
from refbnn.training import Best, Epoch, Options, Training

FORMAT, VERSION = "refbnn network", 1
_LARGEST_HEADER = 50_000_000  # bytes; laws may have thousands of panels, runs thousands of epochs
_MOST_LAYERS = 10_000
_DEEPEST = 20  # residual blocks in residual blocks
_ARRAY = re.compile(
    rb"\x93NUMPY\x01\x00..{'descr': '([<|][a-z]\d)', 'fortran_order': False, "
    rb"'shape': (\([\d, ]*\)), } *\n",
    re.DOTALL,
)
_LAYERS = {name: getattr(layer_types, name) for name in layer_types.__all__ if name != "Layer"}
_PRIORS = {
    prior.__name__: prior
    for prior in (GaussianPrior, LaplacePrior, StudentTPrior, ScaleMixturePrior, DevicePrior)
}
Arrays = dict[str, np.ndarray]


def save(path: str | Path, net: Network) -> None:
    """Write a network.

    Raises
    ------
    InputError
        If the file cannot be written, or law, prior or a layer is of no kind that can be loaded.
    """
    _write(path, _network_data(net), _network_arrays(net))


def check(path: str | Path, net: Network) -> None:
    """InputError unless `save` could write this network to this file: asked before long work."""
    require_writable(path)
    _network_data(net)


def load(path: str | Path) -> Network:
    """Read a network that `save`, or a run of training, wrote.

    Raises
    ------
    InputError
        If the file cannot be read or is no such network.
    """
    with _Archive(path) as archive:
        return _network(archive)


def save_training(path: str | Path, training: Training, data: str) -> None:
    """Write a run of training; `data` is the fingerprint of the data it is trained on."""
    header, arrays = _network_data(training.net), _network_arrays(training.net)
    best = training.best
    header["run"] = {
        "options": asdict(training.options),
        "data_sha256": data,
        "history": [
            asdict(epoch.loss) | {"kl_weight": epoch.kl_weight, "validation": epoch.validation}
            for epoch in training.history
        ],
        "adam_steps": training.adam.steps,
        "random_state": training.rng.bit_generator.state,
        "best": None if best is None else {"epoch": best.epoch, "score": best.score},
    }
    adam = training.adam
    for letter, held in (("p", adam.parameters), ("m", adam.m), ("v", adam.v)):
        arrays |= {f"adam/{letter}/{name}": array for name, array in held.items()}
    if best is not None:
        arrays |= {f"best/{name}": array for name, array in best.parameters.items()}
    _write(path, header, arrays)


def load_training(path: str | Path, net: Network, options: Options, data: str) -> Training:
    """Go on with a run: `net` takes its parameters.

    Parameters
    ----------
    path : path
        What `save_training` wrote.
    net, options, data
        Network, options and fingerprint of the data of the start: they are compared with the
        file's.

    Raises
    ------
    InputError
        If the file cannot be read, holds no run, or one of another network, options or data.
    """
    with _Archive(path) as archive:
        header, run = archive.header, archive.header.get("run")
        if not isinstance(run, Mapping):
            raise InputError(f"{path}: holds no run of training; expected one to go on with")
        stored = _network(archive)
        for what, ours, theirs in (
            ("network", _network_data(net), {k: v for k, v in header.items() if k != "run"}),
            ("options", asdict(options), run.get("options")),
            ("data", data, run.get("data_sha256")),
        ):
            if json.loads(json.dumps(ours)) != theirs:
                differing = f" ({_differing(ours, theirs)})" if isinstance(ours, dict) else ""
                raise InputError(
                    f"{path}: a run of other {what}{differing}; expected those it began with"
                )
        net.set_parameters(stored.parameters())
        net.correlation |= stored.correlation
        training = Training(net, options)
        try:
            _restore(training, run, archive)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
            raise InputError(f"{path}: its run is incomplete; expected all of its state") from None
        training.refresh()
    return training


def _restore(training: Training, run: Mapping[str, Any], archive: _Archive) -> None:
    """Give a fresh run the state that was saved."""
    adam = training.adam
    form = {n: (p.shape, p.dtype.str) for n, p in adam.parameters.items()}
    for letter, held in (("p", adam.parameters), ("m", adam.m), ("v", adam.v)):
        for name, (shape, dtype) in form.items():
            held[name][...] = archive.array(f"adam/{letter}/{name}", shape, dtype)
    adam.steps = int(run["adam_steps"])
    if adam.steps < 0:
        raise ValueError
    training.rng.bit_generator.state = run["random_state"]
    training.history = [
        Epoch(
            number,
            Loss(float(epoch["nll"]), float(epoch["kl"])),
            float(epoch["kl_weight"]),
            None if epoch["validation"] is None else float(epoch["validation"]),
        )
        for number, epoch in enumerate(run["history"], start=1)
    ]
    if run["best"] is not None:
        parameters = {n: archive.array(f"best/{n}", *form[n]) for n in form}
        best = run["best"]
        training.best = Best(int(best["epoch"]), float(best["score"]), parameters)


def _network_data(net: Network) -> dict[str, Any]:
    calibrated = net.variance_factor != 1.0  # left out otherwise, as in files before there was one
    return {
        "format": FORMAT,
        "version": VERSION,
        "layers": [_layer_data(layer) for layer in net.layers],
        "input_shape": None if net.input_shape is None else list(net.input_shape),
        "law": storage.as_data(net.law),
        "prior": _prior_data(net.prior),
        "correlated": sorted(net.correlation),
        **({"variance_factor": net.variance_factor} if calibrated else {}),
    }


def _network_arrays(net: Network) -> Arrays:
    parameters = net.parameters()
    return (
        {f"mean/{name}": p.mean.astype(float) for name, p in parameters.items()}
        | {f"scale/{name}": p.scale.astype(float) for name, p in parameters.items()}
        | {f"correlation/{index}": A.astype(float) for index, A in net.correlation.items()}
    )


def _network(archive: _Archive) -> Network:
    header, source = archive.header, archive.source
    if header.get("format") != FORMAT:
        raise InputError(f'{source}: expected a network, "format": "{FORMAT}"')
    if type(header.get("version")) is not int or header["version"] != VERSION:
        raise InputError(f"{source}: version {header.get('version')!r}; expected {VERSION}")
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
    if 16 * sum(sizes) + 8 * sum(sizes[index] ** 2 for index in correlated) > archive.size:
        raise InputError(f"{source}: claims {sum(sizes)} weights; expected as many as it holds")
    try:
        net = Network(
            layers,
            law=law,
            prior=prior,
            input_shape=None if shape is None else tuple(shape),
            correlated=correlated,
        )
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    posteriors = {}
    for name, p in net.parameters().items():
        mean, scale = (
            archive.array(f"{part}/{name}", p.shape, "<f8") for part in ("mean", "scale")
        )
        try:
            posteriors[name] = Posterior(mean, scale)
        except InputError as error:
            raise InputError(f"{source}: {name}: {error}") from None
    net.set_parameters(posteriors)
    for index, A in net.correlation.items():
        stored = archive.array(f"correlation/{index}", A.shape, "<f8")
        if not (np.isfinite(stored).all() and (np.triu(stored) == 0.0).all()):
            raise InputError(
                f"{source}: correlation of layer {index}: expected finite, below the diagonal"
            )
        net.correlation[index] = stored
    factor = header.get("variance_factor", 1.0)
    if type(factor) not in (int, float) or not 0.0 < factor < LARGEST:
        raise InputError(f"{source}: variance_factor: expected a positive number")
    return net.with_variance_factor(factor)


def _layer_data(layer: Layer) -> dict[str, Any]:
    kind = type(layer).__name__
    if _LAYERS.get(kind) is not type(layer):
        raise InputError(f"layer {kind}: cannot be saved; expected one of {', '.join(_LAYERS)}")
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
    family = type(prior).__name__
    if _PRIORS.get(family) is not type(prior):
        raise InputError(f"prior {family}: cannot be saved; expected one of {', '.join(_PRIORS)}")
    data = {"family": family} | as_fields(prior)
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


def _differing(ours: Mapping, theirs: Any) -> str:
    """Names of what differs, for an error."""
    plain = json.loads(json.dumps(ours))
    if not isinstance(theirs, Mapping):
        return "none"
    return ", ".join(name for name in plain if plain[name] != theirs.get(name)) or "more of them"


def _integers(value: Any) -> bool:
    return isinstance(value, list) and all(type(v) is int and abs(v) < LARGEST for v in value)


def _write(path: str | Path, header: dict[str, Any], arrays: Arrays) -> None:
    text = json.dumps(header, allow_nan=False).encode()
    members = {"header": np.frombuffer(text, np.uint8)}
    members |= {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with written_atomically(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **members)


class _Archive:
    """An archive opened for reading; use it in a `with` statement.

    Attributes
    ----------
    source : str
        Its path, for errors.
    size : int
        Bytes of the file.
    header : dict
    """

    def __init__(self, path: str | Path):
        self.source = str(path)
        try:
            self.size = os.stat(path).st_size
            self._zip = zipfile.ZipFile(path)
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{path}: {reason}; expected a checkpoint (.npz)") from None

    def __enter__(self) -> _Archive:
        raw = self._read("header", _LARGEST_HEADER)
        form, body = self._parsed("header", raw)
        try:
            header = json.loads(body.decode()) if form == f"|u1 ({len(body)},)" else None
        except (ValueError, RecursionError):
            header = None
        if not isinstance(header, dict):
            raise InputError(f"{self.source}: header: expected a JSON object")
        self.header: dict[str, Any] = header
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def array(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """The array of that name; InputError unless it has exactly this shape and type."""
        bytes_wanted = math.prod(shape) * np.dtype(dtype).itemsize
        raw = self._read(name, bytes_wanted + 10_000)
        found, body = self._parsed(name, raw)
        wanted = f"{np.dtype(dtype).str} {shape}"
        if found != wanted or len(body) != bytes_wanted:
            raise InputError(
                f"{self.source}: {name}: {len(body)} bytes of {found}; "
                f"expected {bytes_wanted} of {wanted}"
            )
        return np.frombuffer(body, dtype).reshape(shape).copy()

    def _read(self, name: str, most: int) -> bytes:
        try:
            info = self._zip.getinfo(f"{name}.npy")
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > min(most, self.size):
                raise InputError(
                    f"{self.source}: {name}: compressed or too large; expected a stored array"
                )
            return self._zip.read(info)
        except KeyError:
            raise InputError(f"{self.source}: {name} is missing; expected a checkpoint") from None
        except (
            OSError,
            EOFError,
            ValueError,
            RuntimeError,
            struct.error,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise InputError(f"{self.source}: {name}: {error}; expected a whole file") from None

    def _parsed(self, name: str, raw: bytes) -> tuple[str, bytes]:
        """Type and shape, such as "<f8 (3, 4)", and bytes of an array in NumPy's format.

        Matched as text, never evaluated: what NumPy writes of plain arrays has this form alone.
        """
        match = _ARRAY.match(raw)
        if match is None or match.end() != 10 + int.from_bytes(raw[8:10], "little"):
            raise InputError(f"{self.source}: {name}: expected a plain array in NumPy's format")
        return f"{match[1].decode()} {match[2].decode()}", raw[match.end() :]
