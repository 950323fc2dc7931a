"""Kernels for Arm by hand: executed instructions a product on the emulated A72, against floors.

A multiply-add does four lanes at once: the floor is a quarter of an instruction for each product of
a mean and of a variance, 0.5 for known inputs and 0.75 for random ones. Counts are exact and the
same on every machine; they change with LLVM, hence with TVM, which is pinned.
"""

from importlib.util import find_spec

import numpy as np
import pytest

from kernels import compile_network
from kernels.devices import targets
from kernels.layers import conv2d
from kernels.layers.images import Packs, Planes
from kernels.network import program
from kernels.program.kernel import build
from kernels.program.program import Program
from refbnn.data.catalogue import load
from refbnn.layers import Conv2d, Dense, ReLU
from refbnn.layers.posterior import Posterior
from refbnn.network.network import Network
from tests.helpers.layer_kernels import dense_program

pytestmark = pytest.mark.skipif(
    any(find_spec(module) is None for module in ("unicorn", "elftools", "capstone", "ziglang")),
    reason="the extra `arm` is not installed",
)


def posterior(rng, *shape):
    return Posterior(rng.standard_normal(shape), rng.random(shape))


def counted(work, schedule="hand"):
    rng = np.random.default_rng(3)
    kernel = build(work, schedule, device="emulated")
    return kernel.instruction_count(*[rng.random(view.shape) for view in kernel.inputs])


def of_dense(n_in, n_out, batch, known):
    rng = np.random.default_rng(5)
    weight, bias = posterior(rng, n_out, n_in), posterior(rng, n_out)
    return dense_program(weight, bias, batch, targets.target("cortex-a72"), known)


@pytest.mark.parametrize(
    ("n_in", "n_out", "batch", "known", "most"),
    [
        (784, 100, 1, True, 0.88),
        (784, 100, 10, True, 0.7),
        # µ² is formed in registers, a quarter of an instruction more: 1.25 is least, with weights
        # loaded by two vectors at once.
        (100, 100, 1, False, 1.42),
        (100, 100, 10, False, 1.2),
    ],
)
def test_dense(n_in, n_out, batch, known, most):
    n_products = n_in * n_out * batch
    count = counted(of_dense(n_in, n_out, batch, known))
    floor = (0.5 if known else 0.75) * n_products
    # Beside them, m² + v of every input.
    assert floor <= count.fma <= floor + n_in * batch / 4
    assert count.total <= most * n_products
    if known:
        assert counted(of_dense(n_in, n_out, batch, known), "default").total >= 5 * count.total


def test_zeros_of_a_digit_are_skipped():
    kernel = build(of_dense(784, 100, 1, True), "hand", device="emulated")
    digits = load("mnist-subset", "test").x[:20].reshape(20, 1, 784)
    counts = [kernel.instruction_count(digit).total for digit in digits]
    # Without zeros, 0.5 is the floor: products of µ and of σ², in vectors of four. A fifth of the
    # pixels are not 0, and 0.27 of groups of four neighbours.
    assert np.mean(counts) <= 0.33 * 78_400


def of_conv2d(layout, known, n_out, kernel, padding=(0, 0)):
    rng = np.random.default_rng(5)
    conv = Program(targets.target("cortex-a72"), 1)
    layer = Conv2d(layout.channels, n_out, kernel, padding=padding)
    own = {name: posterior(rng, *shape) for name, shape in layer.parameter_shapes().items()}
    x = conv.given(layout, known)
    conv.give(conv2d.add(conv, "conv2d", layer, own, x, "variance"))
    return conv


@pytest.mark.parametrize(
    ("layout", "known", "n_out", "kernel", "padding", "size", "most", "fewer"),
    [
        # LeNet-5. Of the first, TVM's own lowering takes 1.49 instructions a product: a fifth of
        # that, 0.3, is less than the floor of 0.5. Of the second, 8.7.
        (Planes(1, 28, 28, 4), True, 6, (5, 5), (2, 2), 28, 0.8, 1.8),
        (Planes(6, 14, 14, 4), False, 16, (5, 5), (0, 0), 10, 0.98, 5),
        # Between packs; many channels of many columns.
        (Packs(16, 10, 10, 4), False, 32, (3, 3), (1, 1), 10, 1.06, 0),
        (Planes(16, 28, 28, 4), False, 6, (3, 3), (1, 1), 28, 1.3, 0),
    ],
    ids=["columns", "channels", "packs", "weights"],
)
def test_conv2d(layout, known, n_out, kernel, padding, size, most, fewer):
    arguments = layout, known, n_out, kernel, padding
    n_products = n_out * size**2 * layout.channels * kernel[0] * kernel[1]
    count = counted(of_conv2d(*arguments))
    floor = (0.5 if known else 0.75) * n_products
    # Beside them, m² + v of every input, and what is around it.
    inputs = layout.tensor_shape(1)
    n_inputs = layout.channels * (layout.height + 4) * (layout.width + 8)
    assert np.prod(inputs) <= n_inputs
    assert floor <= count.fma <= floor + n_inputs / 4
    assert count.total <= most * n_products
    if fewer:
        assert counted(of_conv2d(*arguments), "default").total >= fewer * count.total


def test_whole_network():
    # Floors and loads of a 784-100-100-10, whose weights are used once at batch 1: µ and σ² of four
    # outputs are two vectors, which one instruction loads.
    sizes = [(784, 100, 0.5), (100, 100, 0.75), (100, 10, 0.75)]
    floors = sum(n_in * n_out * products for n_in, n_out, products in sizes)
    loads = sum(n_in * n_out * 2 / 4 / 2 for n_in, n_out, _ in sizes)
    assert (floors, loads) == (47_450, 22_350)
    net = Network([Dense(784, 100), ReLU(), Dense(100, 100), ReLU(), Dense(100, 10)], seed=1)
    arm = compile_network(net, 1, "cortex-a72", device="emulated")
    count = arm.instruction_count(np.random.default_rng(2).random((1, 784)))
    assert floors + loads <= count.total <= 1.33 * (floors + loads)


def test_layers_together_are_no_more_than_apart():
    net = Network([Dense(784, 100), ReLU(), Dense(100, 100), ReLU(), Dense(100, 10)], seed=1)
    arm = compile_network(net, 10, "cortex-a72", device="emulated")
    together = arm.instruction_count(np.random.default_rng(2).random((10, 784))).total
    operators = program(net, 10, targets.target("cortex-a72")).operators
    # 2 %: the checks of what goes in and out.
    assert together <= 1.02 * sum(counted(alone()).total for _, alone in operators)
