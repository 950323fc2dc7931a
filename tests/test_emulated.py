"""Kernels for Arm on the emulated core: the same results, exact counts, errors that say where."""

import re
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import verification
from kernels import (
    compile_network,
    conv2d,
    dense,
    devices,
    gradient,
    gradient_conv2d,
    records,
    sampled_conv2d,
    sampled_dense,
    targets,
)
from kernels.devices.instructions import InstructionCount
from kernels.kernel import build
from kernels.network import program
from refbnn import reproducible
from refbnn.architectures import DIGITS, lenet5
from refbnn.cli import main
from refbnn.errors import InputError
from refbnn.layers import (
    ELU,
    GELU,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    Layer,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Sigmoid,
    Tanh,
)
from refbnn.layers import conv2d as conv2d_reference
from refbnn.layers import dense as dense_reference
from refbnn.moments import Moments, deterministic
from refbnn.network import Network
from refbnn.noise import HeavyTailed
from refbnn.philox import key_of
from refbnn.posterior import Posterior
from verification import kernel_activations, kernel_gradients, kernel_sampling
from verification.rounding import conv2d_bound, dense_bound, gamma, network_bound

SCHEDULES = pytest.mark.parametrize("schedule", ["hand", "default"])
A72 = targets.target("cortex-a72")
emulated = pytest.mark.skipif(
    any(find_spec(module) is None for module in ("unicorn", "elftools", "capstone", "ziglang")),
    reason="the extra `arm` is not installed",
)


def layer(rng, n_in, n_out):
    return (
        Posterior(rng.standard_normal((n_out, n_in)), rng.random((n_out, n_in))),
        Posterior(rng.standard_normal(n_out), rng.random(n_out)),
    )


def dense_kernel(n_in, n_out, batch, known, schedule="hand", cpu="cortex-a72"):
    rng = np.random.default_rng(5)
    weight, bias = layer(rng, n_in, n_out)
    program = dense.alone(weight, bias, batch, targets.target(cpu), known)
    m, v = rng.standard_normal((batch, n_in)), rng.random((batch, n_in))
    x = deterministic(m) if known else Moments(m, v)
    return build(program, schedule, device="emulated"), weight, bias, x


# Whole networks are below, at other batch sizes.
KERNELS = {
    "operators": verification.kernels.operators,
    "activations": kernel_activations.check,
    "gradients": kernel_gradients.check,
    "sampling": kernel_sampling.check,
}


@emulated
@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_is_within_its_bounds(name):
    """Every operator, `default` and `hand`, against the reference in float64."""
    checks = KERNELS[name]("cortex-a72", "emulated", np.random.default_rng(0))
    assert checks
    for check in checks:
        assert check.holds, check


def tuned_otherwise(program, folder):
    """Records by which every decision of a program is another one than by hand."""
    for step in program.steps:
        if step.space:
            decisions = {
                name: next((value for value in values if value != step.by_hand[name]), values[0])
                for name, values in step.space.items()
            }
            processor = records.processor(program.target)
            record = records.Record(
                step.workload, processor, decisions, "seconds", 1.0, 1.0, 1, "0.27"
            )
            records.keep(record, records.path(folder, program.target))
    return folder


MLP = Network([Dense(784, 100), ReLU(), Dense(100, 100), ReLU(), Dense(100, 10)], seed=1)


@pytest.fixture(scope="module")
def mlp_of_the_host():
    return {batch: compile_network(MLP, batch) for batch in (1, 10)}


@emulated
@pytest.mark.parametrize("batch", [1, 10])
@pytest.mark.parametrize("schedule", ["default", "hand", "tuned"])
def test_network_is_that_of_the_host(schedule, batch, tmp_path, mlp_of_the_host):
    net, x = MLP, np.random.default_rng(2).random((batch, 784))
    folder = tuned_otherwise(program(net, batch, A72), tmp_path)
    arm = compile_network(net, batch, "cortex-a72", schedule, records=folder, device="emulated")
    assert len(arm.tuned) == 3 * (schedule == "tuned")
    got, exact = arm(x), net.propagate(x)
    assert got.mean.dtype == got.var.dtype == np.float32
    # Each within its rounding of the reference, so twice that apart.
    bounds = network_bound(net, x)
    host = mlp_of_the_host[batch](x)
    for arrays, bound in zip(pairs(got, host, exact), bounds, strict=True):
        of_arm, of_host, expected = arrays
        assert (np.abs(of_arm - expected) <= bound).all()
        assert (np.abs(of_arm - of_host) <= 2 * bound).all()
    # And again, after other inputs.
    arm(x[::-1] * 0.5)
    np.testing.assert_array_equal(arm(x).mean, got.mean)


