"""The result of one stage of `refbnn reproduce`."""

from __future__ import annotations

from dataclasses import dataclass, field

from refbnn.cli.report import Section
from verification import Check


@dataclass(frozen=True, eq=False)
class Part:
    """A section of the page, entries of report.json, and checks; timings differ between runs."""

    section: Section
    numbers: dict = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    timings: dict = field(default_factory=dict)
