"""The emulated core: exact counts of instructions, guarded memory, errors that say where."""

from importlib.util import find_spec

import numpy as np
import pytest

from kernels import compile_network
from kernels.devices import targets
from kernels.devices.instructions import InstructionCount, count
from kernels.program.kernel import build
from refbnn.errors import InputError
from refbnn.layers import Dense, ReLU
from refbnn.layers.posterior import Posterior
from refbnn.network.network import Network
from tests.helpers.layer_kernels import dense_program

emulated = pytest.mark.skipif(
    any(find_spec(module) is None for module in ("unicorn", "elftools", "capstone", "ziglang")),
    reason="the extra `arm` is not installed",
)


def dense_kernel(n_in, n_out, batch, schedule="hand"):
    """Program for random inputs, and inputs for it."""
    rng = np.random.default_rng(5)
    weight = Posterior(rng.standard_normal((n_out, n_in)), rng.random((n_out, n_in)))
    bias = Posterior(rng.standard_normal(n_out), rng.random(n_out))
    alone = dense_program(weight, bias, batch, targets.target("cortex-a72"))
    x = rng.standard_normal((batch, n_in)), rng.random((batch, n_in))
    return build(alone, schedule, device="emulated"), x


def class_of(word):
    """Class by the bits of the encoding (Arm ARM, C4.1), without a disassembler."""
    if word >> 25 & 0b0101 == 0b0100:  # loads and stores
        vector = word >> 26 & 1
        if word >> 24 & 0b111011 == 0b011000:  # relative to the program counter
            return "load"
        if word >> 27 & 0b101 == 0b101 and word >> 28 & 0b11 == 0b10:  # pairs
            return "load" if word >> 22 & 1 else "store"
        if word >> 24 & 0b10111110 == 0b00001100:  # structures: ld1r and such
            return "load" if word >> 22 & 1 else "store"
        opc = word >> 22 & 0b11
        return "load" if opc & 1 or (opc == 0b10 and not vector) else "store"
    if word >> 25 & 0b111 == 0b111:  # floating point and vectors
        scalar_fma = word >> 24 & 0b01011111 == 0b00011111
        element = word & 0xBF80F400 | 0x4000_0000
        by_element = word >> 24 & 0b10111111 == 0b00001111 and word >> 12 & 0b1011 in (1, 5)
        same = word & 0xBF20FC00 == 0x0E20CC00
        return "fma" if scalar_fma or (by_element and element >> 23 & 1) or same else "vector"
    return "scalar"


@emulated
@pytest.mark.parametrize("schedule", ["hand", "default"])
def test_counts_are_those_of_single_steps(schedule, monkeypatch):
    from unicorn import UC_HOOK_CODE

    from kernels.devices.emulated_arm import emulated
    from kernels.devices.emulated_arm.core import Core

    cores = []

    class Kept(Core):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            cores.append(self)

    monkeypatch.setattr(emulated, "Core", Kept)
    kernel, x = dense_kernel(13, 10, 3, schedule)
    executed = kernel.instruction_count(*x)
    steps = dict.fromkeys(executed.by_class, 0)

    def step(machine, address, size, _data):
        steps[class_of(int.from_bytes(machine.mem_read(address, size), "little"))] += 1

    cores[0]._plain.hook_add(UC_HOOK_CODE, step)  # before its first run
    kernel.run()
    assert steps == executed.by_class


C_OF_FAULTS = """
typedef __fp16 half8 __attribute__((vector_size(16)));
int add(int a, int b) { return a + b; }
int read_nothing(void) { return *(volatile int *)0x30; }
int write_code(void) { *(volatile int *)(long)&add = 0; return 0; }
int undefined(void) { __asm__ volatile(".inst 0"); return 0; }
int half(void) { __asm__ volatile(".arch armv8.2-a+fp16\\n fadd v0.8h, v1.8h, v2.8h" ::: "v0");
                 return 5; }
int forever(void) { for (volatile int i = 0;; ++i) {} }
int deep(int n) { volatile char frame[1000]; frame[n % 1000] = n; return deep(n + 1) + frame[0]; }
int sum(const int *x, int n) { int s = 0; for (int i = 0; i < n; ++i) s += ((volatile int *)x)[i];
                               return s; }
__attribute__((noinline)) int one(volatile int *x) { x[0] += 3; return x[0]; }
__attribute__((noinline)) int two(volatile int *x) { x[0] += 3; return x[0]; }
int both(void) { volatile int x = 1; return one(&x) + two(&x) + one(&x); }
int put(volatile int *x, int n) { x[n] = 1; return 0; }
"""


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    from kernels.devices import linker

    path = tmp_path_factory.mktemp("faults") / "faults.c"
    path.write_text(C_OF_FAULTS)
    return linker.linked(linker.compiled(path))


