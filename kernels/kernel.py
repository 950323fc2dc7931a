"""Kernels: a program compiled, with its memory laid out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import tvm
from tvm import te

from kernels.program import Program
from refbnn.errors import InputError

SCHEDULES = ("default", "hand")

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


def lowered(program: Program, schedule: str) -> tvm.IRModule:
    """Schedule a program.

    Parameters
    ----------
    program : Program
    schedule : {"hand", "default"}
        "default" is TVM's own lowering: the loops as they are computed, in that order.

    Raises
    ------
    InputError
        If the schedule is unknown.
    """
    if schedule not in SCHEDULES:
        raise InputError(
            f"schedule {schedule!r} is unknown; expected one of: {', '.join(SCHEDULES)}"
        )
    tensors = [tensor for _, tensor in program.inputs]
    tensors += [tensor for tensor, _ in program.weights]
    tensors += [tensor for _, tensor in program.outputs]
    plan = tvm.s_tir.Schedule(te.create_prim_func(tensors))
    if schedule == "hand":
        for step in program.steps:
            step.transform(plan, step.by_hand)
    return plan.mod


def build(program: Program, schedule: str) -> Kernel:
    """Compile a program and lay out its memory; arguments and errors as in `lowered`."""
    target = tvm.target.Target(program.target.llvm)
    with tvm.transform.PassContext(config=PASSES):
        executable = tvm.compile(lowered(program, schedule), target=target)

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
