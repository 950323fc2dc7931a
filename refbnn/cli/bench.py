"""`refbnn bench`: how long a network takes, by operator, schedule and batch size, beside others."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from refbnn.cli import arguments as options
from refbnn.cli.report import as_json
from refbnn.errors import InputError
from refbnn.files import require_writable, write_text

HELP = "measure a network's kernels by operator and batch size, beside NumPy, Numba and other tools"
_SCHEDULES = ("default", "hand", "tuned")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, what to measure, where to write."""
    parser.epilog = (
        "Whole calls from Python on one core, in turns in one run: medians. Operators by "
        "themselves, without the call from Python. The limit is the time in which this core could "
        "move their bytes at its bandwidth, or do their operations at its rate of fused "
        'multiply-adds. Records of tuning are of propagation: where there are none, "tuned" '
        "is by hand, as it is for the mean and for sampling."
    )
    parser.add_argument("model", metavar="MODEL.npz", type=Path)
    options.add_target(parser)
    options.add_batch_sizes(parser)
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
        "this run: exact, by quadrature; tree or chain, by Clark's approximation in pairs or one "
        "by one, faster and less accurate",
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

    from kernels import records, roofline, targets
    from refbnn import load
    from refbnn.layers import MaxPool2d

    if arguments.json is not None:
        require_writable(arguments.json)
    net = load(arguments.model)
    if arguments.max_pool is not None:
        if not any(isinstance(layer, MaxPool2d) for layer in net.layers):
            raise InputError(f"--max-pool: {arguments.model} has no MaxPool2d; expected one")
        net.layers = [
            replace(layer, method=arguments.max_pool) if isinstance(layer, MaxPool2d) else layer
            for layer in net.layers
        ]
    target = targets.target(arguments.target)
    schedules = list(dict.fromkeys(arguments.schedule))
    batches = list(dict.fromkeys(arguments.batch_size))
    with threadpool_limits(1), tqdm(total=4 * len(batches) + 1, desc="bench", disable=None) as bar:

        def tick(what: str) -> None:
            bar.set_postfix_str(what, refresh=False)
            bar.update()

        rate = roofline.rate(target)
        tick("rate of multiply-adds")
        results = [
            _measured(net, batch, target, schedules, rate, arguments, tick) for batch in batches
        ]
    processor = records.processor(target)
    versions = {name: version(name) for name in ("apache-tvm", "numpy", "numba")}
    machine = {
        "processor": processor,
        "cores_used": 1,
        "fma_operations_per_second": rate,
        "versions": versions,
    }
    print(f"{processor['mcpu']}, one core: {rate / 1e9:.0f} Gflop/s in multiply-adds")
    print(", ".join(f"{name} {number}" for name, number in versions.items()))
    for result in results:
        _print(result, schedules)
    if arguments.json is not None:
        write_text(arguments.json, as_json({"machine": machine, "by_batch_size": results}))
    return []


def _measured(net, batch, target, schedules, rate, arguments, tick) -> dict:
    """All numbers of one batch size."""
    import tempfile

    import numpy as np

    from kernels import comparison, kernel, peers
    from kernels.ablation import ablation
    from kernels.bench import latency
    from kernels.network import program
    from refbnn.layers import MaxPool2d

    folder = arguments.records
    whole = program(net, batch, target)
    x = np.random.default_rng(0).random((batch, *whole.inputs[0][0].shape))
    methods = {layer.method for layer in net.layers if isinstance(layer, MaxPool2d)}
    result: dict = {"batch_size": batch, "max_pool": sorted(methods)}
    if "tuned" in schedules:
        searched = {step.workload for step in whole.steps if step.space}
        result["untuned"] = sorted(searched - kernel.tuned(whole, folder).keys())
    calls, absent = comparison.calls(net, x, target, schedules, folder)
    if arguments.peers:
        found, missing = peers.calls(net, x)
        calls |= found
        absent |= missing
    result["latency_seconds"] = latency(calls)
    result["absent"] = absent
    tick(f"networks, batch {batch}")
    operators = comparison.operators(net, batch, target, schedules, folder, rate)
    result["operators"] = [
        {
            "operator": o.name,
            "latency_seconds": o.seconds,
            "memory_bytes": o.n_bytes,
            "operations": o.operations,
            "limit_seconds": o.limit_seconds,
            "limited_by": o.limited_by,
            "share_of_limit": {name: o.limit_seconds / s for name, s in o.seconds.items()},
        }
        for o in operators
    ]
    tick(f"operators, batch {batch}")
    with tempfile.TemporaryDirectory() as work:
        sizes = {s: comparison.size(whole, s, folder, Path(work)) for s in schedules}
    result["size_bytes"] = {
        name: {
            "weights": size.weights,
            "activations": size.activations,
            "workspace": size.workspace,
            "peak_memory": size.peak,
            "object_code": size.code,
        }
        for name, size in sizes.items()
    }
    tick(f"sizes, batch {batch}")
    if arguments.ablation:
        result["ablation_seconds"] = ablation(net, batch, target, folder)
    tick(f"decisions, batch {batch}")
    return result


def _print(result: dict, schedules: list[str]) -> None:
    from tabulate import tabulate

    def table(header, rows):
        print(tabulate(rows, header, disable_numparse=True, colalign=_aligned(header)))

    print(f"\nBatch size {result['batch_size']}\n")
    seconds = result["latency_seconds"]
    best = next(
        (f"PFP, kernel, {s}" for s in ("tuned", "hand") if s in schedules), next(iter(seconds))
    )
    rows = [[name, _us(t), f"{t / seconds[best]:.2f}"] for name, t in seconds.items()]
    rows += [[name, "absent", reason] for name, reason in result["absent"].items()]
    table(["network", "µs a call", f"× {best}"], rows)
    if result.get("untuned"):
        untuned = "; ".join(result["untuned"])
        print(f"refbnn bench: no record of tuning, by hand: {untuned}", file=sys.stderr)
    print()
    rows = [
        [
            o["operator"],
            *(_us(o["latency_seconds"][s]) for s in schedules),
            f"{o['memory_bytes'] / 1e3:.1f}",
            f"{o['operations'] / 1e3:.1f}",
            _us(o["limit_seconds"]),
            o["limited_by"],
            f"{100 * max(o['share_of_limit'].values()):.0f} %",
        ]
        for o in result["operators"]
    ]
    table(
        [
            "operator",
            *(f"{s}, µs" for s in schedules),
            "kB",
            "1000 operations",
            "limit, µs",
            "by",
            "reached",
        ],
        rows,
    )
    print()
    sizes = result["size_bytes"]
    names = list(next(iter(sizes.values())))
    table(
        ["schedule", *(f"{name.replace('_', ' ')}, kB" for name in names)],
        [[s, *(f"{sizes[s][name] / 1e3:.1f}" for name in names)] for s in schedules],
    )
    if "ablation_seconds" in result:
        print()
        times = result["ablation_seconds"]
        first, previous, rows = next(iter(times.values())), None, []
        for name, t in times.items():
            gain = "" if previous is None else f"{previous / t:.2f}"
            rows.append([name, _us(t), gain, f"{first / t:.2f}"])
            previous = t
        table(["decision, added to those above", "µs", "× faster", "× in all"], rows)


def _us(seconds: float) -> str:
    return f"{1e6 * seconds:.2f}"


def _aligned(header) -> list[str]:
    return ["left", *("right" for _ in header[1:])]
