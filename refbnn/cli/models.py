"""A trained network and the data it is measured on: what several commands ask of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from refbnn.errors import InputError
from refbnn.network.likelihoods import OF_CLASSES

if TYPE_CHECKING:
    import numpy as np

    from refbnn import Network
    from refbnn.data import Dataset


def require_propagation(net: Network, model: Path, instead: str) -> None:
    """Raise InputError if moments cannot be propagated through the network."""
    if net.correlation:
        raise InputError(
            f"{model}: layers {sorted(net.correlation)} have correlated weights, which cannot be "
            f"propagated; expected {instead}"
        )


def shaped(net: Network, dataset: Dataset, most: int | None = None) -> np.ndarray:
    """The first inputs of a data set in the network's shape; InputError names the data set."""
    try:
        return net.shaped(dataset.x[:most])
    except InputError as error:
        raise InputError(f"{dataset.name}: {error}") from None


def require_classes(net: Network, model: Path, dataset: Dataset) -> None:
    """Raise InputError unless the network has one output for each class of the data set.

    Two classes may have one output, the logit of class 1.
    """
    outputs = net.check_input(shaped(net, dataset, 1).shape[1:])
    if outputs != (dataset.n_outputs,) and (outputs, dataset.n_outputs) != ((1,), 2):
        raise InputError(
            f"{model}: outputs {outputs}; expected {dataset.n_outputs} classes, as {dataset.name} "
            "has"
        )
    if net.likelihood not in (None, *OF_CLASSES):
        raise InputError(
            f"{model} was trained on targets; expected a data set of these, not {dataset.name}"
        )


def warn_of_other_data(command: str, net: Network, model: Path, dataset: Dataset) -> None:
    """Say in one line on standard error that a network was not trained on this data set.

    Also that these are the examples it was trained on, where the test split was asked for. Nothing
    is said of a network whose training is not known.
    """
    from refbnn.data.own import is_own

    if net.trained_on is None:
        return
    name, fingerprint = net.trained_on
    if dataset.fingerprint == fingerprint:
        said = f"{dataset.source}: these are the examples that {model} was trained on"
    elif dataset.name == name and not is_own(name):
        return
    else:
        here = _of_training(dataset.name)
        if here == fingerprint or (dataset.name == name and here is None):
            return
        said = f"{model} was trained on {name}, not on {dataset.name}"
        if dataset.name == name:
            said = f"{model} was trained on other examples than {name} holds now"
    print(f"refbnn {command}: warning: {said}", file=sys.stderr)


def _of_training(name: str) -> str | None:
    """Fingerprint of a data set's training split; None if it has none."""
    from refbnn import data

    try:
        return data.load(name, "train").fingerprint
    except InputError:
        return None


def sources(inside: Dataset, outside: Dataset | None) -> dict[str, str]:
    """Sources of the data in and out of distribution, for JSON."""
    found = {"in_distribution": inside.source}
    return found if outside is None else {**found, "out_of_distribution": outside.source}
