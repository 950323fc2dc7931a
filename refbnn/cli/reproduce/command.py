"""`refbnn reproduce`: from measured noise to a verified kernel, and a report of it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from refbnn.cli import arguments as shared

if TYPE_CHECKING:
    from refbnn.cli.reproduce.part import Part


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "-o",
        "--out",
        metavar="FOLDER",
        type=Path,
        default=Path("report"),
        help="report to write (default: %(default)s)",
    )
    shared.add_noise(parser)
    shared.add_integer(parser, "--epochs", 1, 30, "training passes over the data")
    shared.add_mc_samples(parser)
    shared.add_target(parser)
    shared.add_seed(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    """Write the report; the names of failed checks are returned."""
    from threadpoolctl import threadpool_limits

    import verification
    from kernels import devices
    from kernels.devices.targets import target as find_target
    from refbnn.cli import report
    from refbnn.cli.malloc import keep_freed_memory
    from refbnn.cli.reproduce.stages import overview

    keep_freed_memory()
    # An unknown name, or one of another machine, is an error now, not in minutes.
    devices.find("local", find_target(arguments.target))
    noise = shared.read_noise(arguments)
    begin = time.perf_counter()
    # One thread for linear algebra: latencies then compare single cores, and sums do not depend on
    # how many a machine has.
    with threadpool_limits(1), report.folder(arguments.out) as work:
        *own, verified = parts = _run_stages(arguments, noise, work)
        elapsed = time.perf_counter() - begin
        checks_of_chain = [check for part in own for check in part.checks]
        checks = [*checks_of_chain, *verified.checks]
        head = overview.run(arguments, noise[-1], checks_of_chain, checks, elapsed)
        numbers: dict = {"checks": verification.as_rows(checks)}
        numbers["timings"] = {"total_seconds": elapsed}
        for part in (head, *parts):
            numbers |= part.numbers
            numbers["timings"] |= part.timings
        title = "refbnn: from measured noise to a verified kernel"
        report.write(work, title, [part.section for part in (head, *parts)], numbers)
    print(arguments.out / "index.html")
    return [check.name for check in checks if not check.holds]


def _run_stages(arguments: argparse.Namespace, noise: tuple, work: Path) -> list[Part]:
    """Run one stage after the other; verification comes last."""
    import verification
    from refbnn.cli.output import progress
    from refbnn.cli.reproduce.stages import compiling, propagation, training, verifying
    from refbnn.cli.reproduce.stages import noise as fitting

    seed, target = arguments.seed, arguments.target
    values, column, source = noise
    fit = shared.fit_noise(values, column, source)
    fitted = fitting.run(fit, values, column, source, work)
    steps = verification.steps(fit.laws, target, "local")
    total = len(fit.laws) * (arguments.epochs + 1) + 2 + len(steps)
    with progress("reproduce", total) as tick:
        networks, trained = training.run(fit.laws, arguments.epochs, seed, tick)
        propagated = propagation.run(networks, seed, work, tick)
        compiled = compiling.run(networks, target, seed, tick)
        verified = verifying.run(steps, arguments.mc_samples, seed, tick)
    return [fitted, trained, propagated, compiled, verified]
