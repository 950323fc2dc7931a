"""Kernels for Arm on the emulated core: the same results as on the host; what is refused."""

import re
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from kernels import compile_network, sampled_network
from kernels.devices import by_name, targets
from kernels.gradients import kernel as gradients
from kernels.network import program
from kernels.program import records
from kernels.program.kernel import build
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
from refbnn.layers import dense as dense_reference
from refbnn.layers.images import conv2d as conv2d_reference
from refbnn.layers.moments import Moments, deterministic
from refbnn.layers.posterior import Posterior
from refbnn.network.architectures import DIGITS, lenet5
from refbnn.network.network import Network
from refbnn.noise import HeavyTailed
from refbnn.numerics.random.philox import key_of
from tests.helpers.layer_kernels import conv2d_program, dense_program
from verification.kernels import activations as kernel_activations
from verification.kernels import gradients as kernel_gradients
from verification.kernels import layers as kernel_layers
from verification.kernels import local_sampling as kernel_local_sampling
from verification.kernels import sampling as kernel_sampling
from verification.rounding import conv2d_bound, dense_bound, gamma, network_bound

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


# Whole networks are below, at other batch sizes.
KERNELS = {
    "operators": kernel_layers.check,
    "activations": kernel_activations.check,
    "gradients": kernel_gradients.check,
    "sampling": kernel_sampling.check,
    "local sampling": kernel_local_sampling.check,
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
    assert len(arm.tuned) == 9 * (schedule == "tuned")  # 6 groups of sums, 3 dense layers
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
    shape = (37,) if isinstance(layer, Dense) else (3, 5, 6)
    case = kernel_gradients.case(layer, shape, 10, 2, False, None, np.random.default_rng(3))
    program = gradients.alone(kernel_gradients.sizes(case), A72)
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
        program = sampled_network.program(net, batch, 2, A72)
        kernel = build(program, "tuned", tuned_otherwise(program, tmp_path), "emulated")
        (y,) = kernel(key_of(7), x)
        bound = kernel_sampling.network_bound(net, x, 2, seed=7)
        assert (np.abs(y - net.sample(x, 2, seed=7)) <= bound).all()


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
    rng = np.random.default_rng(5)
    weight, bias = layer(rng, n_in, n_out)
    m, v = rng.standard_normal((batch, n_in)), rng.random((batch, n_in))
    x = deterministic(m) if known else Moments(m, v)
    alone = dense_program(weight, bias, batch, targets.target(cpu), known)
    kernel = build(alone, "hand", device="emulated")
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
    raw = build(dense_program(weight, bias, 7, cpu, False, "raw"), "hand", device="emulated")
    mean, var = raw(x.mean, x.var)
    assert (np.abs(mean - expected.mean) <= m_bound).all()
    # Both sums are rounded as the mean is: relative to their terms.
    size = (x.mean**2 + x.var) @ (weight.mean**2 + weight.var).T + bias.var
    assert (np.abs(var - expected.var) <= gamma(2 * 45 + 14) * size).all()
    alone = build(dense_program(weight, bias, 7, cpu, True, "mean"), "hand", device="emulated")
    assert (np.abs(alone(x.mean)[0] - expected.mean) <= m_bound).all()


IMAGES: dict[str, Any] = {
    "padded, by strides": ((3, 7, 12), 9, (3, 2), (2, 2), (1, 1), 1, False),
    "one column": ((2, 5, 1), 17, (2, 1), (1, 1), (1, 0), 1, True),
    "groups": ((4, 5, 9), 6, (2, 3), (1, 1), (0, 1), 2, False),
}


@emulated
@pytest.mark.parametrize("case", IMAGES)
def test_conv2d_is_within_the_rounding_bound(case):
    (channels, height, width), n_out, size, stride, padding, groups, known = IMAGES[case]
    rng = np.random.default_rng(5)
    shape = n_out, channels // groups, *size
    weight = Posterior(rng.standard_normal(shape), rng.random(shape))
    bias = Posterior(rng.standard_normal(n_out), rng.random(n_out))
    m = rng.standard_normal((1, channels, height, width))
    x = deterministic(m) if known else Moments(m, rng.random(m.shape))
    steps = stride, padding, groups
    alone = conv2d_program(weight, bias, (height, width), steps, 1, A72, known)
    results = build(alone, "hand", device="emulated")(*((m,) if known else (m, x.var)))
    expected = conv2d_reference.moments(x, weight, bias, *steps)
    bounds = conv2d_bound(x, weight, bias, *steps)
    for got, exact, bound in zip(results, (expected.mean, expected.var), bounds, strict=True):
        assert (np.abs(got - exact) <= bound).all()


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
        *(Conv2d(5, 8, 2), ELU(), MaxPool2d((1, 2), method="tree"), LeakyReLU(0.1), Flatten()),
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
    monkeypatch.setattr(by_name.platform, "machine", lambda: "x86_64")
    monkeypatch.setitem(
        targets._TARGETS, "host", lambda: targets.Target("host", 4, 16, {"mtriple": "x86_64"})
    )
    targets._made.cache_clear()
    with pytest.raises(InputError, match=message) as caught:
        compile_network(NET, **{"batch_size": 1, **options})
    assert "\n" not in str(caught.value)
    targets._made.cache_clear()


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

    monkeypatch.setattr(by_name, "find_spec", absent)
    with pytest.raises(InputError, match=rf"without {package}; .*pip install 'refbnn\[arm\]'"):
        compile_network(NET, 1, "cortex-a72", device="emulated")


def test_this_machine_counts_no_instructions():
    fast = compile_network(NET, 1)
    with pytest.raises(InputError, match="counts no instructions; compile with device='emulated'"):
        fast.instruction_count(np.zeros((1, 3)))


@pytest.mark.parametrize("command", ["reproduce", "verify"])
def test_command_line_refuses_a_target_of_another_machine(command, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(by_name.platform, "machine", lambda: "x86_64")
    assert main([command, "--target", "cortex-a72"]) == 2
    captured = capsys.readouterr()
    assert re.fullmatch(r".*target 'cortex-a72' is for aarch64.*\n", captured.err)
    assert not list(tmp_path.iterdir())
