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

from kernels.bench import latency
from kernels.kernel import Kernel, bind, lowered, planned, tuned
from kernels.network import program
from kernels.program import Program
from kernels.targets import Target
from refbnn.network import Network


def ablation(net: Network, batch: int, target: Target, folder=None) -> dict[str, float]:
    """Seconds of one call by decision, each added to those before it.

    Parameters
    ----------
    net : Network
    batch : int
    target : Target
    folder : path, optional
        Of records for the last row.
    """
    plain = program(net, batch, replace(target, lanes=1), "separate")
    packed = program(net, batch, target, "separate")
    joint = program(net, batch, target)
    ones = {step.workload: dict.fromkeys(step.space, 1) for step in packed.steps}
    kernels = {
        "loops as computed": bind(plain, lowered(plain, "default")),
        "weights packed by vectors of outputs": bind(packed, lowered(packed, "default")),
        "lanes vectorised, sums apart from setting to zero": _scheduled(packed, ones),
        "tiles": _scheduled(packed, {}, _Rolled),
        "tiles unrolled, in registers": _scheduled(packed, {}),
        "mean and variance in one loop (hand)": _scheduled(joint, {}),
        "decisions from records (tuned)": _scheduled(joint, tuned(joint, folder)),
    }
    for kernel in kernels.values():
        for view in kernel.inputs:
            view[...] = 0.5
    return latency({name: kernel.run for name, kernel in kernels.items()})


def _scheduled(
    network: Program,
    decisions: Mapping[str, Mapping[str, int]],
    kind: type[tvm.s_tir.Schedule] = tvm.s_tir.Schedule,
) -> Kernel:
    """By hand, with other decisions for some workloads."""
    plan = kind(planned(network).mod)
    for step in network.steps:
        step.transform(plan, decisions.get(step.workload) or step.by_hand)
    return bind(network, plan.mod)


class _Rolled(tvm.s_tir.Schedule):
    """A schedule that does not unroll what it is told to; LLVM may still."""

    def unroll(self, loop) -> None:
        """Leave the loop as it is."""
