"""What the tables of `refbnn bench` have in common, of latencies and of instructions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping


def head(net, whole, schedules, folder) -> dict:
    """What is measured: batch size, way of max pooling, how decisions were found.

    Workloads without a record of tuning, and those with one by proxy.
    """
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


def sizes(whole, device, schedules, folder) -> dict:
    """Bytes by schedule and by what they are for."""
    from kernels.bench import memory

    found = {s: memory.size(whole, s, folder, device) for s in schedules}
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


def show(header: list[str], rows: list[list[str]], n_left: int = 1) -> None:
    """Print a table, all but the first columns to the right."""
    from tabulate import tabulate

    aligned = ["left" if index < n_left else "right" for index in range(len(header))]
    print(tabulate(rows, header, disable_numparse=True, colalign=aligned))


def show_untuned(result: dict) -> None:
    """Print the workloads without a record in real time, if there are any."""
    if result.get("tuned_by_proxy"):
        print(f"tuned by proxy cycles, not by time: {'; '.join(result['tuned_by_proxy'])}")
    if result.get("untuned"):
        names = "; ".join(result["untuned"])
        print(f"refbnn bench: no record of tuning, by hand: {names}", file=sys.stderr)


def show_sizes(size_bytes: Mapping[str, Mapping[str, int]]) -> None:
    """Print the result of `sizes`."""
    names = list(next(iter(size_bytes.values())))
    show(
        ["schedule", *(f"{name.replace('_', ' ')}, kB" for name in names)],
        [[s, *(f"{of[name] / 1e3:.1f}" for name in names)] for s, of in size_bytes.items()],
    )


def show_ablation(
    values: Mapping[str, float], unit: str, better: str, text: Callable[[float], str]
) -> None:
    """Print what each decision brings."""
    first, previous, rows = next(iter(values.values())), None, []
    for name, value in values.items():
        gain = "" if previous is None else f"{previous / value:.2f}"
        rows.append([name, text(value), gain, f"{first / value:.2f}"])
        previous = value
    show(["decision, added to those above", unit, f"× {better}", "× in all"], rows)