@emulated
@pytest.mark.parametrize(("batch", "schedule"), [(1, "default"), (1, "hand"), (10, "tuned")])
def test_lenet5_is_that_of_the_host(schedule, batch, tmp_path):
    net = Network(lenet5(10), input_shape=DIGITS, seed=1)
    x = np.random.default_rng(2).random((batch, *DIGITS))
    folder = tuned_otherwise(program(net, batch, A72), tmp_path)
    arm = compile_network(net, batch, "cortex-a72", schedule, records=folder, device="emulated")
    assert len(arm.tuned) == 5 * (schedule == "tuned")
    got, exact = arm(x), net.propagate(x)
    require_accurate(got, exact)
    if schedule == "hand":  # the host's others are held to the same in tests of its own
        host = compile_network(net, batch)(x)
        s = np.sqrt(exact.var)
        assert (np.abs(got.mean - host.mean) <= 2e-5 * (np.abs(exact.mean) + s)).all()
        assert (np.abs(got.var - host.var) <= 2e-5 * exact.var).all()


def pairs(*moments):
    """Means of all, then variances of all."""
    return zip(*((m.mean, m.var) for m in moments), strict=True)


def require_accurate(got, exact, share=1e-5):
    """1e-5 is the accuracy that the kernels are made for, and that the host's are held to."""
    s = np.sqrt(exact.var)
    assert (np.abs(got.mean - exact.mean) <= share * (np.abs(exact.mean) + s)).all()
    assert (np.abs(got.var - exact.var) <= share * exact.var).all()


@emulated
@pytest.mark.parametrize("layer", [Dense(37, 13), Conv2d(3, 5, 3, padding=1)])
def test_gradients_by_other_decisions(layer, tmp_path):
    module = gradient if isinstance(layer, Dense) else gradient_conv2d
    shape = (37,) if isinstance(layer, Dense) else (3, 5, 6)
    case = kernel_gradients.case(layer, shape, 10, 2, False, None, np.random.default_rng(3))
    program = module.alone(kernel_gradients.sizes(case), A72)
    kernel = build(program, "tuned", tuned_otherwise(program, tmp_path), "emulated")
    results = kernel(
        case.x, case.grad_y, case.mean, case.scale, case.bias_scale, case.z, case.z_bias
    )
    for got, exact, bound in zip(results, case.expected(), case.bounds(drawn=False), strict=True):
        assert (np.abs(got - exact) <= bound).all()


@emulated
@pytest.mark.parametrize("batch", [1, 10])
def test_sampled_layers_by_other_decisions(batch, tmp_path):
    for layer, shape in ((Dense(37, 13), (37,)), (Conv2d(3, 5, 3, padding=1), (3, 5, 6))):
        net = Network([layer], law=HeavyTailed(0.7, 0.2), seed=1, input_shape=shape)
        x = np.random.default_rng(4).standard_normal((batch, *shape))
        weight, bias = net.parameters()["0.weight"], net.parameters()["0.bias"]
        if isinstance(layer, Dense):
            program = sampled_dense.alone(weight, bias, net.law, batch, 2, A72)
        else:
            steps = layer.steps
            program = sampled_conv2d.alone(weight, bias, net.law, (5, 6), batch, 2, A72, 0, *steps)
        kernel = build(program, "tuned", tuned_otherwise(program, tmp_path), "emulated")
        (y,) = kernel(key_of(7), x)
        bound = kernel_sampling.network_bound(net, x, 2, seed=7)
        assert (np.abs(y - reproducible.sample(net, x, 2, seed=7)) <= bound).all()


@emulated
@pytest.mark.parametrize(
    ("n_in", "n_out", "batch", "cpu", "known"),
    [
        (1, 1, 1, "cortex-a72", True),
        (33, 64, 3, "cortex-a53", True),
        (31, 5, 4, "cortex-a76", False),
        (18, 17, 11, "aarch64", False),
    ],
)
def test_dense_is_within_the_rounding_bound(n_in, n_out, batch, cpu, known):
    kernel, weight, bias, x = dense_kernel(n_in, n_out, batch, known, cpu=cpu)
    mean, var = kernel(x.mean) if known else kernel(x.mean, x.var)
    expected = dense_reference.moments(x, weight, bias)
    m_bound, v_bound = dense_bound(x, weight, bias)
    assert (np.abs(mean - expected.mean) <= m_bound).all()
    assert (np.abs(var - expected.var) <= v_bound).all()


