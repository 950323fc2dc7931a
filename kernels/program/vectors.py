"""Schedule of elementwise blocks: whole vectors at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import tvm

from kernels.program.program import Program, Step


def add_step(program: Program, workload: str, blocks: Sequence[str]) -> None:
    """Let a program compute these blocks by whole vectors."""
    transform = partial(schedule, blocks=blocks, lanes=program.target.lanes)
    program.steps.append(Step(workload, {}, {}, transform))


def schedule(sch: tvm.s_tir.Schedule, decisions, blocks: Sequence[str], lanes: int) -> None:
    """Vectorise the last axis of each block; moments of one formula share a nest of loops."""
    for block in blocks:
        *_, column = sch.get_loops(sch.get_sblock(block))
        _, lane = sch.split(column, [None, lanes])
        sch.vectorize(lane)
