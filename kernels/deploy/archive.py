"""Make a static library of one object: the kernels, their weights and the functions around them.

Zig compiles and links (clang and lld for any machine, from pip). The kernels' own names are hidden,
and unused sections are dropped, so that a program can hold several networks.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from kernels.devices.linker import zig
from kernels.devices.targets import Target
from refbnn.errors import InputError

# The object may call the C library, and no runtime of the compiler.
_OPTIONS = (
    *("-std=c99", "-O2", "-fPIC", "-fdata-sections", "-ffunction-sections"),
    *("-fno-sanitize=all", "-fno-stack-protector", "-fno-asynchronous-unwind-tables"),
)
# LLVM writes debug information for source files that do not exist.
_SCRIPT = "SECTIONS { /DISCARD/ : { *(.debug*) *(.comment) } }"
_EXECUTED, _WRITTEN, _LOADED = 4, 1, 2  # flags SHF_EXECINSTR, SHF_WRITE, SHF_ALLOC


@dataclass(frozen=True)
class Sizes:
    """Bytes of a library in a program.

    Parameters
    ----------
    code : int
        Machine code.
    constants : int
        Read-only data, such as weights.
    memory : int
        Static data that is read and written.
    """

    code: int
    constants: int
    memory: int


def require_tools() -> None:
    """Raise InputError if the compiler is not installed."""
    packages = {"ziglang": "ziglang", "elftools": "pyelftools"}
    absent = [package for module, package in packages.items() if find_spec(module) is None]
    if absent:
        raise InputError(
            f"a library cannot be made without {', '.join(absent)}: pip install 'refbnn[arm]', "
            "or write C source (--c), which needs no compiler here"
        )


def library(
    name: str,
    kernels: Sequence[bytes],
    source: str,
    header: str,
    target: Target,
    functions: Sequence[str],
) -> tuple[bytes, Sizes]:
    """Compile the C around kernels, and put all into an archive.

    Parameters
    ----------
    kernels : sequence of bytes
        Object files of the kernels.
    source, header : str
        NAME.c and NAME.h.
    functions : sequence of str
        Functions of NAME.c that programs call.

    Returns
    -------
    archive : bytes
        libNAME.a
    sizes : Sizes

    Raises
    ------
    InputError
        If the compiler refuses.
    """
    processor = "aarch64" if target.is_arm else "x86_64"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        around, whole, archive = (folder / n for n in ("around.o", f"{name}.o", f"lib{name}.a"))
        parts = [folder / f"kernel_{index}.o" for index in range(len(kernels))]
        for path, kernel in zip(parts, kernels, strict=True):
            path.write_bytes(kernel)
        (folder / f"{name}.h").write_text(header)
        (folder / f"{name}.c").write_text(source)
        run = partial(zig, expected=f"a library for {target.name}")
        machine = ("-target", f"{processor}-linux-musl")
        run("cc", *machine, *_OPTIONS, "-c", folder / f"{name}.c", "-o", around)
        script = folder / "script.ld"
        script.write_text(_SCRIPT)
        keep = [word for function in functions for word in ("-u", function)]
        run("ld.lld", "-r", "--gc-sections", *keep, "-T", script, *parts, around, "-o", whole)
        run("ar", "rcsD", archive, whole)
        return archive.read_bytes(), _sizes(whole.read_bytes())


def _sizes(object_file: bytes) -> Sizes:
    from elftools.elf.elffile import ELFFile  # of the extra `arm`

    code = constants = memory = 0
    for section in ELFFile(io.BytesIO(object_file)).iter_sections():
        flags, size = section["sh_flags"], section["sh_size"]
        if flags & _EXECUTED:
            code += size
        elif flags & _WRITTEN:
            memory += size
        elif flags & _LOADED:
            constants += size
    return Sizes(code, constants, memory)
