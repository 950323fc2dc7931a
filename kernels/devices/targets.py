"""Targets: the processors that kernels are compiled for.

A product and a sum become one fused multiply-add, rounded once instead of twice, wherever the
processor has it: TVM writes them as LLVM's `fmuladd`. TVM's option `fast-math-contract` changes
nothing: with it, the machine code of whole networks is the same, byte for byte (TVM 0.27).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import tvm
from tvm.target import codegen

from refbnn.numerics.arguments import require_known


@dataclass(frozen=True)
class Target:
    """One processor.

    Parameters
    ----------
    name : str
        Name in `compile_network` and on the command line.
    lanes : int
        float32 numbers in one vector register.
    registers : int
        Vector registers that a program can name.
    llvm : dict
        TVM's description of the target.
    in_order : bool
        Whether the core executes instructions in order, so that they wait for loads before them.
    """

    name: str
    lanes: int
    registers: int
    llvm: dict[str, object]
    in_order: bool = False

    @property
    def is_arm(self) -> bool:
        """Whether the processor is a 64-bit Arm."""
        return str(self.llvm["mtriple"]).startswith(("aarch64", "arm64"))

    @property
    def converts_half(self) -> bool:
        """Whether an instruction converts half precision to float32, as every 64-bit Arm does."""
        return self.is_arm or "f16c" in _features(self.llvm)


def _features(llvm: dict[str, object]) -> set[str]:
    """Features of the processor that LLVM uses for a target."""
    return set(map(str, codegen.llvm_get_cpu_features(tvm.target.Target(llvm))))


def _host(missing: Sequence[str] | None = None) -> Target:
    """Describe this processor: LLVM detects its name, and the name tells the vector units.

    The name may promise more than there is, as in a virtual machine that hides AVX-512, whose
    instructions would then end the program. NumPy asks the processor and the operating system for
    each level of x86-64; the highest that it finds replaces a name that promises more.

    Parameters
    ----------
    missing : sequence of str, optional
        Levels that NumPy does not find, by its names, such as X86_V4 (AVX-512).
    """
    if missing is None:
        build: Any = np.show_config(mode="dicts")
        missing = build["SIMD Extensions"].get("not found", ())
    llvm: dict[str, object] = {
        "kind": "llvm",
        "mtriple": str(codegen.llvm_get_system_triple()),
        "mcpu": str(codegen.llvm_get_system_cpu()),
    }
    promised = _features(llvm)
    for level, feature, fallback in (
        ("X86_V4", "avx512f", "x86-64-v3"),
        ("X86_V3", "avx2", "x86-64-v2"),
    ):
        if level in missing and feature in promised:
            llvm["mcpu"] = fallback
    features = _features(llvm)
    if "avx512f" in features:
        lanes, registers = 16, 32
    elif "avx2" in features:
        lanes, registers = 8, 16
    elif "neon" in features:
        lanes, registers = 4, 32
    else:
        lanes, registers = 4, 16  # SSE, which every x86-64 has
    return Target("host", lanes, registers, llvm)


def _arm(name: str, mcpu: str, in_order: bool = False) -> Callable[[], Target]:
    """Describe an Arm core in its 64-bit state: 32 vector registers of 128 bits (NEON)."""
    llvm: dict[str, object] = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": mcpu}
    return lambda: Target(name, 4, 32, llvm, in_order)


# LLVM knows by the core's name which instructions it has (half precision on the A76), and in which
# order to issue them.
_TARGETS: dict[str, Callable[[], Target]] = {
    "host": _host,
    "aarch64": _arm("aarch64", "generic"),
    "cortex-a53": _arm("cortex-a53", "cortex-a53", in_order=True),  # Raspberry Pi 3
    "cortex-a72": _arm("cortex-a72", "cortex-a72"),  # Raspberry Pi 4
    "cortex-a76": _arm("cortex-a76", "cortex-a76"),  # Raspberry Pi 5
}


def target(name: str) -> Target:
    """Look up a target by name.

    Raises
    ------
    InputError
        If the name is unknown.

    Examples
    --------
    >>> from kernels.devices.targets import target
    >>> target("cortex-a72").lanes
    4
    """
    require_known(name, _TARGETS, "target")
    return _made(name)


@cache
def _made(name: str) -> Target:
    return _TARGETS[name]()
