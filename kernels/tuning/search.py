"""Search: which decisions of a step are measured next.

A space of no more points than trials is measured whole. Of a larger one, half of each round of
candidates is drawn evenly, half changes one decision of one of the best so far (a neighbouring
value, most often), or of those by hand in the first round. Decisions by hand are the first
candidate; none is measured twice.

Meta Schedule's own strategies would repeat candidates, and cannot mutate these: its mutators know
tiles of perfect size only. They are not used, nor its tuning context, which parses tensor
intrinsics of graphics processors for a minute before it begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from math import prod

import numpy as np

from kernels.program.program import Step

Point = tuple[int, ...]  # decisions, in the order of the space
Costs = dict[Point, float]  # in seconds, or in proxy cycles; infinite where it failed

BEST = 4  # of which candidates are mutated, and which are measured again


def named(step: Step, point: Point) -> dict[str, int]:
    """The decisions of a point, by name."""
    return dict(zip(step.space, point, strict=True))


def by_hand(step: Step) -> Point:
    """The point of the decisions by hand."""
    return tuple(step.by_hand[name] for name in step.space)


def candidates(step: Step, costs: Costs, rng: np.random.Generator, wanted: int) -> Iterator[Point]:
    """What to measure next, up to `wanted` in all, each once.

    Parameters
    ----------
    step : Step
    costs : dict
        What is measured already.
    rng : Generator
    wanted : int
        At most as many as the space has points.
    """
    values = [list(v) for v in step.space.values()]
    seen = set(costs)

    def new(points: Iterable[Point]) -> Iterator[Point]:
        for point in points:
            if len(seen) >= wanted:
                return
            if point not in seen:
                seen.add(point)
                yield point

    yield from new([by_hand(step)])
    if wanted == prod(map(len, values)):
        everything = list(product(*values))
        yield from new(everything[i] for i in rng.permutation(len(everything)))
        return
    best = sorted(costs, key=costs.__getitem__)[:BEST] or [by_hand(step)]

    def drawn() -> Iterator[Point]:
        while True:
            yield tuple(int(rng.choice(v)) for v in values)
            yield _mutated(best[rng.integers(len(best))], values, rng)

    yield from new(drawn())


def _mutated(point: Point, values: list[list[int]], rng: np.random.Generator) -> Point:
    """The point with one decision changed: two times of three by one place, else at random."""
    axis = int(rng.integers(len(point)))
    choices, changed = values[axis], list(point)
    if rng.random() < 2 / 3:
        place = choices.index(point[axis]) + int(rng.choice([-1, 1]))
        changed[axis] = choices[min(max(place, 0), len(choices) - 1)]
    else:
        changed[axis] = int(rng.choice(choices))
    return tuple(changed)
