"""Targets: the processors that kernels are compiled for, and what compiling for one gives.

Every target allows contraction: LLVM may turn a product and a sum into one fused multiply-add,
which rounds once instead of twice. TVM leaves that off, at half the speed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import tvm
from tvm import te
from tvm.target import codegen

from refbnn.errors import InputError


@dataclass(frozen=True)
class Target:
    """One processor.

    Parameters
    ----------
    name : str
        What users call it.
    lanes : int
        float32 numbers in one vector register.
    registers : int
        Vector registers that a program can name.
    llvm : dict
        The target as TVM wants it.
    """

    name: str
    lanes: int
    registers: int
    llvm: dict[str, object]

    def padded(self, n: int) -> int:
        """Round n up to whole vectors."""
        return -(-n // self.lanes) * self.lanes

    def activation(self, name: str, batch: int, n: int) -> te.Tensor:
        """Declare an input of n features, its rows padded to whole vectors: no loop has a tail.

        Raises
        ------
        InputError
            If the batch is no integer of at least 1.
        """
        if not isinstance(batch, int | np.integer) or batch < 1:
            raise InputError(f"batch_size is {batch!r}; expected at least 1, a whole number")
        return te.placeholder((batch, self.padded(n)), name=name)


def _host() -> Target:
    """Describe this processor: LLVM detects its name, and the name tells the vector units."""
    llvm = {
        "kind": "llvm",
        "mtriple": str(codegen.llvm_get_system_triple()),
        "mcpu": str(codegen.llvm_get_system_cpu()),
        "fast-math-contract": True,
    }
    features = codegen.llvm_get_cpu_features(tvm.target.Target(llvm))
    if "avx512f" in features:
        lanes, registers = 16, 32
    elif "avx2" in features:
        lanes, registers = 8, 16
    elif "neon" in features:
        lanes, registers = 4, 32
    else:
        lanes, registers = 4, 16  # SSE, which every x86-64 has
    return Target("host", lanes, registers, llvm)


_TARGETS: dict[str, Callable[[], Target]] = {"host": _host}


@cache
def target(name: str) -> Target:
    """Look up the target of that name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in _TARGETS:
        raise InputError(f"target {name!r} is unknown; expected one of: {', '.join(_TARGETS)}")
    return _TARGETS[name]()


@dataclass(frozen=True)
class Kernel:
    """A compiled function bound to its memory, laid out once: weights, inputs, outputs.

    Not for two threads at once: every call uses that memory.

    Parameters
    ----------
    run : callable without arguments
        Runs on `inputs` as they stand and leaves the results in `outputs`.
    inputs, outputs : tuples of ndarray, (batch, features) float32
        Views of that memory, without the padding.
    executable : tvm.runtime.Executable
        The compiled module, for its assembly.
    """

    run: Callable[[], object]
    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]
    executable: tvm.runtime.Executable

    def __call__(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """Copy the arrays in, run, and copy the results out; each of shape (batch, features)."""
        for view, array in zip(self.inputs, arrays, strict=True):
            if np.shape(array) != view.shape:
                raise InputError(f"kernel: input of shape {np.shape(array)}; expected {view.shape}")
            view[...] = array
        self.run()
        return tuple([view.copy() for view in self.outputs])


@dataclass(frozen=True)
class Program:
    """What a kernel computes, and how by hand.

    Parameters
    ----------
    inputs, outputs : tensors, (batch, features padded to whole vectors)
    n_in, n_out : int
        Features without the padding.
    weights : pairs of a tensor and its values
    hand : functions that transform a schedule in place
    """

    inputs: Sequence[te.Tensor]
    n_in: int
    weights: Sequence[tuple[te.Tensor, np.ndarray]]
    outputs: Sequence[te.Tensor]
    n_out: int
    hand: Sequence[Callable[[tvm.s_tir.Schedule], None]]


def build(program: Program, target: Target, schedule: str) -> Kernel:
    """Compile a program and lay out its memory.

    Parameters
    ----------
    program : Program
    target : Target
    schedule : {"hand", "default"}
        "default" is TVM's own lowering: the loops as they are computed, in that order.

    Raises
    ------
    InputError
        If the schedule is unknown.
    """
    if schedule not in ("hand", "default"):
        raise InputError(f"schedule {schedule!r} is unknown; expected one of: hand, default")
    tensors = [*program.inputs, *(tensor for tensor, _ in program.weights), *program.outputs]
    plan = tvm.s_tir.Schedule(te.create_prim_func(tensors))
    if schedule == "hand":
        for transform in program.hand:
            transform(plan)
    executable = tvm.compile(plan.mod, target=tvm.target.Target(target.llvm))

    def zeros(tensor: te.Tensor) -> np.ndarray:
        return np.zeros([int(n) for n in tensor.shape], np.float32)

    values = [*map(zeros, program.inputs)]
    values += [value for _, value in program.weights]
    values += [*map(zeros, program.outputs)]
    memory = [tvm.runtime.tensor(value) for value in values]
    views = [np.from_dlpack(tensor) for tensor in memory]
    return Kernel(
        run=partial(executable["main"], *memory),
        inputs=tuple(view[:, : program.n_in] for view in views[: len(program.inputs)]),
        outputs=tuple(view[:, : program.n_out] for view in views[-len(program.outputs) :]),
        executable=executable,
    )
