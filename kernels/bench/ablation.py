"""Ablation of the hand schedule: a network compiled with one decision more at a time.

The rows follow Table 2 of arXiv 2511.23440: each adds its decision to all before it, over all
operators of the network at once. Linearised propagation has rows of its own, for the schedule of
the pass back; the pass forth is by hand in all of them. Fused multiply-adds have no row: TVM writes
a product and a sum as LLVM's `fmuladd`, one instruction wherever the processor has it, with or
without the target's `fast-math-contract`. Threads have no row: no schedule uses them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import tvm

from kernels.devices import Board
from kernels.devices.targets import Target
from kernels.layers.linearised.images import ONE_BY_ONE
from kernels.network import program
from kernels.program.kernel import Kernel, bind, build, planned, tuned
from kernels.program.program import Program
from refbnn.network.network import Network


def kernels(
    net: Network,
    batch: int,
    target: Target,
    records: Path | None = None,
    device: str | Board = "local",
) -> dict[str, Kernel]:
    """Compile the network for each row: one decision more than the row before.

    Parameters
    ----------
    records : Path, optional
        Folder of records of tuning, for the last row.
    """
    plain = program(net, batch, replace(target, lanes=1), "separate")
    packed = program(net, batch, target, "separate")
    joint = program(net, batch, target)
    ones = {step.workload: dict.fromkeys(step.space, 1) for step in packed.steps}
    recorded = tuned(joint, records)
    built = {
        "loops as computed": build(plain, "default", device=device),
        "weights packed by vectors of outputs": build(packed, "default", device=device),
        "lanes vectorised, sums apart from setting to zero": _scheduled(packed, ones, device),
        "tiles": _scheduled(packed, {}, device, _WithoutUnrolling),
        "tiles unrolled, in registers": _scheduled(packed, {}, device),
        "mean and variance in one loop (hand)": _scheduled(joint, {}, device),
        "decisions from records (tuned)": _scheduled(joint, recorded, device),
    }
    return _on_grey(built)


def of_pass_back(
    net: Network, batch: int, target: Target, device: str | Board = "local"
) -> dict[str, Kernel]:
    """Compile linearised propagation for each row, likewise; the last is the schedule by hand.

    Layers of images have a row more in batches: they go back example by example.

    Raises
    ------
    InputError
        If the network has no linearised kernel.
    """
    whole = program(net, batch, target, method="linearised")
    steps = [step for _, make in whole.operators for step in make().steps]
    of_pass = {step.workload: dict.fromkeys(step.by_hand, 1) for step in steps}
    forth = replace(whole, steps=[s for s in whole.steps if s.workload not in of_pass])
    merged = [s for s in whole.steps if s.workload.startswith(ONE_BY_ONE)]
    apart = replace(whole, steps=[s for s in whole.steps if s not in merged])
    built = {
        "loops as computed": _scheduled(forth, {}, device),
        "lanes vectorised, sums apart from setting to zero": _scheduled(apart, of_pass, device),
        "tiles": _scheduled(apart, {}, device, _WithoutUnrolling),
    }
    unrolled, last = "tiles unrolled, in registers", "layers of images example by example (hand)"
    built[unrolled if merged else f"{unrolled} (hand)"] = _scheduled(apart, {}, device)
    if merged:
        built[last] = _scheduled(whole, {}, device)
    return _on_grey(built)


def _on_grey(built: dict[str, Kernel]) -> dict[str, Kernel]:
    """Give all kernels the same input."""
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
    """Compile with these decisions by workload, and those by hand for all other workloads."""
    plan = kind(planned(network).mod)
    for step in network.steps:
        step.transform(plan, decisions.get(step.workload) or step.by_hand)
    return bind(network, plan.mod, device)


class _WithoutUnrolling(tvm.s_tir.Schedule):
    """A schedule that unrolls no loop; LLVM may still do so."""

    def unroll(self, loop) -> None:
        """Leave the loop as it is."""
