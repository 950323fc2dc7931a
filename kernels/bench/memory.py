"""Memory that a compiled network takes: what it is handed, what it allocates, and its code."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import tvm
import tvm_ffi
from tvm.ir.instrument import pass_instrument

from kernels.devices import Board
from kernels.program.kernel import Kernel, build
from kernels.program.program import Program


@dataclass(frozen=True)
class Size:
    """Memory of a compiled network, in bytes.

    Parameters
    ----------
    weights, activations : int
        Its arguments: what is read of the weights; inputs and outputs.
    workspace : int
        Intermediate arrays; those that live at different times share a place, but for Arm
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
    whole: Program,
    schedule: str,
    records: Path | None,
    work: Path,
    device: str | Board = "local",
) -> Size:
    """Compile a program once more, and see what it takes.

    Parameters
    ----------
    whole : Program
    schedule, records, device : as of `kernels.program.kernel.build`
    work : Path
        Folder for the object file, which is removed.
    """
    seen = _Allocations()
    with tvm.transform.PassContext(instruments=[seen]):
        kernel: Kernel = build(whole, schedule, records, device)
    file = work / "kernel.o"
    kernel.executable.mod.write_to_file(str(file), "o")
    code = file.stat().st_size
    file.unlink()
    ends = [*whole.inputs, *whole.outputs]
    return Size(
        weights=sum(values.nbytes for _, values in whole.weights),
        activations=sum(_bytes(tensor.shape, tensor.dtype) for _, tensor in ends),
        workspace=seen.n_bytes,
        code=code,
    )


def _bytes(shape, dtype) -> int:
    kind = tvm.DataType(str(dtype))
    return prod(int(n) for n in shape) * kind.lanes * kind.bits // 8


# The pass that follows the one by which arrays of different times share their place.
_PLACED = "s_tir.HoistIfThenElse"


@pass_instrument
class _Allocations:
    """What a program allocates."""

    n_bytes = 0

    def run_after_pass(self, module, info) -> None:
        """Add up the arrays after that pass."""
        if info.name == _PLACED:
            for function in module.functions.values():
                tvm_ffi.structural_walk(function.body, (tvm.tirx.AllocBuffer, self._count))

    def _count(self, statement) -> None:
        self.n_bytes += _bytes(statement.buffer.shape, statement.buffer.dtype)
