"""Checkpoints: a network, or a run of training, as one versioned .npz file.

The file is a plain NumPy archive, nothing in it is compressed or pickled:

    header             UTF-8 bytes of a JSON object: format, version, layers, input shape, law,
                       prior, names of all arrays; for a run its options, history, random state
    mean/0.weight ...  µ of every weight array, float64
    scale/0.weight ... σ
    correlation/4      A of a correlated layer (`refbnn.network.correlated_weights`)
    adam/p/mean ...    for a run: what Adam holds (parameters p, running moments m and v), flat
    best/mean ...      for a run: the parameters of the best epoch by validation

Files from outside are hostile until parsed: the header is read first; from it follow the names,
shapes and types of all arrays; each must be there, in exactly this form, and no larger than the
file. Writing is whole or not at all, and refuses what could not be read again: files above
`refbnn.files.archive.LARGEST` bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from refbnn.errors import InputError
from refbnn.files import archive, npy
from refbnn.files.atomic import require_writable, written_atomically
from refbnn.layers.posterior import Posterior
from refbnn.network import schema as structure
from refbnn.network.network import Network
from refbnn.training.elbo import Loss
from refbnn.training.run import Best, Epoch, Options, Training

_LARGEST_HEADER = 50_000_000  # bytes; laws may have thousands of panels, runs thousands of epochs
# Bytes at most, in the file: of an array beside its numbers (two zip entries of 76 bytes and its
# name each, NumPy's header of 128); of a run in the header beside its epochs; of one epoch (four
# numbers of up to 24 digits and their names).
_BESIDE_ARRAY, _BESIDE_EPOCHS, _EPOCH = 512, 4096, 160
_MOST_STEPS = 2**53  # of Adam: a float counts them still
Arrays = dict[str, np.ndarray]


def save(path: str | Path, net: Network) -> None:
    """Write a network.

    Raises
    ------
    InputError
        If the file cannot be written, or law, prior or a layer is of no kind that can be loaded.
    """
    _write(path, structure.of_network(net), _network_arrays(net))


def check(
    path: str | Path, net: Network, options: Options | None = None, *, validated: bool = False
) -> None:
    """Ask, before long work, whether a file could be written, and read again.

    Parameters
    ----------
    path : path
    net : Network
    options : Options, optional
        Of a run of training that is to be saved with the network.
    validated : bool
        Whether that run has validation data, so that the best epoch is kept.

    Raises
    ------
    InputError
        If `save`, or with options `save_training`, could not write there, or wrote a larger file
        than `load` reads.
    """
    require_writable(path)
    header = len(_encoded(structure.of_network(net)))
    weights = net.layout.size
    pairs = [A.size for A in net.correlation.values()]
    sizes = [8 * p.mean.size for p in net.parameters().values()] * 2 + [8 * n for n in pairs]
    if options is not None:
        header += _BESIDE_EPOCHS + _EPOCH * options.epochs
        held = [np.dtype(options.dtype).itemsize * n for n in (weights, weights, *pairs)]
        sizes += held * (4 if validated else 3)
    _check_sizes(path, header, sizes)


def load(path: str | Path) -> Network:
    """Read a network that `save`, or a run of training, wrote.

    Raises
    ------
    InputError
        If the file cannot be read or is no such network.
    """
    return _network(_Archive(path))


def save_training(path: str | Path, training: Training, data: str) -> None:
    """Write a run of training; `data` is the fingerprint of the data it is trained on."""
    header, arrays = structure.of_network(training.net), _network_arrays(training.net)
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
    file = _Archive(path)
    header, run = file.header, file.header.get("run")
    if not isinstance(run, Mapping):
        raise InputError(f"{path}: holds no run of training; expected one to go on with")
    stored = _network(file)
    for what, ours, theirs in (
        ("network", structure.of_network(net), {k: v for k, v in header.items() if k != "run"}),
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
        _restore(training, run, file)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        raise InputError(f"{path}: its run is incomplete; expected all of its state") from None
    training.refresh()
    return training


def _restore(training: Training, run: Mapping[str, Any], file: _Archive) -> None:
    """Give a fresh run the state that was saved."""
    adam = training.adam
    form = {n: (p.shape, p.dtype.str) for n, p in adam.parameters.items()}
    for letter, held in (("p", adam.parameters), ("m", adam.m), ("v", adam.v)):
        for name, (shape, dtype) in form.items():
            held[name][...] = file.array(f"adam/{letter}/{name}", shape, dtype)
    adam.steps = int(run["adam_steps"])
    if not 0 <= adam.steps <= _MOST_STEPS:
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
        parameters = {n: file.array(f"best/{n}", *form[n]) for n in form}
        best = run["best"]
        training.best = Best(int(best["epoch"]), float(best["score"]), parameters)


def _network_arrays(net: Network) -> Arrays:
    parameters = net.parameters()
    return (
        {f"mean/{name}": p.mean.astype(float) for name, p in parameters.items()}
        | {f"scale/{name}": p.scale.astype(float) for name, p in parameters.items()}
        | {f"correlation/{index}": A.astype(float) for index, A in net.correlation.items()}
    )


def _network(file: _Archive) -> Network:
    source = file.source
    net = structure.network(file.header, source, file.size)
    posteriors = {}
    for name, p in net.parameters().items():
        mean, scale = (file.array(f"{part}/{name}", p.shape, "<f8") for part in ("mean", "scale"))
        try:
            posteriors[name] = Posterior(mean, scale)
        except InputError as error:
            raise InputError(f"{source}: {name}: {error}") from None
    factor = net.variance_factor  # of these weights, which are only now its
    net.set_parameters(posteriors)
    net.variance_factor = factor
    for index, A in net.correlation.items():
        stored = file.array(f"correlation/{index}", A.shape, "<f8")
        if not (np.isfinite(stored).all() and (np.triu(stored) == 0.0).all()):
            raise InputError(
                f"{source}: correlation of layer {index}: expected finite, below the diagonal"
            )
        net.correlation[index] = stored
    return net


def _differing(ours: Mapping, theirs: Any) -> str:
    """Names of what differs, for an error."""
    plain = json.loads(json.dumps(ours))
    if not isinstance(theirs, Mapping):
        return "none"
    return ", ".join(name for name in plain if plain[name] != theirs.get(name)) or "more of them"


def _write(path: str | Path, header: dict[str, Any], arrays: Arrays) -> None:
    text = _encoded(header)
    _check_sizes(path, len(text), [array.nbytes for array in arrays.values()])
    members = {"header": np.frombuffer(text, np.uint8)}
    members |= {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with written_atomically(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **members)


def _encoded(header: dict[str, Any]) -> bytes:
    return json.dumps(header, allow_nan=False).encode()


def _check_sizes(path: str | Path, header: int, sizes: list[int]) -> None:
    """InputError unless a file of such a header and arrays, in bytes, could be read again."""
    if header > _LARGEST_HEADER:
        raise InputError(
            f"{path}: a header of {header} bytes; expected at most {_LARGEST_HEADER} (fewer epochs)"
        )
    whole = sum(_BESIDE_ARRAY + size for size in (header, *sizes))
    if whole > archive.LARGEST:
        raise InputError(
            f"{path}: a checkpoint of {whole} bytes; expected at most {archive.LARGEST}"
        )


class _Archive:
    """What a file holds, checked as far as can be without knowing what it should hold.

    Attributes
    ----------
    source : str
        Its path, for errors.
    size : int
        Bytes of the file: no array in it is larger.
    header : dict
    """

    def __init__(self, path: str | Path):
        self.source = str(path)
        self._members = archive.read_members(Path(path), "a checkpoint (.npz)", stored=True)
        self.size = Path(path).stat().st_size
        text = self._parsed("header")
        try:
            whole = text.dtype == np.uint8 and text.ndim == 1 and text.size <= _LARGEST_HEADER
            header = json.loads(text.tobytes().decode()) if whole else None
        except (ValueError, RecursionError):
            header = None
        if not isinstance(header, dict):
            raise InputError(f"{self.source}: header: expected a JSON object")
        self.header: dict[str, Any] = header

    def array(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """The array of that name; InputError unless it has exactly this shape and type."""
        array = self._parsed(name)
        if array.shape != shape or array.dtype.str != dtype:
            raise InputError(
                f"{self.source}: {name}: {array.dtype.str} of shape {array.shape}; "
                f"expected {dtype} of shape {shape}"
            )
        return array.copy()

    def _parsed(self, name: str) -> np.ndarray:
        raw = self._members.get(f"{name}.npy")
        if raw is None:
            raise InputError(f"{self.source}: {name} is missing; expected a checkpoint")
        return npy.parse(raw, f"{self.source}: {name}")
