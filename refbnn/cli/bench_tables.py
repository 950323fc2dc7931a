"""What the tables of `refbnn bench` have in common, of latencies and of instructions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path


def head(net, whole, schedules, folder) -> dict:
    """What is measured: batch size, way of max pooling, workloads without a record of tuning."""
    from kernels import kernel
    from refbnn.layers import MaxPool2d

    methods = {layer.method for layer in net.layers if isinstance(layer, MaxPool2d)}
    result = {"batch_size": whole.batch, "max_pool": sorted(methods)}
    if "tuned" in schedules:
        searched = {step.workload for step in whole.steps if step.space}
        result["untuned"] = sorted(searched - kernel.tuned(whole, folder).keys())
    return result


def sizes(whole, device, schedules, folder) -> dict:
    """Bytes by schedule and by what they are for."""
    from kernels import memory

    with tempfile.TemporaryDirectory() as work:
        found = {s: memory.size(whole, s, folder, Path(work), device) for s in schedules}
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
    """Print the workloads without a record, if there are any."""
    if result.get("untuned"):
        print(f"no record of tuning, by hand: {'; '.join(result['untuned'])}")


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
