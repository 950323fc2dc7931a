"""`refbnn reproduce`: from measured noise to a verified kernel, and a report of it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from refbnn.cli import arguments as options

HELP = "run the whole chain, from measured noise to a verified kernel, and write a report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "-o",
        "--out",
        metavar="FOLDER",
        type=Path,
        default=Path("report"),
        help="report to write (default: %(default)s)",
    )
    options.add_noise(parser)
    parser.add_argument(
        "--epochs",
        type=options.integer_from(1),
        default=30,
        metavar="N",
        help="training passes over the data (default: %(default)s)",
    )
    options.add_samples(parser)
    options.add_target(parser)
    options.add_seed(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    """Write the report; names of the checks that do not hold."""
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    import verification
    from kernels import devices
    from kernels.devices.targets import target as find_target
    from refbnn.cli import report
    from refbnn.cli.malloc import keep_freed_memory
    from refbnn.cli.reproduce.stages import (
        compiling,
        noise,
        overview,
        propagation,
        training,
        verifying,
    )

    keep_freed_memory()
    # An unknown name, or one of another machine, is an error now, not in minutes.
    devices.find("local", find_target(arguments.target))
    values, column, source = options.read_noise(arguments)
    seed = arguments.seed
    begin = time.perf_counter()
    # One thread for linear algebra: latencies then compare single cores, and sums do not depend on
    # how many a machine has.
    with threadpool_limits(1), report.folder(arguments.out) as work:
        fit = options.fit_noise(values, column, source)
        noisy = noise.run(fit, values, column, source, work)
        steps = verification.steps(fit.laws, arguments.target, "local")
        total = len(fit.laws) * (arguments.epochs + 1) + 2 + len(steps)
        with tqdm(total=total, desc="reproduce", unit="step", disable=None) as bar:

            def tick(what: str) -> None:
                bar.set_postfix_str(what, refresh=False)
                bar.update()

            trained = training.run(fit.laws, arguments.epochs, seed, tick)
            propagated = propagation.run(trained.networks, seed, work, tick)
            compiled = compiling.run(trained.networks, arguments.target, seed, tick)
            verified = verifying.run(steps, arguments.mc_samples, seed, tick)
        elapsed = time.perf_counter() - begin
        own = [*noisy.checks, *propagated.checks, *compiled.checks]
        checks = [*own, *verified.checks]
        head = overview.run(arguments, source, own, checks, elapsed)
        numbers = {
            **head.numbers,
            **noisy.numbers,
            **trained.numbers,
            **propagated.numbers,
            **compiled.numbers,
            "checks": verification.as_rows(checks),
            "timings": {"total_seconds": elapsed, **compiled.timings},
        }
        sections = [
            head.section,
            noisy.section,
            trained.section,
            propagated.section,
            compiled.section,
            verified.section,
        ]
        report.write(work, "refbnn: from measured noise to a verified kernel", sections, numbers)
    print(arguments.out / "index.html")
    return [check.name for check in checks if not check.holds]
