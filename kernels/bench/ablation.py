"""What each decision of the hand schedule brings: a network compiled with one more at a time.

The rows are those of Table 2 of arXiv 2511.23440, as they are here: each adds its decision to all
before it, over all operators of the network at once. Fused multiply-adds are no row: TVM writes
a product and a sum as LLVM's `fmuladd`, one instruction wherever the processor has it, with or
without the target's `fast-math-contract`. Nor are threads: no schedule uses them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import tvm

from kernels.bench.latency import on_device
from kernels.devices import Board
from kernels.devices.targets import Target
from kernels.network import program
from kernels.program.kernel import Kernel, bind, build, planned, tuned
from kernels.program.program import Program
from refbnn.network.network import Network


def seconds(
    net: Network, batch: int, target: Target, folder=None, device: str | Board = "local"
) -> dict[str, float]:
    """Time of one run by decision, each added to those before it; parameters as of `kernels`."""
    return on_device(kernels(net, batch, target, folder, device))


def instructions(net: Network, batch: int, target: Target, folder=None) -> dict[str, int]:
    """Executed instructions of one run on the emulated core, likewise."""
    built = kernels(net, batch, target, folder, "emulated")
    return {name: kernel.instruction_count(*kernel.inputs).total for name, kernel in built.items()}


def kernels(
    net: Network, batch: int, target: Target, folder=None, device: str | Board = "local"
) -> dict[str, Kernel]:
    """The network by decision, each added to those before it.

    Parameters
    ----------
    net : Network
    batch : int
    target : Target
    folder : path, optional
        Of records for the last row.
    device : str or Board
    """
    plain = program(net, batch, replace(target, lanes=1), "separate")
    packed = program(net, batch, target, "separate")
    joint = program(net, batch, target)
    ones = {step.workload: dict.fromkeys(step.space, 1) for step in packed.steps}
    decided = tuned(joint, folder)
    built = {
        "loops as computed": build(plain, "default", device=device),
        "weights packed by vectors of outputs": build(packed, "default", device=device),
        "lanes vectorised, sums apart from setting to zero": _scheduled(packed, ones, device),
        "tiles": _scheduled(packed, {}, device, _Rolled),
        "tiles unrolled, in registers": _scheduled(packed, {}, device),
        "mean and variance in one loop (hand)": _scheduled(joint, {}, device),
        "decisions from records (tuned)": _scheduled(joint, decided, device),
    }
    for kernel in built.values():
        for view in kernel.inputs:
            view[...] = 0.5
    return built


def _scheduled(
    network: Program,
    decisions: Mapping[str, Mapping[str, int]],
    device: str | Board,
    kind: type[tvm.s_tir.Schedule] = tvm.s_tir.Schedule,
) -> Kernel:
    """By hand, with other decisions for some workloads."""
    plan = kind(planned(network).mod)
    for step in network.steps:
        step.transform(plan, decisions.get(step.workload) or step.by_hand)
    return bind(network, plan.mod, device)


class _Rolled(tvm.s_tir.Schedule):
    """A schedule that does not unroll what it is told to; LLVM may still."""

    def unroll(self, loop) -> None:
        """Leave the loop as it is."""
