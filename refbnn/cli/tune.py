"""`refbnn tune`: search the fastest decisions of a network's kernels."""

from __future__ import annotations

import argparse
from pathlib import Path

from refbnn.cli import arguments as options

HELP = "search the fastest schedule of a network's kernels, on this machine, a board or by proxy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, target, effort, place."""
    parser.epilog = (
        "Every finished operator is saved at once. A search that was interrupted goes on where it "
        "was; one that is done with as many trials is not done again. What is searched is "
        "propagation of moments; the kernels of sampled weights and of the deterministic network "
        "have schedules by hand. On an emulated core no time is measured but proxy cycles: "
        "executed instructions, weighted by what that core can do in one cycle. Choose small "
        "batches there. On a board time is measured, and records of time go before those by proxy."
    )
    parser.add_argument("model", metavar="MODEL.npz", type=Path)
    options.add_target(parser)
    options.add_device(parser)
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

    from kernels.devices import targets
    from kernels.network import program
    from kernels.program import records
    from kernels.tuning import tune
    from kernels.tuning.measuring import measure_of
    from refbnn import load

    net = load(arguments.model)
    target, device = targets.target(arguments.target), options.device(arguments)
    folder = arguments.records or records.default_folder()
    networks = [program(net, batch, target) for batch in dict.fromkeys(arguments.batch_size)]
    found = tune.workloads(networks)
    by_proxy = measure_of(device) == records.PROXY_CYCLES
    unit = "proxy cycles" if by_proxy else "µs"
    number = "{:.0f}".format if by_proxy else lambda seconds: f"{1e6 * seconds:.2f}"
    total = sum(tune.n_candidates(step, arguments.trials) for _, step in found.values())
    rows = []
    with tqdm(total=total, desc="tune", unit="schedule", disable=None) as bar:
        for workload, (alone, step) in found.items():
            bar.set_postfix_str(workload)
            record = tune.tune(
                alone, step, arguments.trials, folder, arguments.seed, bar.update, device
            )
            rows.append(
                [
                    workload,
                    _words(step.by_hand),
                    number(record.cost_by_hand),
                    _words(record.decisions),
                    number(record.cost),
                    record.trials,
                ]
            )
    header = ["operator", "by hand", unit, "tuned", unit, "trials"]
    print(tabulate(rows, header, disable_numparse=True, colalign=_ALIGNED))
    if by_proxy:
        print(
            f"\nproxy cycles: executed instructions, weighted by what {target.name} can do in one "
            "cycle; no time was measured"
        )
    print(f"\n{records.path(folder, target)}")
    return []


_ALIGNED = ("left", "left", "right", "left", "right", "right")


def _words(decisions) -> str:
    return ", ".join(f"{name} {value}" for name, value in decisions.items())