@emulated
@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("read_nothing", r"Invalid memory read .* in read_nothing, .*memory at 0x30"),
        ("write_code", r"memory .* in write_code, .*memory at 0x"),
        ("undefined", "in undefined"),
        ("half", "in half"),
        ("forever", "not done after 0.2 s; give it less work, such as a smaller batch"),
        ("deep", "stack overflow in deep, .* 1024 KiB"),
    ],
)
def test_a_fault_is_an_error_that_says_where(faulty, function, message):
    from kernels.devices.emulated_arm.core import Core, EmulationError

    core = Core("cortex-a72", faulty, timeout=0.2)
    for call in (core.call, core.blocks):
        with pytest.raises(EmulationError, match=message) as caught:
            call(function, 1)
        assert "\n" not in str(caught.value)
        assert core.call("add", 2, 3) == 5  # and the next call is not harmed


@emulated
def test_arrays_end_where_memory_ends(faulty):
    from kernels.devices.emulated_arm.core import Core, EmulationError

    core = Core("cortex-a72", faulty)
    address, view = core.place(np.arange(32, dtype=np.int32), read_only=False)
    constant, _ = core.place(np.arange(32, dtype=np.int32), read_only=True)
    assert address % 64 == constant % 64 == 0
    assert core.call("sum", address, 32) == 31 * 16
    view[:] = 2
    assert core.call("sum", address, 32) == 64
    assert core.call("put", address, 31) == 0
    assert view.tolist() == [2] * 31 + [1]
    for where, index in ((address, 32), (address, -1025), (constant, 0)):
        with pytest.raises(EmulationError, match=f"in put, .*memory at {where + 4 * index:#x}"):
            core.call("put", where, index % 2**64)
    with pytest.raises(EmulationError, match="in sum"):
        core.call("sum", constant, 33)


@emulated
def test_blocks_of_the_same_code_all_count(faulty):
    from unicorn import UC_HOOK_CODE

    from kernels.devices.emulated_arm.core import Core

    core = Core("cortex-a72", faulty)
    result, blocks = core.blocks("both")
    assert result == 4 + 7 + 10
    steps = []
    core._plain.hook_add(UC_HOOK_CODE, lambda *step: steps.append(step))
    core.call("both")
    executed = count(blocks)
    assert executed.total == len(steps)
    assert executed.load >= 3 * 2
    assert executed.store >= 3 + 1


@emulated
def test_half_precision_is_there_on_the_core_that_has_it(faulty):
    from kernels.devices.emulated_arm.core import Core

    assert Core("cortex-a76", faulty).call("half") == 5
    assert "fullfp16" in targets._features(targets.target("cortex-a76").llvm)
    assert "fullfp16" not in targets._features(targets.target("cortex-a72").llvm)


@emulated
def test_what_a_kernel_says_before_it_fails(monkeypatch):
    from kernels.devices.emulated_arm import emulated
    from kernels.devices.emulated_arm.core import EmulationError

    # One argument of the wrong kind: the checks that TVM puts before a kernel refuse it.
    monkeypatch.setattr(emulated, "_TENSOR", 1)
    kernel, x = dense_kernel(5, 3, 1)
    for run in (kernel, kernel.instruction_count):
        with pytest.raises(
            EmulationError, match="TypeError: Mismatched type on argument #0"
        ) as caught:
            run(*x)
        assert "\n" not in str(caught.value)


@emulated
def test_more_temporary_memory_than_there_is():
    """48 MB for each moment of the hidden layer; an error of the call, not of the program."""
    net = Network([Dense(1, 400), ReLU(), Dense(400, 1)], seed=1)
    x = np.zeros((30_000, 1), np.float32)
    arm = compile_network(net, len(x), "cortex-a72", "default", device="emulated")
    with pytest.raises(InputError, match="memory may not suffice; expected a smaller batch"):
        arm(x)


@emulated
def test_a_call_of_no_function_is_refused(tmp_path):
    from kernels.devices import linker

    path = tmp_path / "calls.c"
    path.write_text("float expf(float); float f(float x) { return expf(x) + 1; }")
    with pytest.raises(InputError, match="undefined symbol: expf"):
        linker.linked(linker.compiled(path))
    path = tmp_path / "no.c"
    path.write_text("this is no C")
    with pytest.raises(InputError, match="zig cc"):
        linker.compiled(path)


def test_classes_add_up():
    assert InstructionCount(1, 2, 3, 4, 5).total == 15
    assert list(InstructionCount().by_class) == ["load", "store", "fma", "vector", "scalar"]


@emulated
def test_products_that_are_taken_away_count_as_multiply_adds():
    words = (0x4EA2CC20, 0x1F028C20, 0x4EA2D420)  # fmls 4s; fmsub s; fsub 4s
    code = b"".join(word.to_bytes(4, "little") for word in words)
    assert count({(0, code): 3}) == InstructionCount(fma=6, vector=3)
