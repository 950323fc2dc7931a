"""Result of one stage of `refbnn reproduce`, and the images that stages share."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from refbnn.cli.report import Section
from refbnn.data import Dataset
from verification import Check


@dataclass(frozen=True, eq=False)
class Part:
    """A section of the page, entries of report.json, and checks; timings differ between runs."""

    section: Section
    numbers: dict = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    timings: dict = field(default_factory=dict)


def rows(examples: Dataset) -> np.ndarray:
    """Images as rows (N, pixels) in float64: the nearest k/255, exact where data holds float32."""
    return np.rint(255.0 * examples.x).astype(float).reshape(len(examples), -1) / 255.0
