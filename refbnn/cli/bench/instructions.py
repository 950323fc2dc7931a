"""`refbnn bench` on the emulated core: executed instructions, predicted cycles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from refbnn.cli.bench import tables
from refbnn.cli.bench.inputs import Inputs
from refbnn.cli.bench.tables import Job
from refbnn.cli.output import print_table
from refbnn.errors import InputError

if TYPE_CHECKING:
    from kernels.program.kernel import Kernel


def _thousand(n: float) -> str:
    return f"{n / 1e3:.1f}"


MEASURED = "instructions"  # ends the keys of the ablations
UNIT = "1000 instructions", "fewer", _thousand  # of the ablation, as in `latency`
_CLASSES = {"in all": "total", "load": "load", "store": "store", "FMA": "fma"}
_CLASSES |= {"vector": "vector", "scalar": "scalar"}
_COLUMNS = (*_CLASSES, "floor", "weights", "× both")


def core(job: Job) -> dict:
    """Describe the core, and name the absent analysers with the reason."""
    from kernels.devices.emulated_arm import cycles

    _, absent = cycles.analysers(_name(job))
    return {"cores_used": 1, "lanes": job.target.lanes, "absent": absent}


def _name(job: Job) -> str:
    return str(job.target.llvm["mcpu"])


def described(core: dict) -> str:
    """Describe the core in words."""
    absent = "".join(f"\n{name}: absent, {reason}" for name, reason in core["absent"].items())
    return f"emulated core: executed instructions, not time{absent}"


def networks(job: Job, given: Inputs) -> dict:
    """Count the instructions of whole networks."""
    from kernels.bench import comparison

    where = job.net, given.x, job.target, job.schedules, job.records
    found, absent = comparison.instructions(*where, given.random)
    counts = {name: _by_class(count) for name, count in found.items()}
    return {"executed_instructions": counts, "absent": absent}


def operators(job: Job, x, core: dict) -> dict:
    """Count the instructions of operators one by one."""
    from kernels.bench.operators import counted

    how = job.target, job.schedules, job.records
    found = {key: counted(of, *how) for key, of in tables.operators(job, x).items()}
    forth = found[tables.OPERATORS]
    return {
        "floor_instructions": sum(o.floor for o in forth),
        "weight_vectors": sum(o.weight_vectors for o in forth),
        **{key: [_operator(o, _name(job)) for o in of] for key, of in found.items()},
    }


def decisions(kernels: Mapping[str, Kernel]) -> dict[str, int]:
    """Count the instructions of one decision of the schedule after the other."""
    return {name: k.instruction_count(*k.inputs).total for name, k in kernels.items()}


def _by_class(count) -> dict[str, int]:
    return {"total": count.total, **count.by_class}


def _operator(o, core: str) -> dict:
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
        "instructions_per_multiply_accumulate": {
            s: n.total / o.products for s, n in o.instructions.items() if o.products
        },
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
    rows = []
    for name, count in result["executed_instructions"].items():
        columns = _columns(count, result)  # the floor is that of propagation
        rows.append([name, *(columns if name.startswith("PFP") else columns[: len(_CLASSES)])])
    tables.show_networks(["network, 1000 instructions", *_COLUMNS], rows, result)
    rows = []
    for o in tables.all_operators(result):
        for schedule, count in o["executed_instructions"].items():
            per_product = o["instructions_per_multiply_accumulate"].get(schedule)
            name = o["operator"] if schedule == schedules[0] else ""
            last = "" if per_product is None else f"{per_product:.2f}"
            rows.append([name, schedule, *_columns(count, o), last])
    header = ["operator", "1000 instructions", *_COLUMNS, "a multiply-accumulate"]
    print_table(header, rows, left=(0, 1))
    print()
    _show_loops(tables.all_operators(result))


def _columns(count: dict[str, int], needed: dict) -> list[str]:
    """Text of `_COLUMNS`: instructions by class beside those that are needed."""
    floor, weights = needed["floor_instructions"], needed["weight_vectors"]
    both = floor + weights
    share = f"{count['total'] / both:.2f}" if both else ""
    by_class = [_thousand(count[key]) for key in _CLASSES.values()]
    return [*by_class, _thousand(floor), _thousand(weights), share]


def _show_loops(operators: list[dict]) -> None:
    """Print the predicted cycles of loops, and why some are not predicted."""
    loops = [(o["operator"], *item) for o in operators for item in o["largest_loop"].items()]
    names = list(dict.fromkeys(name for *_, loop in loops for name in loop["predicted_cycles"]))
    rows = [
        [
            operator,
            schedule,
            f"{100 * loop['share_of_instructions']:.0f} %",
            str(loop["iterations"]),
            str(loop["instructions_per_iteration"]),
            *(_cycles(loop, name, "predicted_cycles_per_iteration", 1.0) for name in names),
            *(_cycles(loop, name, "predicted_cycles", 1e-3) for name in names),
        ]
        for operator, schedule, loop in loops
    ]
    header = ["loop of most instructions", "", "of all", "iterations", "instructions in one"]
    header += [f"cycles, {name}" for name in names]
    header += [f"1000 in all, {name}" for name in names]
    print_table(header, rows, left=(0, 1))
    for reason in dict.fromkeys(r for *_, loop in loops for r in loop["not_predicted"].values()):
        print(reason)
    print()


def _cycles(loop: dict, name: str, key: str, unit: float) -> str:
    """A prediction; "≥" where instructions were left out."""
    if name not in loop[key]:
        return "none"
    least = "≥ " if loop["instructions_left_out"][name] else ""
    return f"{least}{unit * loop[key][name]:.1f}"
