"""Build what `kernels.deploy` writes, and call it: natively by ctypes, or on an emulated core."""

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from kernels.devices import linker
from refbnn.layers.posterior import Posterior
from refbnn.network.network import Network

ZIG = [sys.executable, "-m", "ziglang"]
CC = ["cc"] if shutil.which("cc") else [*ZIG, "cc"]
CXX = ["c++"] if shutil.which("c++") else [*ZIG, "c++"]
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wcast-qual", "-Werror"]

# What main.c asks of a C library, for a core without one.
_C_LIBRARY = """
#include <stddef.h>
int lines;
int printf(const char *format, ...) { ++lines; return format[0] != 0; }
int puts(const char *text) { ++lines; return text[0] != 0; }
int memcmp(const void *a, const void *b, size_t n) {
  const unsigned char *p = a, *q = b;
  for (size_t i = 0; i < n; ++i) if (p[i] != q[i]) return p[i] - q[i];
  return 0;
}
float fmaf(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
float sqrtf(float a) { return __builtin_sqrtf(a); }
float ceilf(float a) { return __builtin_ceilf(a); }
float floorf(float a) { return __builtin_floorf(a); }
float fabsf(float a) { return __builtin_fabsf(a); }
"""


def random_network(layers, shape=None, seed=5):
    """Posterior means of both signs, biases too, of variances that matter."""
    net = Network(layers, input_shape=shape, seed=seed)
    rng = np.random.default_rng(seed)
    net.set_parameters(
        {
            name: Posterior(p.mean + 0.1 * rng.standard_normal(p.shape), 0.2 * rng.random(p.shape))
            for name, p in net.parameters().items()
        }
    )
    return net


def built(folder, *words):
    """Run a compiler in a folder; it must not complain."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def ran(folder, program="./check"):
    """Run a program in a folder; exit code and what it printed."""
    done = subprocess.run([program], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def checked(folder, deployed, *options):
    """Build the check as the command says, run it; exit code and what it printed."""
    built(folder, *CC, *options, *deployed.command.split()[1:])
    return ran(folder)


class Header:
    """Constants of a NAME.h."""

    def __init__(self, path):
        text = path.read_text()
        self.values = {
            key: int(value, 0)
            for key, value in re.findall(rf"#define {path.stem.upper()}_(\w+) (\w+?)u?\s", text)
        }
        _, _, codes = text.partition("/* What all functions return")
        codes, _, _ = codes.partition("\n\n")
        self.codes = {int(n): name for name, n in re.findall(r"_([A-Z_]+) (\d)[ \n]", codes)}

    def __getattr__(self, name):
        return self.values[name]


class Library:
    """A library of this machine, or C source, by ctypes; its memory holds NaN before each call."""

    def __init__(self, folder, name):
        made = Path(folder) / ".." / f"{name}.so"
        source = Path(folder) / f"{name}.c"
        parts = ["-std=c99", *STRICT, f"{name}.c", "-lm"] if source.exists() else []
        parts = parts or ["-Wl,--whole-archive", f"lib{name}.a", "-Wl,--no-whole-archive"]
        built(folder, *CC, "-O1", "-shared", "-fPIC", *parts, "-o", made)
        self.name, self.header = name, Header(Path(folder) / f"{name}.h")
        self.dll = ctypes.CDLL(str(made))
        self.work = aligned(self.header.WORK_BYTES)
        self.work[:] = 0xFF

    def call(self, function, *arguments):
        """Call NAME_function; its code by name."""
        passed = [
            ctypes.c_void_p(a.ctypes.data) if isinstance(a, np.ndarray) else a for a in arguments
        ]
        return self.header.codes[getattr(self.dll, f"{self.name}_{function}")(*passed)]

    def check(self):
        """Check the weights and the code."""
        return self.call("check", self.work, ctypes.c_size_t(self.work.nbytes))

    def propagate(self, x, second=1):
        """Code, mean (batch, outputs), and variance, or covariance of `second` times the size."""
        n = self.header.BATCH * self.header.OUTPUTS
        mean, var = np.full(n, 7, np.float32), np.full(n * second, 7, np.float32)
        code = self.call("propagate", np.float32(x).ravel(), mean, var, self.work)
        return code, mean.reshape(self.header.BATCH, -1), var.reshape(self.header.BATCH, -1)

    def predict_classes(self, x):
        """Code, p (batch, classes), entropies (3, batch), status of each."""
        batch, classes = self.header.BATCH, self.header.CLASSES
        p = np.full((batch, classes), 7, np.float32)
        u = np.full((batch, 4), 7, np.float32)
        code = self.call("predict", np.float32(x).ravel(), p, u, self.work)
        return code, p, u[:, :3].T, [self.header.codes[n] for n in u[:, 3].view(np.int32).tolist()]

    def predict_targets(self, x):
        """Code, and mean, epistemic and aleatoric variance (3, batch, targets)."""
        y = np.full((self.header.BATCH, self.header.TARGETS, 3), 7, np.float32)
        code = self.call("predict", np.float32(x).ravel(), y, self.work)
        return code, np.moveaxis(y, -1, 0)


def aligned(n, bytes_off=0):
    """Make n bytes at a multiple of 64 bytes, or some bytes off."""
    memory = np.zeros(n + 128, np.uint8)
    start = -memory.ctypes.data % 64 + bytes_off
    return memory[start : start + n]


def core_with(folder, *objects):
    """The A72 with main.c, these objects, a few functions of a C library, and the runtime's."""
    from kernels.devices.emulated_arm.core import Core

    work = folder / ".." / "work"
    work.mkdir(exist_ok=True)
    (work / "library.c").write_text(_C_LIBRARY)
    options = ("-target", "aarch64-linux-musl", "-O2", "-fno-builtin-memcmp", "-c")
    linker.zig("cc", *options, folder / "main.c", "-o", work / "main.o", expected="main.o")
    stub = linker.compiled(Path(linker.__file__).with_name("stub.c"))
    own = linker.compiled(work / "library.c")
    program = linker.linked((work / "main.o").read_bytes(), *objects, own, stub)
    return Core("cortex-a72", program)


def placed(core, work_bytes, x, *shapes):
    """Place x, results of these shapes full of 7, and work full of NaN; addresses and results."""
    address, _ = core.place(np.float32(x), read_only=True)
    places = [core.place(np.full(shape, 7, np.float32), read_only=False) for shape in shapes]
    work, _ = core.place(np.full(work_bytes, 0xFF, np.uint8), read_only=False)
    return [address, *(at for at, _ in places), work], [view for _, view in places]


def called(core, folder, name, x, shape):
    """Return code, mean and variance of NAME_propagate on the core, checked before."""
    size = Header(folder / f"{name}.h").WORK_BYTES
    arguments, (mean, var) = placed(core, size, x, shape, shape)
    assert core.call(f"{name}_check", arguments[-1], size) == 0
    return core.call(f"{name}_propagate", *arguments), mean, var
