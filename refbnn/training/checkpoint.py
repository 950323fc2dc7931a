"""Checkpoints: a run of training, in the file of its network.

Members beside those of a network's file (`refbnn.network.file`):

    header             also holds the run's options, history and random state
    adam/p/mean ...    Adam's parameters p and running moments m and v, flat
    best/mean ...      the parameters of the best epoch by validation
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from refbnn.errors import InputError
from refbnn.files.atomic import require_writable
from refbnn.network import schema
from refbnn.network.file import (
    Archive,
    check_sizes,
    encoded,
    network_arrays,
    read_network,
    write,
)
from refbnn.network.network import Network
from refbnn.training.elbo import Loss
from refbnn.training.run import Best, Epoch, Options, Training

# Greatest size of a run in the header, in bytes: its epochs, of four numbers of up to 24 digits and
# their names each, and all else.
_EPOCH, _BESIDE_EPOCHS = 160, 4096
_MOST_STEPS = 2**53  # of Adam: a float still counts them


def check(
    path: str | Path, net: Network, options: Options | None = None, *, validated: bool = False
) -> None:
    """Check before long work that a file could be written, and read again.

    With options, the file also holds a run of training; `validated` says whether it has validation
    data, so that the best epoch is kept. InputError if nothing could be written there, or if the
    file would be larger than `load` reads.
    """
    require_writable(path)
    header = len(encoded(schema.of_network(net)))
    weights = net.layout.size
    pairs = [A.size for A in net.correlation.values()]
    sizes = [8 * p.mean.size for p in net.parameters().values()] * 2 + [8 * n for n in pairs]
    if options is not None:
        header += _BESIDE_EPOCHS + _EPOCH * options.epochs
        held = [np.dtype(options.dtype).itemsize * n for n in (weights, weights, *pairs)]
        sizes += held * (4 if validated else 3)
    check_sizes(path, header, sizes)


def save_training(path: str | Path, training: Training, data: str) -> None:
    """Write a run of training; `data` is the fingerprint of the data it is trained on."""
    header, arrays = schema.of_network(training.net), network_arrays(training.net)
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
    write(path, header, arrays)


def load_training(path: str | Path, net: Network, options: Options, data: str) -> Training:
    """Read a run that `save_training` wrote; `net` takes its parameters.

    Raises
    ------
    InputError
        If the file cannot be read, or its run is not one of this network, these options and data
        of this fingerprint.
    """
    file = Archive(path)
    header, run = file.header, file.header.get("run")
    if not isinstance(run, Mapping):
        raise InputError(
            f"{path} holds a network without a run of training, so there is nothing to resume"
        )
    stored = read_network(file)
    for what, ours, theirs in (
        ("network", schema.of_network(net), {k: v for k, v in header.items() if k != "run"}),
        ("options", asdict(options), run.get("options")),
        ("data", data, run.get("data_sha256")),
    ):
        if json.loads(json.dumps(ours)) != theirs:
            differing = f" ({_differing(ours, theirs)})" if isinstance(ours, dict) else ""
            raise InputError(
                f"{path}: its run began with different {what}{differing}; resume it with the same"
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


def _restore(training: Training, run: Mapping[str, Any], file: Archive) -> None:
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


def _differing(ours: Mapping, theirs: Any) -> str:
    """Names of what differs, for an error."""
    plain = json.loads(json.dumps(ours))
    if not isinstance(theirs, Mapping):
        return "none"
    return ", ".join(name for name in plain if plain[name] != theirs.get(name)) or "more of them"
