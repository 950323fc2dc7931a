"""`refbnn bench`: how long a network takes, by operator, schedule and batch size, beside others.

On the emulated core, which has no clock: how many instructions it executes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from refbnn.cli import arguments as options
from refbnn.cli.report import as_json
from refbnn.errors import InputError
from refbnn.files.atomic import require_writable, write_text

HELP = "measure a network's kernels by operator and batch size, beside NumPy, Numba and other tools"
_SCHEDULES = ("default", "hand", "tuned")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, what to measure, where to write."""
    parser.epilog = (
        "Whole calls from Python on one core, in turns in one run: medians. Operators by "
        "themselves, without the call from Python, on what the network hands them of an input of "
        "random numbers. The limit is the time in which this core could "
        "move their bytes at its bandwidth, or do their operations at its rate of fused "
        'multiply-adds. Records of tuning are of propagation: where there are none, "tuned" '
        "is by hand, as it is for the mean and for sampling. On a board, kernels alone, by its "
        "clock. On the emulated core, executed instructions by class, beside the fused "
        "multiply-adds of whole vectors that are needed; and for each operator the innermost loop "
        "that executes most, with the cycles that OSACA and llvm-mca predict of it, where they are "
        "installed."
    )
    parser.add_argument("model", metavar="MODEL.npz", type=Path)
    options.add_target(parser)
    options.add_device(parser)
    options.add_batch_sizes(parser, "1 10 256; 1 10 on the emulated core")
    parser.set_defaults(batch_size=None)
    parser.add_argument(
        "--schedule",
        choices=_SCHEDULES,
        nargs="+",
        default=list(_SCHEDULES),
        help="schedules to measure (default: all)",
    )
    parser.add_argument(
        "--max-pool",
        metavar="METHOD",
        help="moments of max pooling by this method, instead of the network's own, everywhere in "
        "this run: exact, by quadrature; tree, by Clark's approximation in "
        "pairs, faster and less accurate",
    )
    options.add_records(parser)
    parser.add_argument(
        "--peers", action="store_true", help="also measure other tools, those that are installed"
    )
    parser.add_argument(
        "--ablation", action="store_true", help="also show what each decision of a schedule brings"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the numbers as JSON")


def run(arguments: argparse.Namespace) -> list[str]:
    """Print the tables."""
    from importlib.metadata import version

    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    from kernels import devices
    from kernels.devices import targets
    from kernels.program import records
    from refbnn.cli.bench import instructions as bench_instructions
    from refbnn.cli.bench import latency as bench_latency

    target, device = targets.target(arguments.target), options.device(arguments)
    devices.find(device, target)  # before the work, not after it
    emulated = device == "emulated"
    if arguments.peers and device != "local":
        raise InputError("--peers: other tools run on this machine alone; expected --device local")
    if arguments.json is not None:
        require_writable(arguments.json)
    net = _network(arguments.model, arguments.max_pool)
    schedules = list(dict.fromkeys(arguments.schedule))
    batches = list(dict.fromkeys(arguments.batch_size or ([1, 10] if emulated else [1, 10, 256])))
    measure = bench_instructions if emulated else bench_latency
    total = 4 * len(batches) + 1
    with threadpool_limits(1), tqdm(total=total, desc="bench", disable=None) as bar:

        def tick(what: str) -> None:
            bar.set_postfix_str(what, refresh=False)
            bar.update()

        core = measure.core(target, device)
        tick("core")
        results = [
            measure.numbers(net, batch, target, device, core, schedules, arguments, tick)
            for batch in batches
        ]
    processor = records.processor(target)
    versions = {name: version(name) for name in ("apache-tvm", "numpy", "numba")}
    print(f"{processor['mcpu']}, {measure.described(core)}")
    print(", ".join(f"{name} {number}" for name, number in versions.items()))
    for result in results:
        print(f"\nBatch size {result['batch_size']}\n")
        measure.show(result, schedules)
    machine = {"processor": processor, "device": str(device), **core, "versions": versions}
    if arguments.json is not None:
        write_text(arguments.json, as_json({"machine": machine, "by_batch_size": results}))
    return []


def _network(model: Path, max_pool: str | None):
    """The network, its max pooling by another method if one is named."""
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
