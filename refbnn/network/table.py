"""The table that `repr` of a network shows: layers, output shapes and numbers of weights."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refbnn.network.network import Network


def table(net: Network) -> str:
    """One row a layer; the output shape is "?" where that of the input is unknown."""
    from tabulate import tabulate

    shape, rows = net.input_shape, []
    for index, layer in enumerate(net.layers):
        shape = None if shape is None else layer.output_shape(shape)
        n_weights = sum(map(prod, layer.parameter_shapes().values()))
        rows.append([index, repr(layer), _text(shape), f"{n_weights:,}"])
    rows.append(["", "all", "", f"{net.layout.size:,}"])
    law, prior = type(net.law).__name__, type(net.prior).__name__
    title = f"Network: input {_text(net.input_shape)}, law {law}, prior {prior}"
    headers = ("", "layer", "output", "parameters")
    align = ("right", "left", "left", "right")
    body = tabulate(rows, headers, colalign=align, disable_numparse=True)
    return f"{title}\n{body}"


def _text(shape: tuple[int, ...] | None) -> str:
    return "?" if shape is None else "×".join(map(str, shape))
