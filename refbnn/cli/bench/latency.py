"""`refbnn bench` on this machine and on boards: latencies, limits of the machine, memory."""

from __future__ import annotations

from refbnn.cli.bench import tables as bench_tables


def core(target, device) -> dict:
    """What one core can do."""
    from kernels.bench import roofline

    return {"cores_used": 1, "fma_operations_per_second": roofline.rate(target, device)}


def described(core: dict) -> str:
    """The same in words."""
    return f"one core: {core['fma_operations_per_second'] / 1e9:.0f} Gflop/s in multiply-adds"


def numbers(net, batch, target, device, core, schedules, arguments, tick) -> dict:
    """All numbers of one batch size."""
    import numpy as np

    from kernels.bench import ablation, comparison, operators, peers
    from kernels.bench.latency import latency, on_device
    from kernels.network import program

    folder = arguments.records
    whole = program(net, batch, target)
    x = np.random.default_rng(0).random((batch, *whole.inputs[0][0].shape))
    result = bench_tables.head(net, whole, schedules, folder)
    if device == "local":
        calls, absent = comparison.calls(net, x, target, schedules, folder)
        if arguments.peers:
            found, missing = peers.calls(net, x)
            calls |= found
            absent |= missing
        seconds = latency(calls)
    else:
        seconds, absent = comparison.latencies(net, x, target, schedules, folder, device)
    result |= {"latency_seconds": seconds, "absent": absent}
    tick(f"networks, batch {batch}")
    rate = core["fma_operations_per_second"]
    result["operators"] = operators.timed(net, x, target, schedules, folder, rate, device)
    tick(f"operators, batch {batch}")
    result["size_bytes"] = bench_tables.sizes(whole, device, schedules, folder)
    tick(f"sizes, batch {batch}")
    if arguments.ablation:
        built = ablation.kernels(net, batch, target, folder, device)
        result["ablation_seconds"] = on_device(built)
    tick(f"decisions, batch {batch}")
    return result


def show(result: dict, schedules: list[str]) -> None:
    """Print the tables of one batch size."""
    seconds = result["latency_seconds"]
    best = next(
        (f"PFP, kernel, {s}" for s in ("tuned", "hand") if s in schedules), next(iter(seconds))
    )
    rows = [[name, _us(t), f"{t / seconds[best]:.2f}"] for name, t in seconds.items()]
    rows += [[name, "absent", reason] for name, reason in result["absent"].items()]
    bench_tables.show(["network", "µs a call", f"× {best}"], rows)
    bench_tables.show_untuned(result)
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
    header = ["operator", *(f"{s}, µs" for s in schedules), "kB", "1000 operations"]
    bench_tables.show([*header, "limit, µs", "by", "reached"], rows)
    print()
    bench_tables.show_sizes(result["size_bytes"])
    if "ablation_seconds" in result:
        print()
        bench_tables.show_ablation(result["ablation_seconds"], "µs", "faster", _us)


def _us(seconds: float) -> str:
    return f"{1e6 * seconds:.2f}"
