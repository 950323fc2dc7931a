"""The head of the report: what ran, with which versions, and whether everything held."""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import version

import refbnn
from refbnn.cli.report import Section, Table
from refbnn.cli.reproduce.part import Part
from refbnn.cli.reproduce.stages.verifying import table
from verification import Check

_PACKAGES = ("numpy", "scipy", "numba", "apache-tvm", "apache-tvm-ffi")


def run(
    arguments: argparse.Namespace,
    source: str,
    own: list[Check],
    checks: list[Check],
    elapsed: float,
) -> Part:
    """Sum up; `own` are the checks of the chain itself, beside those of verification."""
    versions = {"python": platform.python_version(), "refbnn": refbnn.__version__}
    versions |= {name: version(name) for name in _PACKAGES}
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
    return Part(section, {"settings": settings, "versions": versions})
