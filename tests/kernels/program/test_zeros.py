"""Zeros that are skipped change no bit, and save their instructions."""

import numpy as np
import pytest

from kernels import compile_network, compile_sampled
from kernels.devices import targets
from kernels.network import program
from kernels.program.kernel import lowered
from kernels.program.zeros import skipping
from refbnn import Network
from refbnn.errors import InputError
from refbnn.layers import Dense, Normalise, ReLU


def inputs(batch, n_in, seed):
    """Rows with many zeros, without any, and blank; −0 and a subnormal number among them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((batch, n_in)).astype(np.float32)
    x[rng.random(x.shape) < rng.choice([0.0, 0.6, 0.95, 1.0], (batch, 1))] = 0.0
    x.flat[:: max(1, x.size // 5)] = -0.0
    x.flat[1 :: max(1, x.size // 3)] = 1e-40
    return x


def same_bits(a, b):
    return a.tobytes() == b.tobytes()


@pytest.mark.parametrize(
    ("form", "batch", "n_in"),
    [
        ("variance", 1, 98),
        ("variance", 3, 33),
        ("variance", 40, 784),
        ("raw", 7, 17),
        ("separate", 3, 98),
        ("mean", 13, 17),
    ],
)
def test_every_bit_stays(form, batch, n_in):
    net = Network([Dense(n_in, 37)], seed=2)
    skips = compile_network(net, batch, form=form)
    whole = compile_network(net, batch, form=form, constant_time=True)
    for seed in range(6):
        x = inputs(batch, n_in, seed)
        assert same_bits(skips(x).mean, whole(x).mean)
        assert same_bits(skips(x).var, whole(x).var)


@pytest.mark.parametrize(("method", "first"), [("pfp", [Normalise(0.1, 0.3)]), ("linearised", [])])
def test_normalised_inputs_and_the_pass_back_too(method, first):
    net = Network([*first, Dense(50, 5), ReLU(), Dense(5, 3)], seed=2)
    skips = compile_network(net, 3, method=method)
    whole = compile_network(net, 3, method=method, constant_time=True)
    for seed in range(6):
        x = inputs(3, 50, seed)
        assert same_bits(skips(x).mean, whole(x).mean)
        assert same_bits(skips(x).var, whole(x).var)


@pytest.mark.parametrize(("batch", "n_in"), [(1, 98), (3, 15), (4, 8), (16, 16), (17, 24), (2, 3)])
def test_samples_have_the_same_bits(batch, n_in):
    net = Network([Dense(n_in, 5)], seed=2)
    skips = compile_sampled(net, batch, 2)
    whole = compile_sampled(net, batch, 2, constant_time=True)
    for seed in range(4):
        x = inputs(batch, n_in, seed)
        assert same_bits(skips(x, seed), whole(x, seed))


@pytest.mark.parametrize("batch", [1, 3])
def test_an_emulated_core_skips_zeros_and_needs_as_long_for_all_if_asked(batch):
    net = Network([Dense(64, 16)], seed=2)
    full = np.random.default_rng(1).standard_normal((batch, 64)).astype(np.float32)
    few = np.where(np.arange(64) < 8, full, np.float32(0.0))
    skips, whole = (
        compile_network(net, batch, target="cortex-a72", device="emulated", constant_time=constant)
        for constant in (False, True)
    )
    assert same_bits(skips(few).var, whole(few).var)
    assert same_bits(skips(full).mean, whole(full).mean)
    counts = [[kernel.instruction_count(x).total for x in (few, full)] for kernel in (skips, whole)]
    assert counts[1][0] == counts[1][1]
    # 56 of 64 inputs are left out, of 16 outputs each: 2 instructions for 4 products of two sums.
    assert counts[1][0] - counts[0][0] > 0.7 * batch * 56 * 16 * 2 / 4
    # All inputs: 16 turns of 4 are listed, with some 8 instructions a turn and row.
    assert counts[0][1] - counts[1][1] < 16 * (12 + 8 * batch)


def test_what_is_no_number_is_not_skipped():
    fast = compile_network(Network([Dense(20, 3)], seed=2), 2)
    for bad in (np.nan, np.inf):
        x = np.zeros((2, 20))
        x[1, 13] = bad
        with pytest.raises(InputError, match="x holds NaN, infinity"):
            fast(x)


def test_a_function_without_marks_stays():
    net = Network([Dense(9, 3)], seed=2)
    module = lowered(program(net, 1, targets.target("host"), constant_time=True), "hand")
    assert skipping(module, 16) is module
