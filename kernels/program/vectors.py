"""Schedule of elementwise blocks: whole vectors at a time."""

from __future__ import annotations

from collections.abc import Sequence

import tvm


def schedule(sch: tvm.s_tir.Schedule, decisions, blocks: Sequence[str], lanes: int) -> None:
    """Vectorise the last axis of each block; moments of one formula share a nest of loops."""
    for block in blocks:
        *_, column = sch.get_loops(sch.get_sblock(block))
        _, lane = sch.split(column, [None, lanes])
        sch.vectorize(lane)
