"""Residual blocks compiled, against the float64 reference."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from kernels import compile_network
from kernels.devices import targets
from kernels.layers.mean_jacobian import mean_slopes
from kernels.network import program
from kernels.program.kernel import build
from kernels.program.program import Program, Rows
from refbnn.layers import (
    AvgPool2d,
    Conv2d,
    Dense,
    Flatten,
    Layer,
    LeakyReLU,
    ReLU,
    Residual,
    Tanh,
    mean_jacobian,
)
from refbnn.layers.posterior import Posterior
from refbnn.network.network import Network

FEW = settings(max_examples=4, deadline=None, derandomize=True, database=None)  # each compiles
SCHEDULES = pytest.mark.parametrize("schedule", ["hand", "default"])
LANES = st.sampled_from([(4, 32), (8, 16), (16, 32)])


def branch(n, hidden, ends):
    """Dense layers of these widths with ReLUs between them, and others at both ends."""
    widths = [n, *hidden, n]
    layers: list[Layer] = [LeakyReLU(0.2)] if ends else []
    for n_in, n_out in pairwise(widths):
        layers += [Dense(n_in, n_out), ReLU()]
    return Residual(tuple(layers if ends else layers[:-1]))


@SCHEDULES
@FEW
@given(
    n=st.sampled_from([1, 7, 16, 37, 130]),
    hidden=st.lists(st.sampled_from([1, 5, 33]), max_size=2),
    ends=st.booleans(),
    cpu=LANES,
)
def test_residual_of_dense_layers(schedule, n, hidden, ends, cpu):
    lanes, registers = cpu
    narrow = targets.Target("narrow", lanes, registers, targets.target("host").llvm)
    block = branch(n, hidden, ends)
    net = Network([Dense(3, n), block], seed=n)
    x = np.random.default_rng(1).standard_normal((3, 3))
    mean, var = build(program(net, 3, narrow), schedule)(x)
    expected = net.propagate(x)

    # 1e-5 of the terms that are added up, J's among them with their absolute values.
    before, own = net.by_layer(net.parameters())
    of_x = net.layers[0].moments(x, before)
    of_layers = [
        {name: own[f"{index}.{name}"] for name in layer.parameter_shapes()}
        for index, layer in enumerate(block.layers)
    ]
    inputs = [of_x]
    for layer, weights in zip(block.layers, of_layers, strict=True):
        inputs.append(layer.moments(inputs[-1], weights))
    of_f = inputs.pop()
    sizes = [
        {name: Posterior(np.abs(p.mean), p.scale) for name, p in weights.items()}
        for weights in of_layers
    ]
    J = mean_jacobian.diagonal(block.layers, inputs, sizes)
    terms = (1.0 + J) ** 2 * of_x.var + of_f.var
    assert (np.abs(var - expected.var) <= 1e-5 * terms).all()
    size = np.abs(of_x.mean) + np.sqrt(of_x.var) + np.abs(of_f.mean) + np.sqrt(of_f.var)
    assert (np.abs(mean - expected.mean) <= 1e-5 * size).all()


@SCHEDULES
@pytest.mark.parametrize("layer", [ReLU(), LeakyReLU(0.25)])
def test_mean_slopes(schedule, layer):
    ratio = np.concatenate([np.linspace(-10.0, 10.0, 999), np.zeros(9)])
    var = np.resize([1e-30, 1.0, 3.0, 1e30, 0.0], (4, ratio.size)).astype(np.float32)
    mean = (ratio * np.where(var > 0.0, np.sqrt(var), 1.0)).astype(np.float32)
    cpu = targets.target("host")
    alone = Program(cpu, 4)
    x = alone.random(Rows(ratio.size, cpu.lanes))
    slope = mean_slopes(alone, "slope", layer, x)
    alone.give_arrays(x.layout, slope)
    (got,) = build(alone, schedule)(mean, var)
    with np.errstate(divide="ignore", invalid="ignore"):
        right = ndtr(mean.astype(float) / np.sqrt(var.astype(float)))
    below = getattr(layer, "slope", 0.0)
    expected = below + (1.0 - below) * np.where(var > 0.0, right, mean > 0.0)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


IMAGES: list[list[Layer]] = [
    # Planes, and packs of channels; blocks that change from one to the other.
    [Residual((Conv2d(2, 2, 3, padding=1), Residual((ReLU(), Conv2d(2, 2, 1)))))],
    [Conv2d(2, 20, 3), Residual((Conv2d(20, 3, 1), ReLU(), Conv2d(3, 20, 1))), AvgPool2d(2)],
    [Conv2d(2, 5, 3), Residual((LeakyReLU(0.1),)), Flatten(), Dense(5 * 24, 2)],
]


@SCHEDULES
@pytest.mark.parametrize("layers", IMAGES)
def test_residual_of_images(schedule, layers):
    net = Network(layers, seed=1, input_shape=(2, 6, 8))
    x = np.random.default_rng(2).standard_normal((3, 2, 6, 8))
    got, expected = compile_network(net, 3, schedule=schedule)(x), net.propagate(x)
    np.testing.assert_allclose(got.var, expected.var, rtol=1e-5)
    size = np.abs(expected.mean) + np.sqrt(expected.var)
    assert (np.abs(got.mean - expected.mean) <= 1e-5 * size).all()


def test_residual_of_known_inputs_and_of_means():
    f = (Dense(4, 3), Tanh(), Dense(3, 4))
    net = Network([Residual(f), Residual(f)], seed=3, input_shape=(4,))
    x = np.random.default_rng(4).standard_normal((2, 4))
    got, expected = compile_network(net, 2)(x), net.propagate(x)
    np.testing.assert_allclose(got.var, expected.var, rtol=1e-5)
    size = np.abs(expected.mean) + np.sqrt(expected.var)
    assert (np.abs(got.mean - expected.mean) <= 1e-5 * size).all()
    means = compile_network(net, 2, form="mean")(x)
    now = x
    for own in net.by_layer(net.parameters()):
        w = {name: p.mean for name, p in own.items()}
        hidden = np.tanh(now @ w["0.weight"].T + w["0.bias"])
        now = now + hidden @ w["2.weight"].T + w["2.bias"]
    np.testing.assert_allclose(means.mean, now, rtol=1e-5, atol=1e-6)
    assert not means.var.any()


def test_a_branch_that_takes_its_input_back():
    """f(x) = −x: nothing is left, where without J there would be 2 v_x."""
    net = Network([Dense(3, 3), Residual((Dense(3, 3),))], seed=5)
    taken_back = {
        "1.0.weight": Posterior(-np.eye(3), np.full((3, 3), 1e-6)),
        "1.0.bias": Posterior(np.zeros(3), np.full(3, 1e-6)),
    }
    net.set_parameters({**net.parameters(), **taken_back})
    x = np.ones((1, 3))
    of_x = net.layers[0].moments(x, net.by_layer(net.parameters())[0])
    assert (compile_network(net, 1)(x).var <= 1e-5 * of_x.var).all()
