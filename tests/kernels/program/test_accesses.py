"""No kernel reads or writes beyond its arrays, whatever comes of what it finds there.

A weight of 0 hides such a read in every result, until what lies there is NaN, or no memory.
"""

import pytest
import tvm
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tvm import te

from kernels import sampled_network
from kernels.devices import targets
from kernels.gradients import kernel as gradients
from kernels.gradients.frames import Sizes
from kernels.network import program
from kernels.program.kernel import lowered
from kernels.program.zeros import skipping
from refbnn.errors import InputError
from refbnn.layers import AvgPool2d, Conv2d, Dense, Flatten, Layer, MaxPool2d, ReLU
from refbnn.network.network import Network
from refbnn.noise import Gaussian
from tests.helpers.accesses import outside
from tests.helpers.layer_kernels import dense_program

SCHEDULES = pytest.mark.parametrize("schedule", ["hand", "default"])
HOST = targets.target("host").llvm
CPUS = st.sampled_from(
    [targets.Target("narrow", n, 32 if n == 16 else 16, HOST) for n in (4, 8, 16)]
    + [targets.target("cortex-a72")]
)
SOME = settings(max_examples=8, deadline=None, derandomize=True, database=None)


def convolutions(channels):
    return st.builds(
        lambda groups, factor, **options: Conv2d(
            channels, groups * factor, groups=groups, **options
        ),
        groups=st.sampled_from([1, channels]),
        factor=st.sampled_from([1, 3, 17]),
        kernel_size=st.sampled_from([1, 2, 3, (4, 2), 5]),
        stride=st.sampled_from([1, 2, (1, 3)]),
        padding=st.sampled_from([0, 1, (0, 2)]),
    )


POOLS = st.sampled_from([ReLU(), MaxPool2d(2), MaxPool2d(3, stride=2, padding=1), AvgPool2d(2)])


@st.composite
def networks(draw):
    shape: tuple[int, ...] = (
        draw(st.sampled_from([1, 2, 5, 18])),
        draw(st.sampled_from([7, 12])),
        draw(st.sampled_from([6, 20, 31])),
    )
    image = shape
    layers: list[Layer] = []
    try:
        for _ in range(draw(st.integers(1, 2))):
            layers += [draw(convolutions(shape[0]))]
            shape = layers[-1].output_shape(shape)
            layers += [draw(POOLS)]
            shape = layers[-1].output_shape(shape)
    except InputError:  # the image has no room for it
        assume(False)
    features = shape[0] * shape[1] * shape[2]
    layers += [Flatten(), Dense(features, draw(st.sampled_from([3, 17])))]
    return Network(layers, seed=1, input_shape=image)


@SCHEDULES
@SOME
@given(net=networks(), cpu=CPUS, batch=st.sampled_from([1, 3]))
def test_networks_stay_within_their_arrays(schedule, net, cpu, batch):
    assert outside(lowered(program(net, batch, cpu), schedule)) == []
    assert outside(lowered(sampled_network.program(net, batch, 2, cpu), schedule)) == []


@SCHEDULES
@pytest.mark.parametrize("conv", [Conv2d(4, 34, 2, groups=2), Conv2d(6, 6, 3, groups=6)])
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_channels_that_fill_a_pack_up_are_of_no_group(schedule, conv, lanes):
    cpu = targets.Target("narrow", lanes, 16, HOST)
    net = Network([conv], seed=1, input_shape=(conv.in_channels, 7, 9))
    assert outside(lowered(sampled_network.program(net, 2, 2, cpu), schedule)) == []


@SCHEDULES
@SOME
@given(conv=convolutions(3), image=st.tuples(st.integers(5, 9), st.integers(5, 20)), cpu=CPUS)
def test_gradients_stay_within_their_arrays(schedule, conv, image, cpu):
    try:
        sizes = Sizes(conv, image, batch=2, samples=2)
    except InputError:  # no room for the kernel
        assume(False)
    assert outside(lowered(gradients.alone(sizes, cpu, law=Gaussian()), schedule)) == []


@SCHEDULES
@SOME
@given(sizes=st.tuples(*[st.integers(1, 40)] * 3), cpu=CPUS, known=st.booleans())
def test_dense_stays_within_its_arrays(schedule, sizes, cpu, known):
    n_in, n_out, batch = sizes
    own = Network([Dense(n_in, n_out)], seed=1).parameters()
    alone = dense_program(own["0.weight"], own["0.bias"], batch, cpu, known)
    assert outside(lowered(alone, schedule)) == []
    assert outside(skipping(lowered(alone, schedule), cpu.lanes)) == []


def test_what_is_beyond_an_array_is_found():
    a = te.placeholder((8, 3), name="a")
    for shape, formula, n in (
        ((8,), lambda i: a[i, 2] + a[i, 0], 0),
        ((8,), lambda i: a[i, 2] + a[i + 1, 0], 1),
        ((7,), lambda i: a[i - 1, 2] + a[i + 1, 0], 1),
        ((8,), lambda i: te.if_then_else(i < 7, a[i + 1, 2], 0.0), 0),
        ((8,), lambda i: te.if_then_else(i < 7, 0.0, a[i + 1, 2]), 1),
        ((8,), lambda i: a[(i * 2) % 8, (i * 5) // 16], 0),
        ((9,), lambda i: a[te.min(i, 7), te.max(i - 20, 0)], 0),
    ):
        function = te.create_prim_func([a, te.compute(shape, formula, name="b")])
        module = {"main": function.with_attr("global_symbol", "main")}
        assert len(outside(tvm.IRModule(module))) == n