@emulated
def test_dense_in_other_forms():
    rng = np.random.default_rng(9)
    weight, bias = layer(rng, 45, 33)
    cpu = targets.target("cortex-a72")
    x = Moments(rng.standard_normal((7, 45)), rng.random((7, 45)))
    expected = dense_reference.moments(x, weight, bias)
    m_bound, _ = dense_bound(x, weight, bias)
    raw = build(dense.alone(weight, bias, 7, cpu, False, "raw"), "hand", device="emulated")
    mean, var = raw(x.mean, x.var)
    assert (np.abs(mean - expected.mean) <= m_bound).all()
    # Both sums are rounded as the mean is: relative to their terms.
    size = (x.mean**2 + x.var) @ (weight.mean**2 + weight.var).T + bias.var
    assert (np.abs(var - expected.var) <= gamma(2 * 45 + 14) * size).all()
    alone = build(dense.alone(weight, bias, 7, cpu, True, "mean"), "hand", device="emulated")
    assert (np.abs(alone(x.mean)[0] - expected.mean) <= m_bound).all()


IMAGES: dict[str, Any] = {
    "LeNet-5, first": ((1, 28, 28), 6, (5, 5), (1, 1), (2, 2), 1, True),
    "LeNet-5, second": ((6, 14, 14), 16, (5, 5), (1, 1), (0, 0), 1, False),
    "padded, by strides": ((3, 7, 12), 9, (3, 2), (2, 2), (1, 1), 1, False),
    "one column": ((2, 5, 1), 17, (2, 1), (1, 1), (1, 0), 1, True),
    "groups": ((4, 5, 9), 6, (2, 3), (1, 1), (0, 1), 2, False),
}


def conv2d_kernel(case, schedule):
    (channels, height, width), n_out, size, stride, padding, groups, known = IMAGES[case]
    rng = np.random.default_rng(5)
    shape = n_out, channels // groups, *size
    weight = Posterior(rng.standard_normal(shape), rng.random(shape))
    bias = Posterior(rng.standard_normal(n_out), rng.random(n_out))
    m = rng.standard_normal((1, channels, height, width))
    x = deterministic(m) if known else Moments(m, rng.random(m.shape))
    cpu, sizes = targets.target("cortex-a72"), (stride, padding, groups)
    program = conv2d.alone(weight, bias, (height, width), 1, cpu, known, "variance", *sizes)
    kernel = build(program, schedule, device="emulated")
    return kernel, (m,) if known else (m, x.var), (x, weight, bias, *sizes)


@emulated
@pytest.mark.parametrize("case", [name for name in IMAGES if not name.startswith("LeNet-5")])
def test_conv2d_is_within_the_rounding_bound(case):
    kernel, inputs, arguments = conv2d_kernel(case, "hand")
    expected = conv2d_reference.moments(*arguments)
    for got, exact, bound in zip(
        kernel(*inputs), (expected.mean, expected.var), conv2d_bound(*arguments), strict=True
    ):
        assert (np.abs(got - exact) <= bound).all()


@emulated
@pytest.mark.parametrize("case", ["LeNet-5, first", "LeNet-5, second"])
def test_instructions_a_product_of_conv2d(case):
    kernel, inputs, (_, weight, *_) = conv2d_kernel(case, "hand")
    _, n_out, height, width = kernel.outputs[0].shape
    n_products = n_out * height * width * weight.mean[0].size
    count = kernel.instruction_count(*inputs)
    sums = len(inputs) + 1
    # The floor, but for columns that fill whole vectors, and v + m² and the sums of the variance.
    assert sums * n_products / 4 <= count.fma <= 1.01 * sums * n_products / 4
    # Images in planes are among them, which a network does not make: 9000 instructions.
    assert count.total <= 1.0 * n_products + 9500


