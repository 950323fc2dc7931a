"""Journal: the measurements of an unfinished search, in a `.jsonl` file beside the records."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from kernels.devices.targets import Target
from kernels.program import records
from kernels.program.program import Step
from kernels.tuning.search import Costs, decisions_at
from refbnn.errors import InputError
from refbnn.files.atomic import write_text


class Journal:
    """Measurements of an unfinished workload: a line that names it, then one line a candidate.

    Parameters
    ----------
    folder : Path
    step : Step
    target : Target
    measure : str
        As in `kernels.program.records.Record`.
    """

    def __init__(self, folder: Path, step: Step, target: Target, measure: str):
        name = re.sub(r"[^\w.-]+", "-", f"{target.name} {step.workload} {measure}")
        self.file = folder / f"{name}.jsonl"
        self.step, self.measure = step, measure
        self.head = {"workload": step.workload, "processor": records.processor(target)}

    def read(self) -> Costs:
        """Read the costs; none if the file is of another processor, or of another space.

        Raises
        ------
        InputError
            If the file holds anything else.
        """
        space = self.step.space
        try:
            lines = self.file.read_text(encoding="utf-8").splitlines()
            head, *entries = [json.loads(line) for line in lines]
            if head != self.head:
                return {}
            costs = {
                tuple(entry["decisions"][name] for name in space): float(
                    "inf" if entry[self.measure] is None else entry[self.measure]
                )
                for entry in entries
                if records.fits(entry["decisions"], space)
            }
            if not all(cost > 0.0 for cost in costs.values()):
                raise ValueError
            return costs
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise InputError(
                f"{self.file} cannot be read: {error.strerror}; expected measurements"
            ) from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise InputError(
                f"{self.file} is not a list of measurements: remove it to begin the search again"
            ) from None

    def write(self, costs: Costs) -> None:
        """Write all costs, whole or not at all."""
        lines = [self.head] + [
            {
                "decisions": decisions_at(self.step, point),
                self.measure: cost if np.isfinite(cost) else None,
            }
            for point, cost in costs.items()
        ]
        write_text(self.file, "".join(json.dumps(line) + "\n" for line in lines))

    def clear(self) -> None:
        """Remove the file: there is a record now."""
        self.file.unlink(missing_ok=True)
