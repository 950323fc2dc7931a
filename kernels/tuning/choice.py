"""Choice: which of the measured candidates replaces the decisions by hand.

One measurement of time is off by some per cent now and then, so the fastest of many is mostly a
lucky one. The best few are therefore measured again in turns with the decisions by hand, these
twice over, and replace them only where they are faster by more than the two copies differ.

Proxy cycles are the same every time, but leave out the cost of fetching and decoding: one wide load
in two instructions costs what it costs in one. So the best is chosen among candidates that execute
at most five per cent more instructions than by hand.

By either measure, a gain of less than one per cent is not worth another schedule.
"""

from __future__ import annotations

import numpy as np

from kernels import devices
from kernels.bench.latency import on_device
from kernels.program.kernel import Kernel, bind
from kernels.program.program import Program, Step
from kernels.tuning.building import sampled
from kernels.tuning.search import BEST, Costs, Point, by_hand

_LEAST_GAIN = 0.01
_MORE_INSTRUCTIONS = 0.05

Choice = tuple[Point, float, float]  # the chosen point, its cost and the cost by hand


def fewest_cycles(program: Program, step: Step, costs: Costs) -> Choice:
    """Choose the point with the fewest proxy cycles."""
    hand = by_hand(step)

    def instructions(point: Point) -> int:
        kernel = bind(program, sampled(program, step, point).mod, "emulated")
        return kernel.instruction_count(*kernel.inputs).total

    better = [p for p in costs if costs[p] < costs[hand] * (1.0 - _LEAST_GAIN)]
    most = (1.0 + _MORE_INSTRUCTIONS) * instructions(hand) if better else 0.0
    ranked = sorted(better, key=costs.__getitem__)
    chosen = next((point for point in ranked if instructions(point) <= most), hand)
    return chosen, costs[chosen], costs[hand]


def fastest(program: Program, step: Step, costs: Costs, device: str | devices.Board) -> Choice:
    """Measure the best points again, in turns with the decisions by hand; choose the fastest."""
    rng = np.random.default_rng(0)
    hand = by_hand(step)
    ranked = sorted(costs, key=costs.__getitem__)
    best = [p for p in ranked if p != hand and np.isfinite(costs[p])][:BEST]
    kernels: dict[object, Kernel] = {}
    for key, point in [("hand", hand), ("hand again", hand), *((p, p) for p in best)]:
        kernel = bind(program, sampled(program, step, point).mod, device)
        for view in kernel.inputs:
            view[...] = rng.random(view.shape)
        kernels[key] = kernel
    # The least of many turns: another program on the core can only add to it.
    times = on_device(kernels, statistic=min)
    hand_time = min(times["hand"], times["hand again"])
    spread = abs(times["hand"] - times["hand again"]) / hand_time
    winner = min(best, key=lambda point: times[point], default=hand)
    if winner == hand or times[winner] > hand_time * (1.0 - max(_LEAST_GAIN, spread)):
        return hand, hand_time, hand_time
    return winner, times[winner], hand_time
