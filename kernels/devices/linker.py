"""Programs for the emulated core, TVM's object file and a small runtime; libraries for boards.

Both compiler and linker are Zig's (clang and lld, cross compilers for any machine, from pip). Only
the linker is called for each kernel, with no C library: that takes a tenth of a second and leaves
nothing behind, where Zig's compiler as the driver would first build a C library, for a minute or
two. The runtime is compiled once a process, in half a second, and Zig keeps it in the user's cache.
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
    """The machine code of a module."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "main.o"
        executable.mod.write_to_file(str(path), "o")
        return path.read_bytes()


def link(code: bytes) -> bytes:
    """Make a static program for aarch64 of TVM's object file and the runtime; an ELF file.

    Raises
    ------
    InputError
        If it calls a function that neither of them has.
    """
    return linked(code, compiled(_STUB))


def shared_library(code: bytes) -> bytes:
    """Make a shared library of TVM's object file, for the processor that it is for; an ELF file.

    What it calls is TVM's runtime and the C library, both there in the process that loads it.

    Raises
    ------
    InputError
        If the linker refuses.
    """
    with tempfile.TemporaryDirectory() as folder:
        path, library = Path(folder) / "main.o", Path(folder) / "main.so"
        path.write_bytes(code)
        zig("ld.lld", "-shared", path, "-o", library, expected="a library of a kernel")
        return library.read_bytes()


def linked(*objects: bytes) -> bytes:
    """Put object files together; an ELF file with fixed addresses, without an entry of its own.

    Raises
    ------
    InputError
        If the linker refuses.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.o" for index in range(len(objects))]
        for path, content in zip(paths, objects, strict=True):
            path.write_bytes(content)
        program = Path(folder) / "program"
        zig("ld.lld", "-static", "-e", "0", *paths, "-o", program, expected=_PROGRAM)
        return program.read_bytes()


@cache
def compiled(source: Path) -> bytes:
    """Compile C that needs no C library; an object file.

    Raises
    ------
    InputError
        If the compiler refuses.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.o"
        # Without builtins: a compiler makes calls of memset out of the loops of memset.
        options = ("-target", "aarch64-linux-musl", "-O2", "-ffreestanding", "-fno-builtin")
        zig("cc", *options, "-c", source, "-o", out, expected=_PROGRAM)
        return out.read_bytes()


def zig(*words: str | Path, expected: str) -> None:
    """Run one of Zig's tools: cc, ar or ld.lld.

    Raises
    ------
    InputError
        If it refuses; `expected` says what it is to make.
    """
    done = subprocess.run(
        [sys.executable, "-m", "ziglang", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise InputError(f"zig {words[0]}: {lines[0]}; expected {expected}")
