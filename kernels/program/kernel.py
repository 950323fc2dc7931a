"""Kernels: a program compiled and on a device, with its memory laid out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tvm
from tvm import te

from kernels import devices
from kernels.devices.instructions import Blocks, InstructionCount
from kernels.devices.targets import Target
from kernels.program import loops, records, subnormals
from kernels.program.program import Program
from kernels.program.records import Record
from refbnn.errors import InputError

SCHEDULES = ("default", "hand", "tuned")

# TVM's elimination of common subexpressions uses terms of `polynomials.named` before it defines
# them, where a loop over them is unrolled: KL from a Laplace or device-shaped prior by ρ would not
# compile. LLVM has its own.
PASSES = {"tirx.disable_cse_tir": True}


def passes(target: Target, schedule: str = "hand") -> dict[str, bool]:
    """Settings of TVM's passes for a target: those of all, and what schedules by hand ask for.

    On Arm these copy inputs and weights on their way into arrays that LLVM makes registers of
    (`kernels.layers.dense`). It does not where TVM lets several layers share the memory of one
    array. So none do: on the A72 a LeNet-5 at batches 1 and 10 executes 13 and 6 % fewer
    instructions, a 784-100-100-10 at batch 10 15 %, at batch 1 as many. Temporary arrays take more
    memory, 268 kB in place of 73, 417 of 130, 141 of 92 and 13 of 9 kB: less than the weights.
    """
    apart = target.is_arm and schedule != "default"
    return {**PASSES, "tirx.disable_storage_rewrite": True} if apart else PASSES


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
    count : callable without arguments, or None
        Runs as `run` does and counts executed instructions; None on devices that cannot.
    blocks : callable without arguments, or None
        Runs as `run` does and tells which code was executed how often; None as for `count`.
    time : callable without arguments, or None
        Seconds of one run on `inputs` as they stand, measured where the kernel is; None on the
        emulated core.
    """

    run: Callable[[], object]
    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]
    executable: tvm.runtime.Executable
    count: Callable[[], InstructionCount] | None = None
    blocks: Callable[[], Blocks] | None = None
    time: Callable[[], float] | None = None

    def __call__(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """Copy the arrays in, run, and copy the results out; shapes as of `inputs`.

        What they hold is not looked at: of NaN NaN is made (see `kernels.program.compiled` for
        networks).

        Raises
        ------
        InputError
            If these are not as many arrays, or not of these shapes.
        """
        self._put(arrays)
        self.run()
        return tuple([view.copy() for view in self.outputs])

    def instruction_count(self, *arrays: np.ndarray) -> InstructionCount:
        """Instructions that one run executes on these inputs.

        Raises
        ------
        InputError
            If the kernel is on a device that cannot count.
        """
        if self.count is None:
            raise InputError("kernel: this device counts no instructions; expected 'emulated'")
        self._put(arrays)
        return self.count()

    def _put(self, arrays: tuple[np.ndarray, ...]) -> None:
        if len(arrays) != len(self.inputs):
            raise InputError(f"kernel: {len(arrays)} arrays; expected {len(self.inputs)}")
        for view, array in zip(self.inputs, arrays, strict=True):
            if np.shape(array) != view.shape:
                raise InputError(f"kernel: input of shape {np.shape(array)}; expected {view.shape}")
            view[...] = array


def lowered(program: Program, schedule: str, folder: str | Path | None = None) -> tvm.IRModule:
    """Schedule a program.

    Parameters
    ----------
    program : Program
    schedule : {"hand", "tuned", "default"}
        "tuned" is "hand" with other decisions, wherever there is a record of tuning; "default" is
        TVM's own lowering: the loops as they are computed, in that order.
    folder : Path, optional
        Of records, see `kernels.program.records.find`.

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
    if program.flush and not program.target.is_arm:
        return subnormals.flushed(plan.mod)
    return plan.mod


def planned(program: Program) -> tvm.s_tir.Schedule:
    """Schedule of a program without any decision yet."""
    tensors = [tensor for _, tensor in program.inputs]
    tensors += [tensor for tensor, _ in program.weights]
    tensors += [tensor for _, tensor in program.outputs]
    return tvm.s_tir.Schedule(loops.unwrapped(te.create_prim_func(tensors)))


def tuned(program: Program, folder: str | Path | None = None) -> dict[str, dict[str, int]]:
    """Decisions of those steps of a program that have a record, by workload; as in `lowered`."""
    return {name: record.decisions for name, record in recorded(program, folder).items()}


def recorded(program: Program, folder: str | Path | None = None) -> dict[str, Record]:
    """Records of tuning of a program's steps, by workload; as in `lowered`."""
    found = {
        step.workload: records.find(step, program.target, folder)
        for step in program.steps
        if step.space
    }
    return {name: record for name, record in found.items() if record is not None}


def build(
    program: Program,
    schedule: str,
    folder: str | Path | None = None,
    device: str | devices.Board = "local",
) -> Kernel:
    """Compile a program, put it on a device and lay out its memory.

    Parameters
    ----------
    program : Program
    schedule, folder
        As in `lowered`.
    device : {"local", "emulated", "rpc"} or Board
        See `kernels.devices`.

    Raises
    ------
    InputError
        As in `lowered` and `kernels.devices.find`.
    """
    devices.find(device, program.target)  # before the work, not after it
    return bind(program, lowered(program, schedule, folder), device, schedule)


def bind(
    program: Program,
    module: tvm.IRModule,
    device: str | devices.Board = "local",
    schedule: str = "hand",
) -> Kernel:
    """Compile a program scheduled in that way and lay out its memory; otherwise as `build`."""
    load = devices.find(device, program.target)
    target = tvm.target.Target(program.target.llvm)
    watching = tvm.transform.PassContext.current().instruments
    with tvm.transform.PassContext(config=passes(program.target, schedule), instruments=watching):
        executable = tvm.compile(module, target=target)

    loaded = load(executable, memory(program))

    def views(operands, arrays) -> tuple[np.ndarray, ...]:
        return tuple([layout.view(a) for (layout, _), a in zip(operands, arrays, strict=True)])

    return Kernel(
        run=loaded.run,
        inputs=views(program.inputs, loaded.memory.inputs),
        outputs=views(program.outputs, loaded.memory.outputs),
        executable=executable,
        count=loaded.count,
        blocks=loaded.blocks,
        time=loaded.time,
    )


def memory(program: Program) -> devices.Memory:
    """The arrays of a program: its weights, and zeros for inputs and outputs."""

    def zeros(operands) -> list[np.ndarray]:
        return [
            np.zeros([int(n) for n in tensor.shape], tensor.dtype.dtype) for _, tensor in operands
        ]

    weights = [values for _, values in program.weights]
    return devices.Memory(zeros(program.inputs), weights, zeros(program.outputs))
