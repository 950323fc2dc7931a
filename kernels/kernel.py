"""Kernels: a program compiled, with its memory laid out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tvm
from tvm import te

from kernels import records
from kernels.program import Program
from refbnn.errors import InputError

SCHEDULES = ("default", "hand", "tuned")

# TVM's elimination of common subexpressions uses terms of `polynomials.named` before it defines
# them, where a loop over them is unrolled. LLVM has its own.
PASSES = {"tirx.disable_cse_tir": True}


@dataclass(frozen=True)
class Kernel:
    """A compiled function bound to its memory, laid out once: inputs, weights, outputs.

    Not for two threads at once: every call uses that memory.

    Parameters
    ----------
    run : callable without arguments
        Runs on `inputs` as they stand and leaves the results in `outputs`.
    inputs, outputs : tuples of ndarray, (batch, ...)
        Views of that memory, without the padding.
    executable : tvm.runtime.Executable
        The compiled module, for its assembly.
    """

    run: Callable[[], object]
    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]
    executable: tvm.runtime.Executable

    def __call__(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """Copy the arrays in, run, and copy the results out; shapes as of `inputs`."""
        for view, array in zip(self.inputs, arrays, strict=True):
            if np.shape(array) != view.shape:
                raise InputError(f"kernel: input of shape {np.shape(array)}; expected {view.shape}")
            view[...] = array
        self.run()
        return tuple([view.copy() for view in self.outputs])


def lowered(program: Program, schedule: str, folder: str | Path | None = None) -> tvm.IRModule:
    """Schedule a program.

    Parameters
    ----------
    program : Program
    schedule : {"hand", "tuned", "default"}
        "tuned" is "hand" with other decisions, wherever there is a record of tuning; "default" is
        TVM's own lowering: the loops as they are computed, in that order.
    folder : Path, optional
        Of records, see `kernels.records.find`.

    Raises
    ------
    InputError
        If the schedule is unknown, or a record is corrupt or does not fit.
    """
    if schedule not in SCHEDULES:
        raise InputError(
            f"schedule {schedule!r} is unknown; expected one of: {', '.join(SCHEDULES)}"
        )
    plan = planned(program)
    if schedule != "default":
        found = tuned(program, folder) if schedule == "tuned" else {}
        for step in program.steps:
            step.transform(plan, found.get(step.workload, step.by_hand))
    return plan.mod


def planned(program: Program) -> tvm.s_tir.Schedule:
    """Schedule of a program without any decision yet."""
    tensors = [tensor for _, tensor in program.inputs]
    tensors += [tensor for tensor, _ in program.weights]
    tensors += [tensor for _, tensor in program.outputs]
    return tvm.s_tir.Schedule(te.create_prim_func(tensors))


def tuned(program: Program, folder: str | Path | None = None) -> dict[str, dict[str, int]]:
    """Decisions of those steps of a program that have a record, by workload; as in `lowered`."""
    found = {
        step.workload: records.find(step, program.target, folder)
        for step in program.steps
        if step.space
    }
    return {name: record.decisions for name, record in found.items() if record is not None}


def build(program: Program, schedule: str, folder: str | Path | None = None) -> Kernel:
    """Compile a program and lay out its memory; arguments and errors as in `lowered`."""
    return bind(program, lowered(program, schedule, folder))


def bind(program: Program, module: tvm.IRModule) -> Kernel:
    """Compile a scheduled program and lay out its memory."""
    target = tvm.target.Target(program.target.llvm)
    with tvm.transform.PassContext(config=PASSES):
        executable = tvm.compile(module, target=target)

    def zeros(tensor: te.Tensor) -> np.ndarray:
        return np.zeros([int(n) for n in tensor.shape], tensor.dtype.dtype)

    values = [zeros(tensor) for _, tensor in program.inputs]
    values += [value for _, value in program.weights]
    values += [zeros(tensor) for _, tensor in program.outputs]
    memory = [tvm.runtime.tensor(value) for value in values]
    arrays = [np.from_dlpack(tensor) for tensor in memory]

    def views(operands, arrays) -> tuple[np.ndarray, ...]:
        return tuple([layout.view(a) for (layout, _), a in zip(operands, arrays, strict=True)])

    return Kernel(
        run=partial(executable["main"], *memory),
        inputs=views(program.inputs, arrays[: len(program.inputs)]),
        outputs=views(program.outputs, arrays[len(arrays) - len(program.outputs) :]),
        executable=executable,
    )
