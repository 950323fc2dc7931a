"""Lay out the memory of a library: its weights, and the struct that a caller owns.

All kernels of a library share one array of weights. The struct has the arrays that go into kernels
and come out of them, and a union of the temporary arrays of each kernel, as one runs after the
other. Every array begins at a multiple of 64 bytes, which TVM expects.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from kernels.deploy.function import Function, c_type_of, item_bytes
from kernels.program.program import Program

ALIGNMENT = 64  # bytes: as TVM expects of arrays
_SINGLES = ALIGNMENT // 4  # float32 numbers


@dataclass(frozen=True, eq=False)
class Part:
    """One kernel of a library.

    Parameters
    ----------
    name : str
        The function is NAME_name.
    program : Program
    function : Function
    arrays : tuple of str
        Members of the struct for the inputs and outputs of the program, in their order.
    """

    name: str
    program: Program
    function: Function
    arrays: tuple[str, ...]

    def operands(self) -> Iterable[tuple[str, str, int]]:
        """Name, C type and length of each input and output."""
        tensors = [tensor for _, tensor in [*self.program.inputs, *self.program.outputs]]
        for name, tensor in zip(self.arrays, tensors, strict=True):
            yield name, c_type_of(tensor.dtype.dtype), prod(int(n) for n in tensor.shape)


@dataclass(frozen=True, eq=False)
class Library:
    """Kernels of a library, and their memory."""

    parts: tuple[Part, ...]

    def weights(self) -> np.ndarray:
        """All weights in one array, each padded with zeros."""
        padded = [
            np.pad(values.ravel(), (0, _whole(values.size) - values.size))
            for part in self.parts
            for _, values in part.program.weights
        ]
        return np.concatenate([np.zeros(0, np.float32), *padded])

    def crc(self) -> int:
        """CRC-32 (that of zip files) of the weights, as little-endian float32."""
        return zlib.crc32(self.weights().astype("<f4").tobytes())

    def table(self) -> Iterable[tuple[int, tuple[int, ...], str]]:
        """Offset in bytes, shape and name of each array of weights."""
        offset = 0
        for part in self.parts:
            for tensor, values in part.program.weights:
                yield 4 * offset, values.shape, tensor.op.name
                offset += _whole(values.size)

    def arguments(self, part: Part) -> str:
        """Arguments of a kernel: inputs, weights, outputs, temporary arrays."""
        own = [f"work->{name}" for name in part.arrays]
        n_inputs, ahead = len(part.program.inputs), 0
        for other in self.parts[: self.parts.index(part)]:
            ahead += sum(_whole(values.size) for _, values in other.program.weights)
        weights = []
        for _, values in part.program.weights:
            weights.append(f"weights + {ahead}")
            ahead += _whole(values.size)
        temporary = [f"work->of.{part.name}.array_{i}" for i in range(len(part.function.work))]
        return ", ".join([*own[:n_inputs], *weights, *own[n_inputs:], *temporary])

    def members(self) -> Iterable[str]:
        """Declare the members of the struct; the first is aligned, and so are all others."""
        aligned = "{upper}_ALIGNED "
        for name, c_type, n in self._arrays():
            yield f"  {aligned}{c_type} {name}[{_padded(c_type, n)}];"
            aligned = ""
        if any(part.function.work for part in self.parts):
            yield "  union {"
            for part in filter(lambda part: part.function.work, self.parts):
                yield "    struct {"
                for index, (c_type, n) in enumerate(part.function.work):
                    yield f"      {c_type} array_{index}[{_padded(c_type, n)}];"
                yield f"    }} {part.name};"
            yield "  } of;"

    def work_bytes(self) -> int:
        """Size of the struct."""
        temporary = [sum(_bytes(*array) for array in part.function.work) for part in self.parts]
        return sum(_bytes(c_type, n) for _, c_type, n in self._arrays()) + max(temporary)

    def _arrays(self) -> Sequence[tuple[str, str, int]]:
        """Arrays of the struct but temporary ones: name, C type, length."""
        found = {operand[0]: operand for part in self.parts for operand in part.operands()}
        return [*found.values(), ("ready", "uint32_t", 1)]


def parameters(part: Part) -> list[str]:
    """C types of a kernel's parameters: what it only reads is constant."""
    types = [c_type for _, c_type, _ in part.operands()]
    n_inputs = len(part.program.inputs)
    reads = [*types[:n_inputs], *(["float"] * len(part.program.weights))]
    writes = [*types[n_inputs:], *(c_type for c_type, _ in part.function.work)]
    return [*(f"const {c_type} *" for c_type in reads), *(f"{c_type} *" for c_type in writes)]


def _whole(n: int) -> int:
    """Round a number of float32 numbers up to the alignment."""
    return -(-n // _SINGLES) * _SINGLES


def _bytes(c_type: str, n: int) -> int:
    return ALIGNMENT * -(-n * item_bytes(c_type) // ALIGNMENT)


def _padded(c_type: str, n: int) -> int:
    """Length of an array, rounded up to the alignment."""
    return _bytes(c_type, n) // item_bytes(c_type)
