"""The operators of a network one by one: their work, and their time or executed instructions.

Each is measured on what the network hands it: how long the exact moments of a maximum take depends
on the numbers (`kernels.maximum.of_window`). Linearised propagation adds the operators of its pass
back (`kernels.layers.linearised.alone`).

Instructions stand beside two lower bounds, both in whole vectors:

    fused multiply-adds     operations / (2 · lanes), each with a product and a sum a lane
    loads of weights        weights / lanes; an instruction can load two vectors

A batch that fits no tile loads weights more than once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tvm import te

from kernels.bench import roofline
from kernels.bench.latency import on_device
from kernels.devices import Board
from kernels.devices.emulated_arm.innermost_loops import Loop, innermost
from kernels.devices.instructions import InstructionCount, count
from kernels.devices.targets import Target
from kernels.layers.images import Packs
from kernels.network import parts, program
from kernels.program.kernel import Kernel, build
from kernels.program.program import Plain, Program
from refbnn.layers.images.pool_first import pool_first
from refbnn.layers.moments import deterministic
from refbnn.network.network import Network


@dataclass(frozen=True, eq=False)
class Operator:
    """One layer of the compiled network by itself."""

    name: str  # index and kind of the layer, or of the layers that are one operator
    alone: Program
    work: roofline.Work
    inputs: tuple[np.ndarray, ...]  # known values, or mean and variance, (batch, ...)

    def kernel(self, schedule: str, records: Path | None, device: str | Board) -> Kernel:
        """Compile it as `kernels.program.kernel.build` does, with its inputs in place."""
        kernel = build(self.alone, schedule, records, device)
        layouts = [layout for layout, _ in self.alone.inputs]
        for view, layout, array in zip(kernel.inputs, layouts, self.inputs, strict=True):
            view[...] = layout.by_pack(array) if isinstance(layout, Packs) else array
        return kernel


def one_by_one(net: Network, x: np.ndarray, target: Target) -> Iterator[Operator]:
    """Yield the operators of a network in their order, for an input x of shape (batch, ...)."""
    whole = program(net, len(x), target)
    of_layers = net.by_layer(net.propagated_parameters())
    moments = deterministic(x)
    layers = pool_first(net.layers)
    for part, (name, make) in zip(
        parts(layers, of_layers, "variance"), whole.operators, strict=True
    ):
        alone = make()
        weighted = next((layers[index] for index in part if of_layers[index]), layers[part[-1]])
        inputs = (moments.mean, moments.var)[: len(alone.inputs)]
        yield Operator(name, alone, roofline.work(weighted, alone, "variance"), inputs)
        for index in part:
            moments = layers[index].moments(moments, of_layers[index])


def of_pass_back(
    net: Network, x: np.ndarray, target: Target, device: str | Board
) -> Iterator[Operator]:
    """Yield the operators of the pass back of linearised propagation, in its order.

    Raises
    ------
    InputError
        If the network has no linearised kernel.
    """
    whole = program(net, len(x), target, method="linearised")
    made = [(name, make()) for name, make in whole.operators]
    values = _values(whole, x, [t for _, alone in made for t in alone.sources], device)
    for name, alone in made:
        if alone.outputs:
            inputs = tuple([values[tensor] for tensor in alone.sources])
            yield Operator(name, alone, roofline.work_of_pass_back(alone), inputs)


def _values(
    whole: Program, x: np.ndarray, tensors: Iterable[te.Tensor], device: str | Board
) -> dict[te.Tensor, np.ndarray]:
    """Values of tensors of a program for its input x, by a kernel that copies them to outputs."""
    copies = whole.copy()
    copies.outputs.clear()
    copied = list(dict.fromkeys(tensors))
    for n, tensor in enumerate(copied):
        shape = tuple(int(size) for size in tensor.shape)
        copies.give_arrays(Plain(shape), te.compute(shape, tensor.__call__, name=f"copy{n}"))
    return dict(zip(copied, build(copies, "default", device=device)(x), strict=True))


def timed(
    operators: Iterable[Operator],
    target: Target,
    schedules: Sequence[str],
    records: Path | None,
    rate: float,
    device: str | Board = "local",
) -> list[dict]:
    """Time every operator: the kernels alone, without the call from Python, schedules in turns.

    Parameters
    ----------
    operators : iterable of Operator
    target, schedules, records, device
        As in `kernels.bench.comparison.compiled`.
    rate : float
        Result of `kernels.bench.roofline.rate`.

    Returns
    -------
    list of dict
        Entries of the JSON file of `refbnn bench`.
    """
    results = []
    for operator in operators:
        work = operator.work
        by_memory = work.n_bytes / roofline.bandwidth(target, work.n_bytes, device)
        by_arithmetic = work.operations / rate
        limit = max(by_memory, by_arithmetic)
        seconds = on_device({s: operator.kernel(s, records, device) for s in schedules})
        results.append(
            {
                "operator": operator.name,
                "latency_seconds": seconds,
                "memory_bytes": work.n_bytes,
                "operations": work.operations,
                "limit_seconds": limit,
                "limited_by": "memory" if by_memory >= by_arithmetic else "arithmetic",
                "share_of_limit": {schedule: limit / s for schedule, s in seconds.items()},
            }
        )
    return results


@dataclass(frozen=True)
class Counted:
    """Instructions of one operator on the emulated core."""

    name: str
    floor: int  # fused multiply-adds that it needs at least
    weight_vectors: int  # vectors of weights that it loads at least
    products: int  # multiply-accumulates of a weight and an input
    instructions: dict[str, InstructionCount]  # by schedule
    loops: dict[str, Loop | None]  # by schedule, the innermost loop that executes most


def counted(
    operators: Iterable[Operator], target: Target, schedules: Sequence[str], records: Path | None
) -> list[Counted]:
    """Count every operator; parameters as in `timed`."""
    results = []
    for operator in operators:
        work, instructions, loops = operator.work, {}, {}
        for schedule in schedules:
            kernel = operator.kernel(schedule, records, "emulated")
            assert kernel.blocks is not None  # the emulated core has them
            blocks = kernel.blocks()
            instructions[schedule] = count(blocks)
            loops[schedule] = next(iter(innermost(blocks)), None)
        floor = -(-work.operations // (2 * target.lanes))
        weight_vectors = -(-work.n_weights // target.lanes)
        results.append(
            Counted(operator.name, floor, weight_vectors, work.products, instructions, loops)
        )
    return results
