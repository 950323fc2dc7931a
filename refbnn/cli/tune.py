"""`refbnn tune`: search the fastest decisions of a network's kernels on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from refbnn.cli import arguments as options

HELP = "search the fastest schedule of a network's kernels on this machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, target, effort, place."""
    parser.epilog = (
        "Every finished operator is saved at once. A search that was interrupted goes on where it "
        "was; one that is done with as many trials is not done again. What is searched is "
        "propagation of moments; the kernels of sampled weights and of the deterministic network "
        "have schedules by hand."
    )
    parser.add_argument("model", metavar="MODEL.npz", type=Path)
    options.add_target(parser)
    options.add_batch_sizes(parser)
    parser.add_argument(
        "--trials",
        type=options.integer_from(1),
        default=64,
        metavar="N",
        help="schedules to measure of each operator, at most (default: %(default)s)",
    )
    options.add_records(parser)
    options.add_seed(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    """Search what has no record yet; print the records."""
    from tabulate import tabulate
    from tqdm import tqdm

    from kernels import records, targets, tune
    from kernels.network import program
    from refbnn import load

    net = load(arguments.model)
    target = targets.target(arguments.target)
    folder = arguments.records or records.default_folder()
    networks = [program(net, batch, target) for batch in dict.fromkeys(arguments.batch_size)]
    found = tune.workloads(networks)
    total = sum(tune.n_candidates(step, arguments.trials) for _, step in found.values())
    rows = []
    with tqdm(total=total, desc="tune", unit="schedule", disable=None) as bar:
        for workload, (alone, step) in found.items():
            bar.set_postfix_str(workload)
            record = tune.tune(alone, step, arguments.trials, folder, arguments.seed, bar.update)
            rows.append(
                [
                    workload,
                    _words(step.by_hand),
                    f"{1e6 * record.seconds_by_hand:.2f}",
                    _words(record.decisions),
                    f"{1e6 * record.seconds:.2f}",
                    record.trials,
                ]
            )
    header = ["operator", "by hand", "µs", "tuned", "µs", "trials"]
    print(tabulate(rows, header, disable_numparse=True, colalign=_ALIGNED))
    print(f"\n{records.path(folder, target)}")
    return []


_ALIGNED = ("left", "left", "right", "left", "right", "right")


def _words(decisions) -> str:
    return ", ".join(f"{name} {value}" for name, value in decisions.items())
