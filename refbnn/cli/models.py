"""A trained network and the data it is measured on: what several commands ask of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from refbnn.errors import InputError

if TYPE_CHECKING:
    from refbnn import Network
    from refbnn.data import Dataset


def require_propagation(net: Network, model: Path, instead: str) -> None:
    """Raise InputError if moments cannot be propagated through the network."""
    if net.correlation:
        raise InputError(
            f"{model}: layers {sorted(net.correlation)} have correlated weights, which cannot be "
            f"propagated; expected {instead}"
        )


def require_classes(net: Network, model: Path, dataset: Dataset) -> None:
    """Raise InputError unless the network has one output for each class of the data set."""
    outputs = net.check_input(net.shaped(dataset.x[:1]).shape[1:])
    if outputs != (dataset.n_outputs,):
        raise InputError(
            f"{model}: outputs {outputs}; expected {dataset.n_outputs} classes, as {dataset.name} "
            "has"
        )


def sources(inside: Dataset, outside: Dataset | None) -> dict[str, str]:
    """Sources of the data in and out of distribution, for JSON."""
    found = {"in_distribution": inside.source}
    return found if outside is None else {**found, "out_of_distribution": outside.source}