@emulated
@pytest.mark.parametrize("middle", [16, 13])
def test_convolutions_of_packs(middle):
    layers: list[Layer] = [
        Conv2d(1, middle, 3),
        Conv2d(middle, 21, 3, padding=1),
        Conv2d(21, 5, 2, stride=2),
    ]
    net = Network(layers, input_shape=(1, 9, 8), seed=1)
    x = np.random.default_rng(2).standard_normal((2, 1, 9, 8)).astype(np.float32)
    require_accurate(compile_network(net, 2, "cortex-a72", device="emulated")(x), net.propagate(x))
    packed = program(net, 2, targets.target("cortex-a72"))
    assert any("from Packs to Packs" in step.workload for step in packed.steps)


@emulated
def test_every_activation_and_pooling_on_the_emulated_core():
    layers: list[Layer] = [
        *(Conv2d(1, 5, 2, padding=1), BatchNorm2d(*np.full((4, 5), 0.7)), GELU(), AvgPool2d(2)),
        *(Conv2d(5, 8, 2), ELU(), MaxPool2d((1, 2), method="chain"), LeakyReLU(0.1), Flatten()),
        *(Dense(32, 6), Tanh(), Dense(6, 5), Sigmoid()),
    ]
    net = Network(layers, input_shape=(1, 5, 9), seed=1)
    x = np.random.default_rng(2).standard_normal((10, 1, 5, 9))
    got, exact = compile_network(net, 10, "cortex-a72", device="emulated")(x), net.propagate(x)
    # Activations by quadrature add an error of 1.2e-5 each to the variance; four of them.
    s = np.sqrt(exact.var)
    assert (np.abs(got.mean - exact.mean) <= 2e-5 * (np.abs(exact.mean) + s)).all()
    assert (np.abs(got.var - exact.var) <= 5e-5 * exact.var).all()


@emulated
@pytest.mark.parametrize(
    ("n_in", "batch", "known", "most"), [(784, 1, True, 1.05), (784, 10, True, 0.7)]
)
def test_instructions_a_product(n_in, batch, known, most):
    kernel, *_, x = dense_kernel(n_in, 100, batch, known)
    plain, *_ = dense_kernel(n_in, 100, batch, known, "default")
    count = kernel.instruction_count(x.mean)
    n_products = n_in * 100 * batch
    assert count.fma == 2 * n_products / 4  # mean and variance, four lanes at once: the floor
    assert count.total <= most * n_products
    assert plain.instruction_count(x.mean).total >= 5 * count.total
    assert sum(count.by_class.values()) == count.total


@emulated
def test_instructions_of_a_network_do_not_depend_on_its_inputs():
    net = Network([Dense(20, 9), ReLU(), Dense(9, 3)], seed=3)
    arm = compile_network(net, 2, "cortex-a72", device="emulated")
    x = np.random.default_rng(4).random((2, 20))
    count = arm.instruction_count(x)
    assert count == arm.instruction_count(0.5 * x)
    np.testing.assert_array_equal(arm(x).mean, arm(x).mean)
    assert min(count.by_class.values()) > 0
    with pytest.raises(InputError, match="NaN"):
        arm.instruction_count(np.full((2, 20), np.nan))


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
@SCHEDULES
def test_counts_are_those_of_single_steps(schedule, monkeypatch):
    from unicorn import UC_HOOK_CODE

    from kernels.devices import emulated
    from kernels.devices.core import Core

    cores = []

    class Kept(Core):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            cores.append(self)

    monkeypatch.setattr(emulated, "Core", Kept)
    kernel, *_, x = dense_kernel(13, 10, 3, known=False, schedule=schedule)
    count = kernel.instruction_count(x.mean, x.var)
    steps = dict.fromkeys(count.by_class, 0)

    def step(machine, address, size, _data):
        steps[class_of(int.from_bytes(machine.mem_read(address, size), "little"))] += 1

    cores[0]._plain.hook_add(UC_HOOK_CODE, step)  # before its first run
    kernel.run()
    assert steps == count.by_class


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
        ("forever", "no end after 0.2 s; expected less work, such as a smaller batch"),
        ("deep", "stack overflow in deep, .* 1024 KiB"),
    ],
)
def test_a_fault_is_an_error_that_says_where(faulty, function, message):
    from kernels.devices.core import Core, EmulationError

    core = Core("cortex-a72", faulty, timeout=0.2)
    for call in (core.call, core.count):
        with pytest.raises(EmulationError, match=message) as caught:
            call(function, 1)
        assert "\n" not in str(caught.value)
        assert core.call("add", 2, 3) == 5  # and the next call is not harmed


