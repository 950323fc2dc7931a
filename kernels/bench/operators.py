"""The operators of a network one by one, each on what the network hands it.

How long the exact moments of a maximum take depends on the numbers (`kernels.maximum.of_window`):
on others an operator would not take the share of the whole that it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kernels.bench import roofline
from kernels.devices import Board
from kernels.devices.targets import Target
from kernels.layers.images import Packs
from kernels.network import program
from kernels.program.kernel import Kernel, build
from kernels.program.program import Program
from refbnn.layers.moments import deterministic
from refbnn.network.network import Network


@dataclass(frozen=True)
class Operator:
    """One layer of the compiled network by itself.

    Parameters
    ----------
    name : str
        Its index and kind.
    alone : Program
    work : Work
    inputs : tuple of ndarray, (batch, ...)
        Mean and variance of what it is given, or what it is given, where that is known.
    """

    name: str
    alone: Program
    work: roofline.Work
    inputs: tuple[np.ndarray, ...]

    def kernel(self, schedule: str, records: Path | None, device: str | Board) -> Kernel:
        """Compile it, with its inputs in place; parameters as of `kernels.program.kernel.build`."""
        kernel = build(self.alone, schedule, records, device)
        layouts = [layout for layout, _ in self.alone.inputs]
        for view, layout, array in zip(kernel.inputs, layouts, self.inputs, strict=True):
            view[...] = layout.by_pack(array) if isinstance(layout, Packs) else array
        return kernel


def one_by_one(net: Network, x: np.ndarray, target: Target) -> Iterator[Operator]:
    """Yield the operators of a network in their order.

    Parameters
    ----------
    net : Network
    x : (batch, ...)
        Input of the first.
    target : Target
    """
    whole = program(net, len(x), target)
    of_layers = net.by_layer(net.propagated_parameters())
    moments = deterministic(x)
    for layer, own, (name, make) in zip(net.layers, of_layers, whole.operators, strict=True):
        alone = make()
        inputs = (moments.mean, moments.var)[: len(alone.inputs)]
        yield Operator(name, alone, roofline.work(layer, alone, "variance"), inputs)
        moments = layer.moments(moments, own)
