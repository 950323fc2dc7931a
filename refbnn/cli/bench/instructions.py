"""`refbnn bench` on the emulated core: executed instructions, predicted cycles, memory."""

from __future__ import annotations

from refbnn.cli.bench import tables as bench_tables
from refbnn.errors import InputError

_CLASSES = ("load", "store", "fma", "vector", "scalar")


def core(target, device) -> dict:
    """Analysers that are not here, and why."""
    from kernels.devices.emulated_arm import cycles

    _, absent = cycles.analysers(str(target.llvm["mcpu"]))
    return {"cores_used": 1, "lanes": target.lanes, "absent": absent}


def described(core: dict) -> str:
    """The same in words."""
    absent = "".join(f"\n{name}: absent, {reason}" for name, reason in core["absent"].items())
    return f"emulated core: executed instructions, not time{absent}"


def numbers(net, batch, target, device, core, schedules, arguments, tick) -> dict:
    """All numbers of one batch size."""
    import numpy as np

    from kernels.bench import ablation, comparison, operators
    from kernels.network import program

    folder = arguments.records
    whole = program(net, batch, target)
    x = np.random.default_rng(0).random((batch, *whole.inputs[0][0].shape))
    result = bench_tables.head(net, whole, schedules, folder)
    networks, absent = comparison.instructions(net, x, target, schedules, folder)
    tick(f"networks, batch {batch}")
    counted = operators.counted(net, x, target, schedules, folder)
    result |= {
        "executed_instructions": {name: _by_class(count) for name, count in networks.items()},
        "floor_instructions": sum(o.floor for o in counted),
        "weight_vectors": sum(o.weight_vectors for o in counted),
        "absent": absent,
        "operators": [_operator(o, str(target.llvm["mcpu"])) for o in counted],
    }
    tick(f"operators, batch {batch}")
    result["size_bytes"] = bench_tables.sizes(whole, device, schedules, folder)
    tick(f"sizes, batch {batch}")
    if arguments.ablation:
        built = ablation.kernels(net, batch, target, folder, "emulated")
        result["ablation_instructions"] = {
            name: kernel.instruction_count(*kernel.inputs).total for name, kernel in built.items()
        }
    tick(f"decisions, batch {batch}")
    return result


def _by_class(count) -> dict[str, int]:
    return {"total": count.total, **count.by_class}


def _operator(o, core: str) -> dict:
    per_product = {s: n.total / o.products for s, n in o.instructions.items() if o.products}
    loops = {
        schedule: _loop(loop, o.instructions[schedule].total, core)
        for schedule, loop in o.loops.items()
        if loop is not None
    }
    return {
        "operator": o.name,
        "executed_instructions": {s: _by_class(n) for s, n in o.instructions.items()},
        "floor_instructions": o.floor,
        "weight_vectors": o.weight_vectors,
        "multiply_accumulates": o.products,
        "instructions_per_multiply_accumulate": per_product,
        "largest_loop": loops,
    }


def _loop(loop, total: int, core: str) -> dict:
    from kernels.devices.emulated_arm import cycles

    found, _ = cycles.analysers(core)
    predictions, failed = {}, {}
    for name, predict in found.items():
        try:
            predictions[name] = predict(loop)
        except InputError as error:
            failed[name] = str(error)
    return {
        "iterations": loop.iterations,
        "instructions_per_iteration": len(loop.body),
        "share_of_instructions": loop.instructions / total,
        "predicted_cycles_per_iteration": {n: p.cycles for n, p in predictions.items()},
        "predicted_cycles": {n: loop.iterations * p.cycles for n, p in predictions.items()},
        "instructions_left_out": {n: p.unknown for n, p in predictions.items()},
        "not_predicted": failed,
    }


def show(result: dict, schedules: list[str]) -> None:
    """Print the tables of one batch size."""
    floor, weights = result["floor_instructions"], result["weight_vectors"]
    rows = [
        [name, *_thousands(n), *(_relative(n, floor, weights) if name.startswith("PFP") else [])]
        for name, n in result["executed_instructions"].items()
    ]
    rows += [[name, "absent", reason] for name, reason in result["absent"].items()]
    bench_tables.show(["network, 1000 instructions", *_HEADER, *_RELATIVE], _filled(rows))
    bench_tables.show_untuned(result)
    print()
    rows = [
        [
            o["operator"] if schedule == schedules[0] else "",
            schedule,
            *_thousands(n),
            *_relative(n, o["floor_instructions"], o["weight_vectors"]),
            _number(o["instructions_per_multiply_accumulate"].get(schedule)),
        ]
        for o in result["operators"]
        for schedule, n in o["executed_instructions"].items()
    ]
    header = ["operator", "1000 instructions", *_HEADER, *_RELATIVE, "a multiply-accumulate"]
    bench_tables.show(header, rows, n_left=2)
    print()
    _show_loops(result["operators"])
    bench_tables.show_sizes(result["size_bytes"])
    if "ablation_instructions" in result:
        print()
        values = result["ablation_instructions"]
        bench_tables.show_ablation(values, "1000 instructions", "fewer", _thousand)


_HEADER = ("in all", "load", "store", "FMA", "vector", "scalar")
_RELATIVE = ("floor", "weights", "× both")


def _show_loops(operators: list[dict]) -> None:
    """Print what is predicted of loops."""
    names = list(
        dict.fromkeys(
            name
            for o in operators
            for loop in o["largest_loop"].values()
            for name in loop["predicted_cycles"]
        )
    )
    rows = [
        [
            o["operator"],
            schedule,
            f"{100 * loop['share_of_instructions']:.0f} %",
            str(loop["iterations"]),
            str(loop["instructions_per_iteration"]),
            *(_cycles(loop, name, "predicted_cycles_per_iteration", 1.0) for name in names),
            *(_cycles(loop, name, "predicted_cycles", 1e-3) for name in names),
        ]
        for o in operators
        for schedule, loop in o["largest_loop"].items()
    ]
    header = ["loop of most instructions", "", "of all", "iterations", "instructions in one"]
    header += [f"cycles, {name}" for name in names]
    bench_tables.show([*header, *(f"1000 in all, {name}" for name in names)], rows, n_left=2)
    reasons = [
        r
        for o in operators
        for loop in o["largest_loop"].values()
        for r in loop["not_predicted"].values()
    ]
    for reason in dict.fromkeys(reasons):
        print(reason)
    print()


def _cycles(loop: dict, name: str, key: str, unit: float) -> str:
    """A prediction, at least that where instructions were left out."""
    if name not in loop[key]:
        return "none"
    least = "≥ " if loop["instructions_left_out"][name] else ""
    return f"{least}{unit * loop[key][name]:.1f}"


def _thousand(n: float) -> str:
    return f"{n / 1e3:.1f}"


def _thousands(count: dict[str, int]) -> list[str]:
    return [_thousand(count[name]) for name in ("total", *_CLASSES)]


def _relative(count: dict[str, int], floor: int, weights: int) -> list[str]:
    both = floor + weights
    share = f"{count['total'] / both:.2f}" if both else ""
    return [_thousand(floor), _thousand(weights), share]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _filled(rows: list[list[str]]) -> list[list[str]]:
    """Rows of the same length."""
    longest = max(map(len, rows))
    return [row + [""] * (longest - len(row)) for row in rows]
