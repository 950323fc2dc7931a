"""Innermost loops of what the emulated core executed, and the cycles that analysers predict."""

import shutil
from importlib.util import find_spec

import pytest

from kernels.devices.emulated_arm import cycles
from kernels.devices.emulated_arm.innermost_loops import Loop
from refbnn.errors import InputError

emulated = pytest.mark.skipif(
    any(find_spec(module) is None for module in ("unicorn", "elftools", "capstone", "ziglang")),
    reason="the extra `arm` is not installed",
)
osaca = pytest.mark.skipif(
    find_spec("osaca") is None, reason="OSACA, of the extra `analysis`, is not installed"
)
llvm_mca = pytest.mark.skipif(
    shutil.which("llvm-mca") is None, reason="llvm-mca, a program of LLVM, is not installed"
)

# A loop in a loop; and one that does something in its first iteration only, which is odd.
LOOPS = """
int nested(void) {
    int n;
    __asm__ volatile("mov %w0, #0\\n 1: mov w9, #5\\n"
                     "2: fmla v0.4s, v1.4s, v2.4s\\n subs w9, w9, #1\\n b.ne 2b\\n"
                     "add %w0, %w0, #1\\n cmp %w0, #7\\n b.ne 1b" : "=&r"(n) :: "w9", "v0", "cc");
    return n;
}
int odd(void) {
    int n;
    __asm__ volatile("mov %w0, #0\\n"
                     "1: cbnz %w0, 2f\\n movi v0.2d, #0\\n movi v1.2d, #0\\n"
                     "2: add %w0, %w0, #1\\n cmp %w0, #9\\n b.ne 1b"
                     : "=&r"(n) :: "v0", "v1", "cc");
    return n;
}
"""


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    from kernels.devices import linker
    from kernels.devices.emulated_arm.core import Core

    path = tmp_path_factory.mktemp("loops") / "loops.c"
    path.write_text(LOOPS)
    return Core("cortex-a72", linker.linked(linker.compiled(path)))


@emulated
@pytest.mark.parametrize(
    ("function", "result", "expected"),
    [
        (
            "nested",
            7,
            Loop(35, ("fmla v0.4s, v1.4s, v2.4s", "subs w9, w9, #1", "b.ne loop")),
        ),
        # Its register is the compiler's choice.
        ("odd", 9, Loop(9, ("cbnz R, loop", "add R, R, #1", "cmp R, #9", "b.ne loop"))),
    ],
)
def test_innermost_loops_are_found(core, function, result, expected):
    from kernels.devices.emulated_arm.innermost_loops import innermost

    got, blocks = core.blocks(function)
    assert got == result
    (loop,) = innermost(blocks)
    register = loop.body[0].removeprefix("cbnz ").partition(",")[0]
    assert loop.iterations == expected.iterations
    assert [line.replace(register, "R") for line in loop.body] == [
        line.replace(register, "R") for line in expected.body
    ]
    assert loop.instructions == expected.iterations * len(expected.body)


def sums(n, kind="4s"):
    """A loop of n independent multiply-adds, each a chain from iteration to iteration."""
    lines = [f"fmla v{index}.{kind}, v16.{kind}, v17.{kind}" for index in range(n)]
    return Loop(1000, (*lines, "subs x0, x0, #1", "b.ne loop"))


@pytest.mark.parametrize(
    ("name", "core", "n", "least", "most"),
    [
        # One of 128 bits a cycle (Cortex-A72 Software Optimization Guide), the others beside them.
        # llvm-mca counts the start of a hundred iterations too.
        pytest.param("OSACA", "cortex-a72", 8, 8.0, 8.0, marks=osaca),
        pytest.param("llvm-mca", "cortex-a72", 8, 8.0, 8.2, marks=llvm_mca),
        # One sum waits for itself: 7 cycles, 3 from sum to sum (there), which OSACA does not know.
        pytest.param("OSACA", "cortex-a72", 1, 7.0, 7.0, marks=osaca),
        pytest.param("llvm-mca", "cortex-a72", 1, 3.0, 5.2, marks=llvm_mca),
        # Two a cycle (Cortex-A76 Software Optimization Guide).
        pytest.param("OSACA", "cortex-a76", 8, 4.0, 4.0, marks=osaca),
        # Vectors in two halves: a cycle for each at least.
        pytest.param("llvm-mca", "cortex-a53", 8, 16.0, 20.0, marks=llvm_mca),
    ],
)
def test_predicted_cycles_of_a_loop_of_known_bound(name, core, n, least, most):
    found, _ = cycles.analysers(core)
    assert least <= found[name](sums(n)).cycles <= most


@osaca
def test_what_osaca_does_not_know_is_counted():
    found, _ = cycles.analysers("cortex-a72")
    unknown = Loop(9, ("fmaxnm v17.4s, v25.4s, v28.4s", "fmla v0.4s, v1.4s, v2.4s", "b.ne loop"))
    assert found["OSACA"](unknown).unknown == 1
    assert found["OSACA"](sums(2)).unknown == 0


@llvm_mca
def test_what_llvm_mca_does_not_know_is_an_error():
    found, _ = cycles.analysers("cortex-a72")
    with pytest.raises(InputError, match=r"llvm-mca: .*error: ") as caught:
        found["llvm-mca"](Loop(1, ("this is, no instruction",)))
    assert "\n" not in str(caught.value)


def test_an_analyser_that_is_absent_is_named(monkeypatch):
    monkeypatch.setattr(cycles, "find_spec", lambda _: None)
    monkeypatch.setattr(cycles.shutil, "which", lambda _: None)
    found, absent = cycles.analysers("cortex-a72")
    assert not found
    assert absent["OSACA"] == "is not installed; install it with pip install 'refbnn[analysis]'"
    assert absent["llvm-mca"] == "is not installed; install it with a package such as llvm"
    _, absent = cycles.analysers("generic")
    assert absent["OSACA"] == "has no model of generic; expected one of: cortex-a72, cortex-a76"
    assert "expected one of: cortex-a53, cortex-a72" in absent["llvm-mca"]
