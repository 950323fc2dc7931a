"""Stage 5: every operator against Monte Carlo, every kernel against the reference."""

from __future__ import annotations

from collections.abc import Callable

from refbnn.cli.report import Section, Table
from refbnn.cli.reproduce.part import Part
from verification import Check, Step
from verification.check import FALSE_ALARM


def run(steps: list[Step], n_samples: int, seed: int, tick: Callable[[str], None]) -> Part:
    """Run every step."""
    checks = []
    for step in steps:
        checks += step.run(n_samples, seed)
        tick(f"verify, {step.name}")
    return Part(_section(checks, n_samples), checks=checks)


def table(caption: str, checks: list[Check]) -> Table:
    """Show checks as a table; columns on sampling are left out if no check samples."""
    sampled = any(check.worst is not None for check in checks)
    header = ["check", "deviation", "limit", "unit", "holds", "numbers"]
    header += ["samples", "claimed", "estimated"] if sampled else []
    rows = []
    for check in checks:
        row = [
            check.name,
            f"{check.statistic:.3g}",
            f"{check.limit:.3g}",
            check.unit,
            "yes" if check.holds else "NO",
            f"{check.n_compared:,}",
        ]
        row += [f"{check.n_samples:,}" if check.n_samples else "—", *_worst(check)] * sampled
        rows.append([*row, check.method])
    return Table(caption, [*header, "how"], rows, words=(0, 3, len(header)))


def _worst(check: Check) -> tuple[str, str]:
    """Claimed and estimated value of the number that deviates most."""
    if check.worst is None:
        return "—", "—"
    claimed, estimate, error = check.worst
    return f"{claimed:.6g}", f"{estimate:.6g} ± {error:.1g}"


def _section(checks: list[Check], n_samples: int) -> Section:
    return Section(
        "Verify",
        [
            f"Each operator against Monte Carlo with {n_samples:,} samples, as z-scores: the "
            "difference over its standard error, the largest of all numbers compared; that "
            "number is shown as claimed and as estimated, ± its standard error. The limit is "
            f"Bonferroni's for that many numbers at a false-alarm probability of {FALSE_ALARM:g} a "
            "check. Each kernel against the float64 reference, as a share of a bound on float32 "
            "rounding.",
        ],
        [table("Checks", checks)],
    )
