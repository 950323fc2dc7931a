"""Statements of loops that are written out (`kernels.program.loops`): arrays, stores, names."""

from __future__ import annotations

from tvm import tirx
from tvm.script.ir_builder import tirx as script

from kernels.arithmetic.polynomials import kept


def array(*shape: int) -> tirx.Buffer:
    """Declare a small array on the stack."""
    return script.alloc_buffer(shape, "float32")


def put(buffer: tirx.Buffer, value, *index) -> None:
    """Write the statement buffer[index] = value."""
    script.buffer_store(buffer, value, list(index))


def let(value) -> tirx.Var:
    """Write the statement that names a value: it is computed once."""
    return script.bind(kept(value))
