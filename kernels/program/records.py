"""Records: the decisions that a search found fastest, kept in files that a person can read.

A file `<target>.json` holds a record of every tuned workload and of the processor it was measured
on. There are two places, looked into in this order: the folder where `refbnn tune` writes, and
`kernels/records`, which comes with the package.

A record says what was measured: seconds, of the processor itself, or proxy cycles, of which an
emulated core executed the instructions (`kernels.devices.emulated_arm.costs`). A workload may have
one of each; wherever there is one in seconds, it is that which counts.

A record of another processor is none: what is fastest there says little here, and both places may
hold records of several. A record of this processor whose decisions the operator does not know, or
that lie outside its space, does not fit: it was changed, or is of another version. In the user's
folder it is an error, which tuning again mends; one of the package, which users cannot mend, counts
as none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from kernels.devices.targets import Target
from kernels.program.program import Step
from refbnn.errors import InputError
from refbnn.files.atomic import write_text
from refbnn.files.cache import cache_folder

PACKAGED = Path(__file__).parents[1] / "tuning" / "records"
SECONDS, PROXY_CYCLES = "seconds", "proxy_cycles"  # measures, by which the files call the costs
_VERSION = 1  # of the layout of the files


@dataclass(frozen=True)
class Record:
    """Result of one search.

    Parameters
    ----------
    workload : str
        As in `kernels.program.program.Step`.
    processor : dict
        As `processor` describes it.
    decisions : dict of str to int
    measure : {"seconds", "proxy_cycles"}
        What `cost` is: time, measured in turns, or weighted instructions. In the file there is no
        such entry: the costs are called "seconds" and "seconds_by_hand", or "proxy_cycles" and
        "proxy_cycles_by_hand".
    cost, cost_by_hand : float
        Of one call of the operator by itself, with these decisions and with those by hand; equal
        where those by hand were kept.
    trials : int
        Decisions that were measured.
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
    """What decides whether a record is of this processor: LLVM's name of it and its registers."""
    return {
        "mcpu": target.llvm.get("mcpu", ""),
        "lanes": target.lanes,
        "registers": target.registers,
    }


def default_folder() -> Path:
    """Where records are kept unless told otherwise: `records` in the user's cache of refbnn."""
    return cache_folder() / "records"


def path(folder: Path, target: Target) -> Path:
    """The file of a target."""
    return folder / f"{target.name}.json"


def find(step: Step, target: Target, folder: str | Path | None = None) -> Record | None:
    """Record of a step on this processor, of several one in seconds.

    Parameters
    ----------
    step : Step
    target : Target
    folder : path, optional
        Looked into before `PACKAGED`; by default `default_folder()`.

    Raises
    ------
    InputError
        If a file is corrupt, or a record of the folder does not fit.
    """
    found: dict[str, tuple[Record, Path]] = {}
    for place in (default_folder() if folder is None else Path(folder), PACKAGED):
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
    """All records of a file; none where there is no file.

    Raises
    ------
    InputError
        If the file cannot be read, or holds anything else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; expected records of tuning") from None
    except ValueError:  # of UTF-8 or of JSON
        raise InputError(f"{file}: is no JSON text; expected records of tuning") from None
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        raise InputError(f"{file}: expected records of tuning, version {_VERSION}")
    entries = content.get("records")
    if not isinstance(entries, list):
        raise InputError(f'{file}: expected a list under "records"')
    return [_record(entry, index, file) for index, entry in enumerate(entries)]


def keep(record: Record, file: Path) -> None:
    """Write a record into a file, in place of an earlier one of that workload and measure."""

    def key(one: Record) -> tuple[str, str, str]:
        return json.dumps(one.processor, sort_keys=True), one.workload, one.measure

    others = [other for other in read(file) if key(other) != key(record)]
    entries = [_entry(one) for one in sorted([*others, record], key=key)]
    write_text(file, json.dumps({"version": _VERSION, "records": entries}, indent=1) + "\n")


def fits(decisions: Mapping[str, object], space: Mapping[str, Sequence[int]]) -> bool:
    """Whether every decision is made, no other, and each within the space."""
    return decisions.keys() == space.keys() and all(
        value in space[name] for name, value in decisions.items()
    )


def _require_fitting(record: Record, step: Step, file: Path) -> None:
    if not fits(record.decisions, step.space):
        expected = ", ".join(f"{name} of {list(values)}" for name, values in step.space.items())
        raise InputError(
            f"{file}: {record.workload}: decisions {record.decisions} do not fit; expected "
            f"{expected or 'none'} (tune it again)"
        )


def _kinds(measure: str) -> dict[str, type]:
    """Entries of a record in a file."""
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
    """A record as it is in a file."""
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
            raise InputError(f"{file}: record {index}: {name} is {value!r}")
    for name, value in entry["decisions"].items():
        if type(value) is not int:
            raise InputError(f"{file}: record {index}: decision {name} is {value!r}")
    values = dict(entry)
    cost, by_hand = values.pop(measure), values.pop(f"{measure}_by_hand")
    return Record(**values, measure=measure, cost=cost, cost_by_hand=by_hand)
