"""`refbnn verify`: every operator against Monte Carlo, every kernel against the reference."""

from __future__ import annotations

import argparse
from pathlib import Path

from refbnn.cli import arguments as options
from refbnn.files.atomic import require_writable, write_text

HELP = "hold every operator against Monte Carlo and every kernel against the reference"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    options.add_noise(parser)
    options.add_samples(parser)
    options.add_target(parser)
    options.add_device(parser)
    options.add_seed(parser)
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the table as JSON")


def run(arguments: argparse.Namespace) -> list[str]:
    """Print the table; names of the checks that do not hold."""
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    import verification
    from kernels import devices
    from kernels.devices.targets import target as find_target
    from refbnn.cli import report

    # An unknown name, or one of another machine, is an error now, not in a minute.
    device = options.device(arguments)
    devices.find(device, find_target(arguments.target))
    if arguments.json is not None:
        require_writable(arguments.json)
    fit = options.fit_noise(*options.read_noise(arguments))
    steps = verification.steps(fit.laws | verification.SHAPES, arguments.target, device)
    checks = []
    with threadpool_limits(1):
        for step in tqdm(steps, desc="verify", unit="check", disable=None):
            checks += step.run(arguments.mc_samples, arguments.seed)
    rows = verification.as_rows(checks)
    print(verification.as_text(rows))
    if arguments.json is not None:
        write_text(arguments.json, report.as_json({"checks": rows}))
    return [check.name for check in checks if not check.holds]
