"""Programs for the emulated core: TVM's object file and a small runtime, linked.

Both compiler and linker are Zig's (clang and lld, cross compilers for any machine, from pip). Only
the linker is called for each kernel, with no C library: that takes a tenth of a second, where
Zig's compiler as the driver first builds a C library, for a minute or two. The runtime is compiled
once a process, and Zig keeps it in the user's cache from then on.
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


def link(executable: tvm.runtime.Executable) -> bytes:
    """Make a static program for aarch64 of a module.

    Returns
    -------
    bytes
        An ELF file with fixed addresses.

    Raises
    ------
    InputError
        If it calls a function that neither it nor the runtime has.
    """
    with tempfile.TemporaryDirectory() as folder:
        object_, stub, program = (Path(folder) / name for name in ("main.o", "stub.o", "main"))
        executable.mod.write_to_file(str(object_), "o")
        stub.write_bytes(_compiled(_STUB))
        _zig("ld.lld", "-static", "-e", "__tvm_ffi_main", object_, stub, "-o", program)
        return program.read_bytes()


@cache
def _compiled(source: Path) -> bytes:
    """Object file of C source that needs no C library."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "stub.o"
        # Without builtins: a compiler makes calls of memset out of the loops of memset.
        options = ("-target", "aarch64-linux-musl", "-O2", "-ffreestanding", "-fno-builtin")
        _zig("cc", *options, "-c", source, "-o", out)
        return out.read_bytes()


def _zig(*words: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ziglang", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise InputError(f"zig {words[0]}: {lines[0]}; expected a program for aarch64")
