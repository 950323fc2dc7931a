"""Records: the fastest decisions that searches found, kept in readable files.

A file `<target>.json` holds records of tuned workloads, each with the processor it was measured on.
Two folders are searched, in this order: the one where `refbnn tune` writes, and `PACKAGED`, which
comes with the package.

A record's cost is in seconds on the processor itself, or in proxy cycles of code that an emulated
core executed (`kernels.devices.emulated_arm.costs`). A workload may have a record of each kind; the
one in seconds takes precedence.

Records of another processor are ignored: its fastest decisions say little about this one. A record
of this processor does not fit if its decisions are unknown to the operator or lie outside its
space: it was edited, or is from another version. In the user's folder that is an error, which
tuning again mends; in the package, which users cannot mend, the record is ignored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from kernels.devices.targets import Target
from kernels.program.program import Step
from refbnn.errors import InputError, cut, quoted
from refbnn.files import json_file
from refbnn.files.atomic import write_text
from refbnn.files.cache import cache_folder
from refbnn.numerics.arguments import path_of

PACKAGED = Path(__file__).parents[1] / "tuning" / "records"
SECONDS, PROXY_CYCLES = "seconds", "proxy_cycles"  # measures, and names of the costs in files
_VERSION = 1  # of the layout of the files
_LARGEST = 20_000_000  # bytes; a record takes about 500


@dataclass(frozen=True)
class Record:
    """Result of one search.

    Parameters
    ----------
    workload : str
        As in `kernels.program.program.Step`.
    processor : dict
        As the function `processor` describes it.
    decisions : dict of str to int
    measure : {"seconds", "proxy_cycles"}
        Unit of the costs: time, or weighted instructions. Files call the costs "seconds" and
        "seconds_by_hand", or "proxy_cycles" and "proxy_cycles_by_hand", in place of this entry.
    cost, cost_by_hand : float
        Cost of one call of the operator alone, with these decisions and with those by hand; equal
        where those by hand were kept.
    trials : int
        Number of decisions that were measured.
    tvm : str
        Version of the compiler.
    """

    workload: str
    processor: dict[str, object]
    decisions: dict[str, int]
    measure: str
    cost: float
    cost_by_hand: float
    trials: int
    tvm: str


def processor(target: Target) -> dict[str, object]:
    """Description by which records match a processor: LLVM's name of it and its registers."""
    return {
        "mcpu": target.llvm.get("mcpu", ""),
        "lanes": target.lanes,
        "registers": target.registers,
    }


def default_folder() -> Path:
    """Default folder of records: `records` in the user's cache of refbnn."""
    return cache_folder() / "records"


def path(folder: Path, target: Target) -> Path:
    """File of a target's records."""
    return folder / f"{target.name}.json"


def find(step: Step, target: Target, folder: str | Path | None = None) -> Record | None:
    """Find the record of a step on this processor, in seconds if there are several.

    Parameters
    ----------
    step : Step
    target : Target
    folder : path, optional
        Searched before `PACKAGED`; by default `default_folder()`.

    Raises
    ------
    InputError
        If a file is corrupt, or a record of the folder does not fit.
    """
    found: dict[str, tuple[Record, Path]] = {}
    for place in (default_folder() if folder is None else path_of(folder, "records"), PACKAGED):
        file = path(place, target)
        for record in read(file):
            mine = (record.workload, record.processor) == (step.workload, processor(target))
            if mine and (place != PACKAGED or fits(record.decisions, step.space)):
                found.setdefault(record.measure, (record, file))
    for measure in (SECONDS, PROXY_CYCLES):
        if measure in found:
            record, file = found[measure]
            _require_fitting(record, step, file)
            return record
    return None


def read(file: Path) -> list[Record]:
    """Read all records of a file; an absent file has none.

    Raises
    ------
    InputError
        If the file cannot be read, or is no file of records.
    """
    try:
        content = json_file.read(file, "records of tuning", _LARGEST)
    except FileNotFoundError:
        return []
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        raise InputError(f"{file}: expected records of tuning, version {_VERSION}")
    entries = content.get("records")
    if not isinstance(entries, list):
        raise InputError(f'{file}: expected a list under "records"')
    return [_record(entry, index, file) for index, entry in enumerate(entries)]


def keep(record: Record, file: Path) -> None:
    """Write a record into a file; it replaces one of its processor, workload and measure."""

    def key(one: Record) -> tuple[str, str, str]:
        return json.dumps(one.processor, sort_keys=True), one.workload, one.measure

    others = [other for other in read(file) if key(other) != key(record)]
    entries = [_entry(one) for one in sorted([*others, record], key=key)]
    write_text(file, json.dumps({"version": _VERSION, "records": entries}, indent=1) + "\n")


def fits(decisions: Mapping[str, object], space: Mapping[str, Sequence[int]]) -> bool:
    """Whether the decisions are those of the space, each with a value within it."""
    return decisions.keys() == space.keys() and all(
        value in space[name] for name, value in decisions.items()
    )


def _require_fitting(record: Record, step: Step, file: Path) -> None:
    if not fits(record.decisions, step.space):
        expected = ", ".join(f"{name} of {list(values)}" for name, values in step.space.items())
        raise InputError(
            f"{file}: {cut(record.workload)}: decisions {quoted(record.decisions)} do not fit; "
            "expected "
            f"{expected or 'none'} (tune it again)"
        )


def _kinds(measure: str) -> dict[str, type]:
    """Names and types of a record's entries in a file."""
    return {
        "workload": str,
        "processor": dict,
        "decisions": dict,
        measure: float,
        f"{measure}_by_hand": float,
        "trials": int,
        "tvm": str,
    }


def _entry(record: Record) -> dict[str, object]:
    """Convert a record to its entry in a file."""
    values = asdict(record)
    values[record.measure] = values.pop("cost")
    values[f"{record.measure}_by_hand"] = values.pop("cost_by_hand")
    return {name: values[name] for name in _kinds(record.measure)}


def _record(entry: object, index: int, file: Path) -> Record:
    by_proxy = isinstance(entry, dict) and PROXY_CYCLES in entry
    measure = PROXY_CYCLES if by_proxy else SECONDS
    kinds = _kinds(measure)
    if not isinstance(entry, dict) or entry.keys() != kinds.keys():
        raise InputError(f"{file}: record {index}: expected the keys {', '.join(kinds)}")
    for name, kind in kinds.items():
        value = entry[name]
        number = not isinstance(value, float) or (math.isfinite(value) and value > 0.0)
        if type(value) is not kind or not number:
            raise InputError(f"{file}: record {index}: {name} is {quoted(value)}")
    for name, value in entry["decisions"].items():
        if type(value) is not int:
            raise InputError(
                f"{file}: record {index}: decision {quoted(name)} is {quoted(value)}; expected an "
                "integer"
            )
    values = dict(entry)
    cost, by_hand = values.pop(measure), values.pop(f"{measure}_by_hand")
    return Record(**values, measure=measure, cost=cost, cost_by_hand=by_hand)
