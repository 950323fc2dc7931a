"""`refbnn tune`: search the fastest decisions of a network's kernels."""

from __future__ import annotations

import argparse

from refbnn.cli import arguments as shared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.epilog = (
        "The search saves every operator as soon as it is finished. After an interruption it goes "
        "on where it was, and it skips operators that were searched with as many trials. It "
        "searches the propagation of moments; the kernels of sampled weights and of the "
        "deterministic network have schedules by hand. An emulated core has no clock: there the "
        "search minimises proxy cycles, that is executed instructions, weighted by what that core "
        "can do in one cycle. Choose small batches there. On a board the search measures time, and "
        "records of time take precedence over those by proxy."
    )
    shared.add_model(parser)
    shared.add_target(parser)
    shared.add_device(parser)
    shared.add_batch_sizes(parser)
    shared.add_integer(
        parser, "--trials", 1, 64, "greatest number of schedules to measure, per operator"
    )
    shared.add_records(parser)
    shared.add_json(parser, "the table")
    shared.add_seed(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    """Search what has no record yet; print the records."""
    from tqdm import tqdm

    from kernels import devices
    from kernels.devices import targets
    from kernels.network import program
    from kernels.program import records
    from kernels.tuning import tune
    from kernels.tuning.measuring import measure_of
    from refbnn import load
    from refbnn.cli.output import print_table, write_json

    net = load(arguments.model)
    target, place = targets.target(arguments.target), shared.device(arguments)
    devices.find(place, target)
    folder = arguments.records or records.default_folder()
    networks = [program(net, batch, target) for batch in dict.fromkeys(arguments.batch_size)]
    found = tune.workloads(networks)
    by_proxy = measure_of(place) == records.PROXY_CYCLES
    unit = "proxy cycles" if by_proxy else "µs"
    number = "{:.0f}".format if by_proxy else lambda seconds: f"{1e6 * seconds:.2f}"
    total = sum(tune.n_candidates(step, arguments.trials) for _, step in found.values())
    rows, numbers = [], []
    with tqdm(total=total, desc="tune", unit="schedule", disable=None) as bar:
        for workload, (alone, step) in found.items():
            bar.set_postfix_str(workload)
            record = tune.tune(
                alone, step, arguments.trials, folder, arguments.seed, bar.update, place
            )
            by_hand = [_words(step.by_hand), number(record.cost_by_hand)]
            tuned = [_words(record.decisions), number(record.cost), str(record.trials)]
            rows.append([workload, *by_hand, *tuned])
            key = "proxy_cycles" if by_proxy else "seconds"
            numbers.append(
                {
                    "operator": workload,
                    "by_hand": {"decisions": step.by_hand, key: record.cost_by_hand},
                    "tuned": {"decisions": record.decisions, key: record.cost},
                    "trials": record.trials,
                }
            )
    print_table(["operator", "by hand", unit, "tuned", unit, "trials"], rows, left=(0, 1, 3))
    if by_proxy:
        print(
            f"\nproxy cycles: executed instructions, weighted by what {target.name} can do in one "
            "cycle; no time was measured"
        )
    print(f"\n{records.path(folder, target)}")
    write_json(arguments.json, {"operators": numbers})
    return []


def _words(decisions) -> str:
    return ", ".join(f"{name} {value}" for name, value in decisions.items())
