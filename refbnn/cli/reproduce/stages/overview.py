"""The head of the report: what ran, with which versions, and whether everything held."""

from __future__ import annotations

import argparse
import platform
from dataclasses import dataclass
from importlib.metadata import version

from refbnn.cli.report import Section, Table
from refbnn.cli.reproduce.stages.verifying import table
from verification import Check

_PACKAGES = ("refbnn", "numpy", "scipy", "numba", "apache-tvm", "apache-tvm-ffi")


@dataclass(frozen=True)
class Overview:
    """The first section and what identifies the run."""

    section: Section
    numbers: dict


def run(
    arguments: argparse.Namespace,
    source: str,
    own: list[Check],
    checks: list[Check],
    elapsed: float,
) -> Overview:
    """Sum up; `own` are the checks of the chain itself, beside those of verification."""
    versions = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    settings = {
        "seed": arguments.seed,
        "epochs": arguments.epochs,
        "mc_samples": arguments.mc_samples,
        "target": arguments.target,
        "noise_source": source,
    }
    failed = [check.name for check in checks if not check.holds]
    verdict = (
        f"All {len(checks)} checks hold."
        if not failed
        else f"{len(failed)} of {len(checks)} checks do not hold: {'; '.join(failed)}."
    )
    section = Section(
        "Overview",
        [
            f"{verdict} The run took {elapsed:.0f} s. A law is fitted to device values, a Bayesian "
            "network trained with weights of that shape, its uncertainty propagated, the "
            "propagation compiled, and every operator held against an independent computation. "
            "The same numbers stand in report.json; with the same seed, versions and machine they "
            "come out again, timings aside.",
        ],
        [
            Table("Settings", ["", "value"], [[k, str(v)] for k, v in settings.items()], (0, 1)),
            Table("Versions", ["", "version"], [[k, v] for k, v in versions.items()], (0, 1)),
            table("Checks of the chain itself (those of the operators are under Verify)", own),
        ],
    )
    return Overview(section, {"settings": settings, "versions": versions})
