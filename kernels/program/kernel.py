"""Kernels: programs compiled and loaded on a device, with their memory laid out.

`build` does all of it: `lowered` schedules the program, `bind` compiles it and puts it on the
device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import NoReturn

import numpy as np
import tvm
from numpy.typing import ArrayLike
from tvm import te

from kernels import devices
from kernels.devices.instructions import Blocks, InstructionCount, count
from kernels.devices.targets import Target
from kernels.program import locks, loops, records, subnormals, zeros
from kernels.program.program import Program
from kernels.program.records import Record
from refbnn.errors import InputError
from refbnn.numerics.arguments import require_known

SCHEDULES = ("default", "hand", "tuned")

# TVM's elimination of common subexpressions uses terms of `polynomials.named` before it defines
# them, where a loop over them is unrolled: KL from a Laplace or device-shaped prior by ρ would not
# compile. LLVM has its own.
PASSES = {"tirx.disable_cse_tir": True}


def passes(target: Target, schedule: str = "hand") -> dict[str, bool]:
    """Settings of TVM's passes for a target and a schedule.

    Disable StorageRewrite on Arm: shared buffers stop LLVM from keeping copies in registers, and
    schedules by hand make such copies of inputs and weights (`kernels.layers.dense`). On the A72 a
    LeNet-5 at batches 1 and 10 then executes 13 and 6 % fewer instructions, a 784-100-100-10 at
    batch 10 15 % fewer, at batch 1 as many. Temporary arrays take more memory, 268 kB instead of
    73, 417 of 130, 141 of 92 and 13 of 9 kB: less than the weights.
    """
    unshared = target.is_arm and schedule != "default"
    return {**PASSES, "tirx.disable_storage_rewrite": True} if unshared else PASSES


@dataclass(frozen=True, eq=False)
class Kernel:
    """A compiled function with memory of its own: call it with its input arrays.

    All calls share that memory, so a lock lets one thread call at a time. To compute in several
    threads at once, compile once for each.

    Parameters
    ----------
    run : callable without arguments
        Computes `outputs` from what `inputs` hold.
    inputs, outputs : tuples of ndarray, (batch, ...)
        Views of that memory, without the padding. Their shapes are those of a call's arrays;
        numbers are float32, the words of a seed uint32.
    executable : tvm.runtime.Executable
        Compiled module.
    again : callable without arguments
        Loads the same code once more, with inputs and outputs of its own and the same weights.
    weights : sequence of ndarray
        The weights in that memory, padding included.
    blocks, time : callables without arguments, or None
        As in `kernels.devices.Loaded`.
    lock : Lock
        Whoever uses `run`, `blocks`, `time` or the views holds it.
    """

    run: Callable[[], object]
    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]
    executable: tvm.runtime.Executable
    again: Callable[[], Kernel]
    weights: Sequence[np.ndarray] = ()
    blocks: Callable[[], Blocks] | None = None
    time: Callable[[], float] | None = None
    lock: Lock = field(default_factory=locks.lock, repr=False)

    def __repr__(self) -> str:
        """Shapes of inputs and outputs."""
        shapes = [
            ", ".join(str(view.shape) for view in views) for views in (self.inputs, self.outputs)
        ]
        return f"Kernel({' -> '.join(shapes)})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: machine code lies at addresses of this process."""
        raise TypeError("a kernel can be neither pickled nor copied; compile it again instead")

    def __call__(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """Compute the outputs for these inputs.

        Parameters
        ----------
        *arrays : array_like, of the shapes of `inputs`
            Converted to float32. NaN and infinity are not refused: they reach the outputs.

        Returns
        -------
        tuple of ndarray
            Fresh arrays, of the shapes of `outputs`.

        Raises
        ------
        InputError
            If the number of arrays or a shape is wrong.
        """
        with self.lock:
            self._put(arrays)
            self.run()
            return tuple([view.copy() for view in self.outputs])

    def instruction_count(self, *arrays: ArrayLike) -> InstructionCount:
        """Count the instructions that one run executes on these inputs.

        Raises
        ------
        InputError
            As in a call, and if the device cannot count: only "emulated" can.
        """
        if self.blocks is None:
            raise InputError(
                "kernel: this device counts no instructions; compile with device='emulated'"
            )
        with self.lock:
            self._put(arrays)
            executed = self.blocks()
        return count(executed)

    def _put(self, arrays: tuple[ArrayLike, ...]) -> None:
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
        "tuned" takes decisions from records of tuning where there are, and else those by hand;
        "default" keeps the loops as the operators define them.
    folder : path, optional
        Folder of records, see `kernels.program.records.find`.

    Raises
    ------
    InputError
        If the schedule is unknown, or a record is corrupt or does not fit.
    """
    require_known(schedule, SCHEDULES, "schedule")
    plan = planned(program)
    if schedule != "default":
        found = tuned(program, folder) if schedule == "tuned" else {}
        for step in program.steps:
            step.transform(plan, found.get(step.workload, step.by_hand))
    if program.flush and not program.target.is_arm:
        return subnormals.flushed(plan.mod)
    return plan.mod


def planned(program: Program) -> tvm.s_tir.Schedule:
    """Unscheduled loops of a program, for transforms to be applied to."""
    tensors = [tensor for _, tensor in program.inputs]
    tensors += [tensor for tensor, _ in program.weights]
    tensors += [tensor for _, tensor in program.outputs]
    return tvm.s_tir.Schedule(loops.unwrapped(te.create_prim_func(tensors)))


def tuned(program: Program, folder: str | Path | None = None) -> dict[str, dict[str, int]]:
    """Recorded decisions of a program's steps, by workload; errors as in `lowered`."""
    return {name: record.decisions for name, record in recorded(program, folder).items()}


def recorded(program: Program, folder: str | Path | None = None) -> dict[str, Record]:
    """Records of a program's steps, by workload; errors as in `lowered`."""
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
    """Schedule and compile a program, and load it on a device.

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
    """Compile the module of a scheduled program and load it on a device; errors as in `build`."""
    load = devices.find(device, program.target)
    target = tvm.target.Target(program.target.llvm)
    instruments = tvm.transform.PassContext.current().instruments  # of the caller
    settings = passes(program.target, schedule)
    with tvm.transform.PassContext(config=settings, instruments=instruments):
        executable = tvm.compile(zeros.skipping(module, program.target.lanes), target=target)
    return _loaded(program, load, executable, memory(program))


def _loaded(
    program: Program,
    load: devices.Device,
    executable: tvm.runtime.Executable,
    arrays: devices.Memory,
) -> Kernel:
    loaded = load(executable, arrays)

    def views(operands, arrays) -> tuple[np.ndarray, ...]:
        return tuple([layout.view(a) for (layout, _), a in zip(operands, arrays, strict=True)])

    def again() -> Kernel:
        own = replace(memory(program), weights=loaded.memory.weights)
        return _loaded(program, load, executable, own)

    return Kernel(
        run=loaded.run,
        inputs=views(program.inputs, loaded.memory.inputs),
        outputs=views(program.outputs, loaded.memory.outputs),
        executable=executable,
        again=again,
        weights=loaded.memory.weights,
        blocks=loaded.blocks,
        time=loaded.time,
    )


def memory(program: Program) -> devices.Memory:
    """Allocate the arrays of a program: its weights, and zeros for inputs and outputs."""

    def zeros(operands) -> list[np.ndarray]:
        return [np.zeros([int(n) for n in t.shape], t.dtype.dtype) for _, t in operands]

    weights = [values for _, values in program.weights]
    return devices.Memory(zeros(program.inputs), weights, zeros(program.outputs))