@emulated
def test_arrays_end_where_memory_ends(faulty):
    from kernels.devices.core import Core, EmulationError

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

    from kernels.devices.core import Core

    core = Core("cortex-a72", faulty)
    result, count = core.count("both")
    assert result == 4 + 7 + 10
    steps = []
    core._plain.hook_add(UC_HOOK_CODE, lambda *step: steps.append(step))
    core.call("both")
    assert count.total == len(steps)
    assert count.load >= 3 * 2
    assert count.store >= 3 + 1


@emulated
def test_half_precision_is_there_on_the_core_that_has_it(faulty):
    from kernels.devices.core import Core

    assert Core("cortex-a76", faulty).call("half") == 5
    assert "fullfp16" in targets._features(targets.target("cortex-a76").llvm)
    assert "fullfp16" not in targets._features(targets.target("cortex-a72").llvm)


@emulated
def test_what_a_kernel_says_before_it_fails(monkeypatch):
    from kernels.devices import emulated
    from kernels.devices.core import EmulationError

    # One argument of the wrong kind: the checks that TVM puts before a kernel refuse it.
    monkeypatch.setattr(emulated, "_TENSOR", 1)
    kernel, *_ = dense_kernel(5, 3, 1, known=True)
    for run in (kernel.run, kernel.instruction_count):
        with pytest.raises(
            EmulationError, match="TypeError: Mismatched type on argument #0"
        ) as caught:
            run(*[np.zeros((1, 5))] * (run == kernel.instruction_count))
        assert "\n" not in str(caught.value)


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


NET = Network([Dense(3, 2)], seed=6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "cortex-a72"}, "target 'cortex-a72' is for aarch64, and this machine is x86"),
        ({"device": "board"}, "device 'board' is unknown; expected one of: local, emulated"),
        ({"target": "cortex-m4"}, "target 'cortex-m4' is unknown; expected one of: host, aarch64"),
        ({"device": "emulated"}, "target 'host' is not for aarch64"),
    ],
)
def test_bad_call(options, message, monkeypatch):
    monkeypatch.setattr(devices.platform, "machine", lambda: "x86_64")
    monkeypatch.setitem(
        targets._TARGETS, "host", lambda: targets.Target("host", 4, 16, {"mtriple": "x86_64"})
    )
    targets.target.cache_clear()
    with pytest.raises(InputError, match=message) as caught:
        compile_network(NET, **{"batch_size": 1, **options})
    assert "\n" not in str(caught.value)
    targets.target.cache_clear()


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("unicorn", "unicorn"),
        ("ziglang", "ziglang"),
        ("elftools", "pyelftools"),
        ("capstone", "capstone"),
    ],
)
def test_what_is_not_installed_is_named(module, package, monkeypatch):
    def absent(name):
        return None if name == module else "here"

    monkeypatch.setattr(devices, "find_spec", absent)
    with pytest.raises(InputError, match=rf"without {package}; .*pip install 'refbnn\[arm\]'"):
        compile_network(NET, 1, "cortex-a72", device="emulated")


def test_this_machine_counts_no_instructions():
    fast = compile_network(NET, 1)
    with pytest.raises(InputError, match="counts no instructions; expected 'emulated'"):
        fast.instruction_count(np.zeros((1, 3)))


@pytest.mark.parametrize("command", ["reproduce", "verify"])
def test_command_line_refuses_a_target_of_another_machine(command, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(devices.platform, "machine", lambda: "x86_64")
    assert main([command, "--target", "cortex-a72"]) == 2
    captured = capsys.readouterr()
    assert re.fullmatch(r".*target 'cortex-a72' is for aarch64.*\n", captured.err)
    assert not list(tmp_path.iterdir())


def test_classes_add_up():
    assert InstructionCount(1, 2, 3, 4, 5).total == 15
    assert list(InstructionCount().by_class) == ["load", "store", "fma", "vector", "scalar"]


@emulated
def test_products_that_are_taken_away_count_as_multiply_adds():
    from kernels.devices.instructions import count

    words = (0x4EA2CC20, 0x1F028C20, 0x4EA2D420)  # fmls 4s; fmsub s; fsub 4s
    code = b"".join(word.to_bytes(4, "little") for word in words)
    assert count({(0, code): 3}) == InstructionCount(fma=6, vector=3)
