"""`refbnn verify`: every operator against Monte Carlo, every kernel against the reference."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from refbnn.cli import arguments as options

HELP = "hold every operator against Monte Carlo and every kernel against the reference"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    options.add_noise(parser)
    options.add_samples(parser)
    options.add_target(parser)
    options.add_seed(parser)
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the table as JSON")


def run(arguments: argparse.Namespace) -> list[str]:
    """Print the table; names of the checks that do not hold."""
    from tqdm import tqdm

    import verification
    from refbnn.cli.report import write_atomically
    from refbnn.noise import fit

    values, _, _ = options.read_noise(arguments)
    steps = verification.steps(fit(values).laws, arguments.target)
    checks = []
    for step in tqdm(steps, desc="verify", unit="check", disable=None):
        checks += step.run(arguments.mc_samples, arguments.seed)
    rows = verification.as_rows(checks)
    print(verification.as_text(rows))
    if arguments.json is not None:
        write_atomically(arguments.json, json.dumps({"checks": rows}, indent=1) + "\n")
    return [check.name for check in checks if not check.holds]
