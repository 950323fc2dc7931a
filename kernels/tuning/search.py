"""Search: which decisions of a step are measured next.

A space of no more points than trials is measured whole. In a larger space, half of each round of
candidates is drawn evenly. The other half changes one decision (most often to a neighbouring value)
of one of the best so far, or of the decisions by hand in the first round. Decisions by hand are the
first candidate; no candidate is measured twice.

Meta Schedule's own strategies would repeat candidates and cannot mutate these: its mutators know
tiles of perfect size only. Its tuning context parses tensor intrinsics of graphics processors for a
minute before it begins. So neither is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from math import prod

import numpy as np

from kernels.program.program import Step

Point = tuple[int, ...]  # decisions, in the order of the space
Costs = dict[Point, float]  # in seconds, or in proxy cycles; infinite where it failed

BEST = 4  # candidates that are mutated, and measured again at the end


def decisions_at(step: Step, point: Point) -> dict[str, int]:
    """Decisions of a point, by name."""
    return dict(zip(step.space, point, strict=True))


def by_hand(step: Step) -> Point:
    """Point of the decisions by hand."""
    return tuple(step.by_hand[name] for name in step.space)


def candidates(step: Step, costs: Costs, rng: np.random.Generator, wanted: int) -> Iterator[Point]:
    """Yield points to measure next, each once.

    Parameters
    ----------
    step : Step
    costs : dict
        Points measured already.
    rng : Generator
    wanted : int
        Points in all, with those in `costs`; at most as many as the space has.
    """
    values = [list(v) for v in step.space.values()]
    known = set(costs)

    def new(points: Iterable[Point]) -> Iterator[Point]:
        for point in points:
            if len(known) >= wanted:
                return
            if point not in known:
                known.add(point)
                yield point

    yield from new([by_hand(step)])
    if wanted == prod(map(len, values)):
        everything = list(product(*values))
        yield from new(everything[i] for i in rng.permutation(len(everything)))
        return
    best = sorted(costs, key=costs.__getitem__)[:BEST] or [by_hand(step)]

    def random_points() -> Iterator[Point]:
        while True:
            yield tuple(int(rng.choice(v)) for v in values)
            yield _mutated(best[rng.integers(len(best))], values, rng)

    yield from new(random_points())


def _mutated(point: Point, values: list[list[int]], rng: np.random.Generator) -> Point:
    """Change one decision: to a neighbouring value two times of three, else at random."""
    axis = int(rng.integers(len(point)))
    choices, changed = values[axis], list(point)
    if rng.random() < 2 / 3:
        index = choices.index(point[axis]) + int(rng.choice([-1, 1]))
        changed[axis] = choices[min(max(index, 0), len(choices) - 1)]
    else:
        changed[axis] = int(rng.choice(choices))
    return tuple(changed)
