"""Numbers that overflow float32 inside of a network: an error, whatever layer comes next."""

from functools import cache

import numpy as np
import pytest

from kernels import compile_network, compile_sampled
from kernels.devices import targets
from kernels.layers.images import Planes
from kernels.layers.layer import add_layer
from kernels.program.kernel import build
from kernels.program.program import Program, Rows
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
    Residual,
    Sigmoid,
    Tanh,
)
from refbnn.layers.posterior import Posterior
from refbnn.network.network import Network
from tests.helpers.overflow import BAD, WELL, overflowing

INF, NAN = np.inf, np.nan
# Mean and variance of one entry that is no number, among others that are.
FAULTS = [(INF, 1.0), (-INF, 1.0), (NAN, 1.0), (0.5, INF), (0.5, NAN), (-INF, INF), (-INF, 0.0)]
ROWS: list[Layer] = [
    ReLU(),
    LeakyReLU(0.0),
    LeakyReLU(),
    ELU(),
    GELU(),
    Sigmoid(),
    Tanh(),
    Residual([Tanh()]),
]
IMAGES: list[Layer] = [
    *(MaxPool2d(2, 1, 1), MaxPool2d(2), MaxPool2d(2, method="tree"), MaxPool2d(1), AvgPool2d(2)),
    *(BatchNorm2d(*np.zeros((4, 1))), Flatten(), ReLU(), Residual([ReLU()])),
]


@cache
def side_by_side(known, schedule):
    """A kernel of all layers side by side: rows of 8, an image of 4 × 4, then outputs in order."""
    program = Program(targets.target("host"), 1)
    lanes = program.target.lanes
    rows = program.given(Rows(8, lanes), known)
    image = program.random(Planes(1, 4, 4, lanes), "image")
    if known:
        image = program.known(Planes(1, 4, 4, lanes), "picture")
        program.inputs = [
            pair for pair in program.inputs if not pair[1].op.name.startswith("image")
        ]
    for part, x in enumerate((rows, image)):
        for index, layer in enumerate((ROWS, IMAGES)[part]):
            program.give(add_layer(program, f"layer{part}_{index}", layer, {}, x))
    return build(program, schedule)


def outputs(arrays, known, schedule):
    """Smallest to greatest output of each layer, as one array a layer."""
    got = side_by_side(known, schedule)(*arrays)
    step = 1 if known else 2
    return [
        np.concatenate([a.ravel() for a in got[i : i + step]]) for i in range(0, len(got), step)
    ]


@pytest.mark.parametrize("schedule", ["hand", "default"])
@pytest.mark.parametrize("known", [False, True])
def test_no_layer_makes_a_number_of_what_is_none(schedule, known):
    names = [repr(layer) for layer in ROWS + IMAGES]

    def arrays(mean=0.5, var=1.0):
        rows, image = np.full((1, 8), 0.5), np.full((1, 1, 4, 4), 0.5)
        row_var, image_var = np.ones_like(rows), np.ones_like(image)
        rows[0, 3] = image[0, 0, 1, 2] = mean
        row_var[0, 3] = image_var[0, 0, 1, 2] = var
        return (rows, image) if known else (rows, row_var, image, image_var)

    for name, y in zip(names, outputs(arrays(), known, schedule), strict=True):
        assert np.isfinite(y).all(), name
    for mean, var in FAULTS[:3] if known else FAULTS:
        for name, y in zip(names, outputs(arrays(mean, var), known, schedule), strict=True):
            assert not np.isfinite(y).all(), (name, mean, var)
            assert np.isfinite(y).any() or y.size <= 2, (name, mean, var)  # and its neighbours are


def require_error_for_each(call):
    assert np.isfinite(call(np.array([WELL, WELL]))).all()
    for bad in BAD:
        with pytest.raises(InputError, match="too large for float32"):
            call(np.array([WELL, bad]))
    assert np.isfinite(call(np.array([WELL, WELL]))).all()


@pytest.mark.parametrize("schedule", ["hand", "default"])
def test_a_hidden_overflow_is_an_error(schedule):
    fast = compile_network(overflowing(Tanh(), Residual([ReLU()])), 2, schedule=schedule)
    require_error_for_each(lambda x: fast(x).mean)


def test_a_hidden_overflow_is_an_error_on_the_emulated_core():
    fast = compile_network(overflowing(Sigmoid()), 2, target="cortex-a72", device="emulated")
    require_error_for_each(lambda x: fast(x).mean)


def test_a_hidden_overflow_is_an_error_under_sampled_weights():
    # Scales of 1e18 overflow no value, and tanh is not sampled: means alone, cut off by ReLU.
    fast = compile_sampled(overflowing(ReLU()), 2, n_samples=2)
    assert np.isfinite(fast(np.array([WELL, WELL]), seed=0)).all()
    for bad in BAD[:2]:
        with pytest.raises(InputError, match="too large for float32"):
            fast(np.array([WELL, bad]), seed=0)


def test_the_raw_form_does_not_lose_an_overflow():
    # E[x²]E[w²] and (mµ)² are both infinite; their difference, cut at 0, would be a variance of 0.
    net = Network([Dense(1, 1)])
    zero = Posterior(np.zeros(1), np.zeros(1))
    wide = Posterior(np.full((1, 1), 1e10), np.full((1, 1), 1e9))
    net.set_parameters({"0.weight": wide, "0.bias": zero})
    fast = compile_network(net, 1, form="raw")
    assert fast(np.ones((1, 1))).var[0, 0] == pytest.approx(1e18, rel=1e-4)
    with pytest.raises(InputError, match="too large for float32"):
        fast(np.full((1, 1), 1e12))


def test_checks_look_at_images_and_not_at_their_padding():
    # A maximum leaves −3e38 for windows of padding alone, beyond the last column; a convolution,
    # then, made infinity of them there.
    layers: list[Layer] = [Conv2d(1, 3, 3, padding=1), ReLU(), MaxPool2d(2), Conv2d(3, 2, 1)]
    net = Network(layers, input_shape=(1, 10, 10))
    x = np.random.default_rng(0).random((1, 1, 10, 10))
    got, expected = compile_network(net, 1)(x), net.propagate(x)
    np.testing.assert_allclose(got.mean, expected.mean, rtol=0, atol=1e-6)
    np.testing.assert_allclose(got.var, expected.var, rtol=1e-5)
