"""Targets: the processors that kernels are compiled for.

Every target allows contraction: LLVM may turn a product and a sum into one fused multiply-add,
which rounds once instead of twice. TVM leaves that off, at half the speed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import tvm
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
