"""Checkpoints: a run of training, in the file of its network.

Members beside those of a network's file (`refbnn.network.file`):

    header             also holds the run's options, history and random state
    adam/p/mean ...    Adam's parameters p and running moments m and v, flat
    best/mean ...      the parameters of the best epoch by validation
"""

from __future__ import annotations

import json
import math
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
from refbnn.numerics.arrays import all_finite
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
        header += 2 * len(encoded({"noise_sd": net.noise_sd}))
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
            {
                "nll": epoch.loss.nll,
                "kl": epoch.loss.kl,
                "kl_weight": epoch.kl_weight,
                "validation": epoch.validation,
            }
            for epoch in training.history
        ],
        "adam_steps": training.adam.steps,
        "random_state": training.rng.bit_generator.state,
        "noise_sd": training.noise_sd,
        "best": None
        if best is None
        else {"epoch": best.epoch, "score": best.score, "noise_sd": best.noise_sd},
    }
    adam = training.adam
    for letter, held in (("p", adam.parameters), ("m", adam.m), ("v", adam.v)):
        arrays |= {f"adam/{letter}/{name}": array for name, array in held.items()}
    if best is not None:
        arrays |= {f"best/{name}": array for name, array in best.parameters.items()}
    write(path, header, arrays)


def progress(path: str | Path) -> tuple[int, int]:
    """Epochs of a run that are done, and epochs planned; InputError if the file holds no run."""
    run = _run_of(Archive(path).header, path)
    history, options = run.get("history"), run.get("options")
    planned = options.get("epochs") if isinstance(options, Mapping) else None
    if not isinstance(history, list) or type(planned) is not int:
        raise _incomplete(path)
    return len(history), planned


def _run_of(header: Mapping[str, Any], path: str | Path) -> Mapping[str, Any]:
    run = header.get("run")
    if not isinstance(run, Mapping):
        raise InputError(
            f"{path} holds a network without a run of training, so there is nothing to resume; "
            "start a new run from it"
        )
    return run


def _incomplete(path: str | Path) -> InputError:
    return InputError(f"{path}: its run is incomplete; expected all of its state")


def load_training(path: str | Path, net: Network, options: Options, data: str) -> Training:
    """Read a run that `save_training` wrote; `net` takes its parameters.

    It also takes the name of the data set from the file, unless it has one.

    Raises
    ------
    InputError
        If the file cannot be read, or its run is not one of this network, these options (the
        number of epochs apart) and data of this fingerprint.
    """
    file = Archive(path)
    header, run = file.header, _run_of(file.header, path)
    stored = read_network(file)
    _require_same_run(path, header, run, schema.of_network(net), options, data)
    net.set_parameters(stored.parameters())
    net.correlation |= stored.correlation
    net.trained_on = net.trained_on or stored.trained_on
    training = Training(net, options)
    try:
        _restore(training, run, file)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        raise _incomplete(path) from None
    training.refresh()
    return training


def _require_same_run(
    path: str | Path,
    header: Mapping[str, Any],
    run: Mapping[str, Any],
    network: Mapping[str, Any],
    options: Options,
    data: str,
) -> None:
    """Raise InputError unless a run began with this network, these options and these data.

    Options that a file lacks, as an earlier version wrote it, have their defaults.
    """
    stored = run.get("options")
    known = asdict(Options()) | dict(stored) if isinstance(stored, Mapping) else stored
    for what, ours, theirs in (
        ("network", _structure(network), _structure(header)),
        ("options", _without(asdict(options), ["epochs"]), _without(known, ["epochs"])),
        ("data", data, run.get("data_sha256")),
    ):
        if json.loads(json.dumps(ours)) != theirs:
            differing = f" ({_differing(ours, theirs)})" if isinstance(ours, dict) else ""
            raise InputError(
                f"{path}: its run began with different {what}{differing}; resume it with the same"
            )
    done = len(run["history"]) if isinstance(run.get("history"), list) else 0
    if options.epochs < done:
        raise InputError(
            f"{path}: its run has {done} epochs already; expected at least as many, "
            f"not {options.epochs}"
        )


def _structure(header: Mapping[str, Any]) -> Any:
    """Header of a network without what a run of training changes."""
    return _without(header, ["run", "input_range", *schema.TRAINED])


def _without(data: Any, names: list[str]) -> Any:
    return {k: v for k, v in data.items() if k not in names} if isinstance(data, Mapping) else data


def _restore(training: Training, run: Mapping[str, Any], file: Archive) -> None:
    """Give a fresh run the state that was saved."""
    adam = training.adam
    form = {n: (p.shape, p.dtype.str) for n, p in adam.parameters.items()}
    for letter, held in (("p", adam.parameters), ("m", adam.m), ("v", adam.v)):
        for name, (shape, dtype) in form.items():
            array = file.array(f"adam/{letter}/{name}", shape, dtype)
            if not all_finite(array) or (letter == "v" and array.size and array.min() < 0.0):
                raise ValueError
            held[name][...] = array
    adam.steps = int(run["adam_steps"])
    if not 0 <= adam.steps <= _MOST_STEPS:
        raise ValueError
    training.rng.bit_generator.state = run["random_state"]
    training.history = [
        Epoch(
            number,
            Loss(_finite(epoch["nll"]), _finite(epoch["kl"])),
            _finite(epoch["kl_weight"]),
            None if epoch["validation"] is None else _finite(epoch["validation"]),
        )
        for number, epoch in enumerate(run["history"], start=1)
    ]
    learned = training.net.noise_sd is not None and training.options.noise_sd is None
    if learned:
        training.set_noise(_noise(run["noise_sd"], training))
    if run["best"] is not None:
        parameters = {n: file.array(f"best/{n}", *form[n]) for n in form}
        if not all(map(all_finite, parameters.values())):
            raise ValueError
        best = run["best"]
        noise_sd = _noise(best["noise_sd"], training) if learned else training.net.noise_sd
        training.best = Best(int(best["epoch"]), _finite(best["score"]), parameters, noise_sd)


def _finite(value: Any) -> float:
    """A finite number; JSON in Python knows NaN and Infinity too. ValueError for these."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _noise(value: Any, training: Training) -> tuple[float, ...]:
    """Standard deviations of the noise, one a target; ValueError if they are none."""
    noise_sd = tuple(map(_finite, value))
    if len(noise_sd) != len(training.net.noise_sd or ()) or not min(noise_sd) > 0.0:
        raise ValueError
    return noise_sd


def _differing(ours: Mapping, theirs: Any) -> str:
    """Names of what differs, for an error."""
    plain = json.loads(json.dumps(ours))
    if not isinstance(theirs, Mapping):
        return "none"
    return ", ".join(name for name in plain if plain[name] != theirs.get(name)) or "more of them"
