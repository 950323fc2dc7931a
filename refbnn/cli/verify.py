"""`refbnn verify`: every operator against Monte Carlo, every kernel against the reference."""

from __future__ import annotations

import argparse

from refbnn.cli import arguments as shared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    shared.add_noise(parser)
    shared.add_mc_samples(parser)
    shared.add_target(parser)
    shared.add_device(parser)
    shared.add_seed(parser)
    shared.add_json(parser, "the table")


def run(arguments: argparse.Namespace) -> list[str]:
    """Print the table; the names of failed checks are returned."""
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    import verification
    from kernels import devices
    from kernels.devices.targets import target as find_target
    from refbnn.cli.output import write_json

    # An unknown name, or one of another machine, is an error now, not in a minute.
    place = shared.device(arguments)
    devices.find(place, find_target(arguments.target))
    fit = shared.fit_noise(*shared.read_noise(arguments))
    steps = verification.steps(fit.laws | verification.SHAPES, arguments.target, place)
    checks = []
    with threadpool_limits(1):
        for step in tqdm(steps, desc="verify", unit="check", disable=None):
            checks += step.run(arguments.mc_samples, arguments.seed)
    rows = verification.as_rows(checks)
    print(verification.as_text(rows))
    write_json(arguments.json, {"checks": rows})
    return [check.name for check in checks if not check.holds]
