"""Numbers and tables that `refbnn bench` has both of latencies and of instructions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refbnn.cli.output import print_table
from refbnn.errors import InputError

OPERATORS, PASS_BACK = "operators", "pass_back_operators"


@dataclass(frozen=True, eq=False)
class Job:
    """A network, where it is measured, and with what; typed loosely, as TVM is imported late."""

    net: Any
    target: Any
    device: Any
    schedules: list[str]
    records: Path | None
    peers: bool


def head(net, whole, schedules, folder) -> dict:
    """Batch size, method of max pooling, and the workloads without a record of time."""
    from kernels.program import kernel, records
    from refbnn.layers import MaxPool2d

    methods = {layer.method for layer in net.layers if isinstance(layer, MaxPool2d)}
    result = {"batch_size": whole.batch, "max_pool": sorted(methods)}
    if "tuned" in schedules:
        searched = {step.workload for step in whole.steps if step.space}
        found = kernel.recorded(whole, folder)
        result["untuned"] = sorted(searched - found.keys())
        result["tuned_by_proxy"] = sorted(
            name for name, record in found.items() if record.measure == records.PROXY_CYCLES
        )
    return result


def operators(job: Job, x) -> dict[str, Iterable]:
    """Operators of propagation, and those of the pass back where there is a linearised kernel."""
    from kernels.bench.operators import of_pass_back, one_by_one

    found: dict[str, Iterable] = {OPERATORS: one_by_one(job.net, x, job.target)}
    if _linearised(job, len(x)):
        found[PASS_BACK] = of_pass_back(job.net, x, job.target, job.device)
    return found


def all_operators(result: dict) -> list[dict]:
    """Measured operators of both kinds, in the order of the network."""
    return [*result[OPERATORS], *result.get(PASS_BACK, [])]


def ablations(job: Job, batch: int) -> dict[str, Any]:
    """Kernels of both ablations, by decision, under the start of their keys; likewise."""
    from kernels.bench import ablation

    built = {"ablation": ablation.kernels(job.net, batch, job.target, job.records, job.device)}
    if _linearised(job, batch):
        of_pass = ablation.of_pass_back(job.net, batch, job.target, job.device)
        built["pass_back_ablation"] = of_pass
    return built


def _linearised(job: Job, batch: int) -> bool:
    """Whether there is a linearised kernel; the table of networks says why not."""
    from kernels.network import program

    try:
        program(job.net, batch, job.target, method="linearised")
    except InputError:
        return False
    return True


def sizes(whole, job: Job) -> dict:
    """Bytes by schedule and by purpose."""
    from kernels.bench import memory

    found = {s: memory.size(whole, s, job.records, job.device) for s in job.schedules}
    return {
        schedule: {
            "weights": size.weights,
            "activations": size.activations,
            "workspace": size.workspace,
            "peak_memory": size.peak,
            "object_code": size.code,
        }
        for schedule, size in found.items()
    }


def show_networks(header: list[str], rows: list[list[str]], result: dict) -> None:
    """Print whole networks, those that are absent, and the workloads without a record of time."""
    rows = rows + [[name, "absent", reason] for name, reason in result["absent"].items()]
    print_table(header, [row + [""] * (max(map(len, rows)) - len(row)) for row in rows])
    if result.get("tuned_by_proxy"):
        print(f"tuned by proxy cycles, not by time: {'; '.join(result['tuned_by_proxy'])}")
    if result.get("untuned"):
        names = "; ".join(result["untuned"])
        print(f"refbnn bench: no record of tuning, by hand: {names}", file=sys.stderr)
    print()


def show_sizes(size_bytes: Mapping[str, Mapping[str, int]]) -> None:
    """Print the result of `sizes`."""
    names = list(next(iter(size_bytes.values())))
    header = ["schedule", *(f"{name.replace('_', ' ')}, kB" for name in names)]
    rows = [[s, *(f"{n[name] / 1e3:.1f}" for name in names)] for s, n in size_bytes.items()]
    print_table(header, rows)


def show_ablation(
    key: str, values: Mapping[str, float], unit: str, better: str, text: Callable[[float], str]
) -> None:
    """Print what each decision brings."""
    what = "decision of the pass back" if key.startswith("pass_back") else "decision"
    first, previous, rows = next(iter(values.values())), None, []
    for name, value in values.items():
        gain = "" if previous is None else f"{previous / value:.2f}"
        rows.append([name, text(value), gain, f"{first / value:.2f}"])
        previous = value
    print_table([f"{what}, added to those above", unit, f"× {better}", "× in all"], rows)
