"""Machine code: TVM's object files, linked into programs for the emulated core or shared libraries.

Compiler and linker are Zig's (clang and lld, cross compilers for any machine, from pip). Each
kernel needs the linker alone, without a C library, which takes a tenth of a second; with Zig's
compiler as the driver, the first link would build a C library for a minute or two. The runtime
(`stub.c`) is compiled once a process, in half a second, and Zig caches it. Where a tool fails,
InputError says what it reports, such as a function that is not defined.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import tvm

from refbnn.errors import InputError

_STUB = Path(__file__).with_name("stub.c")
_PROGRAM = "a program for aarch64, alone"


def object_file(executable: tvm.runtime.Executable) -> bytes:
    """Machine code of a module."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "main.o"
        executable.mod.write_to_file(str(path), "o")
        return path.read_bytes()


def link(code: bytes) -> bytes:
    """Link TVM's object file and the runtime to a static program for aarch64, an ELF file."""
    return linked(code, compiled(_STUB))


def shared_library(code: bytes) -> bytes:
    """Link TVM's object file to a shared library, which needs TVM's runtime and the C library."""
    return _lld(["-shared"], code, expected="a library of a kernel")


def linked(*objects: bytes) -> bytes:
    """Link object files to an ELF file with fixed addresses and no entry point."""
    return _lld(["-static", "-e", "0"], *objects, expected=_PROGRAM)


def _lld(options: list[str], *objects: bytes, expected: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.o" for index in range(len(objects))]
        for path, content in zip(paths, objects, strict=True):
            path.write_bytes(content)
        out = Path(folder) / "out"
        zig("ld.lld", *options, *paths, "-o", out, expected=expected)
        return out.read_bytes()


@cache
def compiled(source: Path) -> bytes:
    """Compile C that needs no C library; an object file."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.o"
        # Without builtins: a compiler turns the loops of memset into calls of memset.
        options = ("-target", "aarch64-linux-musl", "-O2", "-ffreestanding", "-fno-builtin")
        zig("cc", *options, "-c", source, "-o", out, expected=_PROGRAM)
        return out.read_bytes()


def zig(*words: str | Path, expected: str) -> None:
    """Run one of Zig's tools, cc, ar or ld.lld, to make what `expected` names in errors."""
    command = [sys.executable, "-m", "ziglang", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise InputError(f"zig {words[0]}: {lines[0]}; expected {expected}")
