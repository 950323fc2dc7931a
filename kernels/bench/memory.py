"""Memory that a compiled network takes: its arguments, what it allocates, and its code."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import tvm
import tvm_ffi
from tvm.ir.instrument import pass_instrument

from kernels.devices import Board
from kernels.devices.linker import object_file
from kernels.program.kernel import build
from kernels.program.program import Program


@dataclass(frozen=True)
class Size:
    """Memory of a compiled network, in bytes.

    Parameters
    ----------
    weights, activations : int
        Arguments: weights as they are read; inputs and outputs.
    workspace : int
        Intermediate arrays. Arrays that live at different times share memory, except on Arm
        (`kernels.program.kernel.passes`).
    code : int
        The object file.
    """

    weights: int
    activations: int
    workspace: int
    code: int

    @property
    def peak(self) -> int:
        """All but the code."""
        return self.weights + self.activations + self.workspace


def size(
    whole: Program, schedule: str, records: Path | None, device: str | Board = "local"
) -> Size:
    """Compile a program as `kernels.program.kernel.build` does, and measure its memory."""
    allocated = _Allocations()
    with tvm.transform.PassContext(instruments=[allocated]):
        kernel = build(whole, schedule, records, device)
    ends = [*whole.inputs, *whole.outputs]
    return Size(
        weights=sum(values.nbytes for _, values in whole.weights),
        activations=sum(_bytes(tensor.shape, tensor.dtype) for _, tensor in ends),
        workspace=allocated.n_bytes,
        code=len(object_file(kernel.executable)),
    )


def _bytes(shape, dtype) -> int:
    kind = tvm.DataType(str(dtype))
    return prod(int(n) for n in shape) * kind.lanes * kind.bits // 8


# The pass after StorageRewrite, which lets arrays of different times share memory.
_AFTER_REWRITE = "s_tir.HoistIfThenElse"


@pass_instrument
class _Allocations:
    """Bytes that a program allocates."""

    n_bytes = 0

    def run_after_pass(self, module, info) -> None:
        """Add up the arrays after that pass."""
        if info.name == _AFTER_REWRITE:
            for function in module.functions.values():
                tvm_ffi.structural_walk(function.body, (tvm.tirx.AllocBuffer, self._count))

    def _count(self, statement) -> None:
        self.n_bytes += _bytes(statement.buffer.shape, statement.buffer.dtype)
