"""`refbnn bench` on this machine and on boards: latencies, limits of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from refbnn.cli.bench import tables
from refbnn.cli.bench.inputs import Inputs
from refbnn.cli.bench.tables import Job
from refbnn.cli.output import print_table

if TYPE_CHECKING:
    from kernels.program.kernel import Kernel


def _us(seconds: float) -> str:
    return f"{1e6 * seconds:.2f}"


MEASURED = "seconds"  # ends the keys of the ablations
UNIT = "µs", "faster", _us  # of the ablation: its name, what a greater number means, its text


def core(job: Job) -> dict:
    """Measure one core."""
    from kernels.bench import roofline

    rate = roofline.rate(job.target, job.device)
    return {"cores_used": 1, "fma_operations_per_second": rate}


def described(core: dict) -> str:
    """Describe the core in words."""
    return f"one core: {core['fma_operations_per_second'] / 1e9:.0f} Gflop/s in multiply-adds"


def networks(job: Job, given: Inputs) -> dict:
    """Measure whole networks."""
    from kernels.bench import comparison, peers
    from kernels.bench.latency import latency

    where = job.net, given.x, job.target, job.schedules, job.records
    if job.device != "local":
        seconds, absent = comparison.latencies(*where, job.device)
    else:
        calls, absent = comparison.calls(*where, given.random)
        if job.peers:
            found, missing = peers.calls(job.net, given.x)
            calls |= found
            absent |= missing
        seconds = latency(calls)
    return {"latency_seconds": seconds, "absent": absent}


def operators(job: Job, x, core: dict) -> dict:
    """Measure operators one by one."""
    from kernels.bench import operators

    rate = core["fma_operations_per_second"]
    how = job.target, job.schedules, job.records, rate, job.device
    return {key: operators.timed(of, *how) for key, of in tables.operators(job, x).items()}


def decisions(kernels: Mapping[str, Kernel]) -> dict[str, float]:
    """Measure one decision of the schedule after the other."""
    from kernels.bench.latency import on_device

    return on_device(kernels)


def show(result: dict, schedules: list[str]) -> None:
    """Print the tables of one batch size."""
    seconds = result["latency_seconds"]
    best = next(
        (f"PFP, kernel, {s}" for s in ("tuned", "hand") if s in schedules), next(iter(seconds))
    )
    rows = [[name, _us(t), f"{t / seconds[best]:.2f}"] for name, t in seconds.items()]
    tables.show_networks(["network", "µs a call", f"× {best}"], rows, result)
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
        for o in tables.all_operators(result)
    ]
    header = ["operator", *(f"{s}, µs" for s in schedules), "kB", "1000 operations"]
    print_table([*header, "limit, µs", "by", "reached"], rows)
    print()
