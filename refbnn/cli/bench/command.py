"""`refbnn bench`: how long a network takes, by operator, schedule and batch size, beside others.

On the emulated core, which has no clock, it counts executed instructions instead. `latency` and
`instructions` measure, each with the same functions; `tables` holds what both show.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from refbnn.cli import arguments as shared
from refbnn.cli.bench import instructions, latency, tables
from refbnn.cli.bench.inputs import DIGITS, Inputs, inputs
from refbnn.cli.bench.tables import Job
from refbnn.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.epilog = (
        "Measures whole calls from Python on one core, in turns in one run: medians. Zeros of an "
        'input are skipped, so that the time depends on it: rows that end in "without zeros" '
        "are of random numbers. Measures operators alone, without the call from Python, on what "
        "the network hands them: those of propagation, and then those of the pass back of "
        "linearised propagation. The limit is the time in which this core could move their bytes "
        "at its bandwidth, or do their operations at its rate of fused multiply-adds; it counts "
        "all inputs, and a layer that skips zeros can pass it. Records of "
        'tuning are of propagation: without one, "tuned" is by hand, as it is for the mean and for '
        "sampling. A board runs kernels alone, by its clock. The emulated core counts executed "
        "instructions by class, beside the fused multiply-adds of whole vectors that are needed; "
        "for each operator it shows the innermost loop that executes most, with the cycles that "
        "OSACA and llvm-mca predict for it, where they are installed."
    )
    shared.add_model(parser)
    shared.add_target(parser)
    shared.add_device(parser)
    shared.add_batch_sizes(parser, "1 10 256; 1 10 on the emulated core")
    parser.set_defaults(batch_size=None)
    parser.add_argument(
        "--schedule",
        metavar="NAME",
        nargs="+",
        help="schedules to measure: default, hand, tuned (default: all)",
    )
    parser.add_argument(
        "--data",
        metavar="DATA",
        help=f"data set whose test split is measured on (default: {DIGITS} where a network has as "
        "many inputs, else random numbers)",
    )
    parser.add_argument(
        "--max-pool",
        metavar="METHOD",
        help="take the moments of max pooling by this method everywhere in this run, instead of "
        "the network's own: window, with the covariance of a convolution's outputs; exact, of "
        "independent entries, by quadrature; tree, by Clark's approximation in pairs, "
        "faster and less accurate",
    )
    shared.add_records(parser)
    parser.add_argument(
        "--peers", action="store_true", help="also measure other tools, where they are installed"
    )
    parser.add_argument(
        "--ablation", action="store_true", help="also show what each decision of a schedule brings"
    )
    shared.add_json(parser)
    shared.add_plot(parser, "latencies, or executed instructions, of whole networks")


def run(arguments: argparse.Namespace) -> list[str]:
    """Print the tables."""
    from importlib.metadata import version

    from threadpoolctl import threadpool_limits

    from kernels import devices
    from kernels.devices import targets
    from kernels.network import input_layout
    from kernels.program import kernel, records
    from refbnn.cli.output import plotter, progress, write_json

    plot = plotter(arguments.plot, "latencies")
    target, device = targets.target(arguments.target), shared.device(arguments)
    devices.find(device, target)  # before the work, not after it
    if arguments.peers and device != "local":
        raise InputError("--peers: other tools run on this machine alone; expected --device local")
    net = _network(arguments.model, arguments.max_pool)
    schedules = list(dict.fromkeys(arguments.schedule or kernel.SCHEDULES))
    for schedule in schedules:
        shared.require_one_of("--schedule", schedule, kernel.SCHEDULES)
    job = Job(net, target, device, schedules, arguments.records, arguments.peers)
    measure, sizes = (instructions, [1, 10]) if device == "emulated" else (latency, [1, 10, 256])
    batches = list(dict.fromkeys(arguments.batch_size or sizes))
    shape = input_layout(net, target).shape
    x = [inputs(net, arguments.data, shape, batch) for batch in batches]
    with threadpool_limits(1), progress("bench", 4 * len(batches) + 1) as tick:
        core = measure.core(job)
        tick("core")
        results = [_numbers(measure, job, given, core, arguments.ablation, tick) for given in x]
    processor = records.processor(target)
    versions = {name: version(name) for name in ("apache-tvm", "numpy", "numba")}
    print(f"{processor['mcpu']}, {measure.described(core)}")
    print(", ".join(f"{name} {number}" for name, number in versions.items()))
    for result in results:
        print(f"\nBatch size {result['batch_size']}: {result['inputs']}\n")
        measure.show(result, schedules)
        tables.show_sizes(result["size_bytes"])
        for key, values in result.items():
            if key.endswith(f"ablation_{measure.MEASURED}"):
                print()
                tables.show_ablation(key, values, *measure.UNIT)
    machine = {"processor": processor, "device": str(device), **core, "versions": versions}
    write_json(arguments.json, {"machine": machine, "by_batch_size": results})
    plot(results, f"{arguments.model.name} on {processor['mcpu']}, {measure.described(core)}")
    return []


def _numbers(
    measure, job: Job, given: Inputs, core: dict, with_ablation: bool, tick: Callable[[str], None]
) -> dict:
    """Measure one batch size."""
    from kernels.network import program

    batch = len(given.x)
    whole = program(job.net, batch, job.target)
    result = tables.head(job.net, whole, job.schedules, job.records)
    result["inputs"] = given.text
    result |= measure.networks(job, given)
    tick(f"networks, batch {batch}")
    result |= measure.operators(job, given.x, core)
    tick(f"operators, batch {batch}")
    result["size_bytes"] = tables.sizes(whole, job)
    tick(f"sizes, batch {batch}")
    if with_ablation:
        for key, kernels in tables.ablations(job, batch).items():
            result[f"{key}_{measure.MEASURED}"] = measure.decisions(kernels)
    tick(f"decisions, batch {batch}")
    return result


def _network(model: Path, max_pool: str | None):
    """Load the network; max pooling by another method if one is named."""
    from refbnn import load
    from refbnn.layers import MaxPool2d

    net = load(model)
    if max_pool is None:
        return net
    if not any(isinstance(layer, MaxPool2d) for layer in net.layers):
        raise InputError(f"--max-pool: {model} has no MaxPool2d; expected one")
    net.layers = [
        replace(layer, method=max_pool) if isinstance(layer, MaxPool2d) else layer
        for layer in net.layers
    ]
    return net
