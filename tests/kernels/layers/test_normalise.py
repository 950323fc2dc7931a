"""Normalised inputs in compiled networks, against the float64 reference."""

import warnings
from importlib.util import find_spec

import numpy as np
import pytest

from kernels import compile_network, compile_sampled
from kernels.deploy.header import about_inputs
from kernels.deploy.test_vector import vector
from kernels.devices import targets
from kernels.layers import folding, normalise
from kernels.network import program
from kernels.program.kernel import build
from kernels.program.program import Program, Rows
from refbnn import Network
from refbnn.errors import InputRangeWarning
from refbnn.layers import Conv2d, Dense, Flatten, Layer, MaxPool2d, Normalise, ReLU
from refbnn.layers.moments import Moments
from refbnn.layers.posterior import Posterior
from verification.kernels.layers import accuracy

HOST = targets.target("host")
NETWORKS: dict[str, tuple[list[Layer], tuple[int, ...]]] = {
    "rows, one": ([Normalise(0.13, 0.31), Dense(190, 5), ReLU(), Dense(5, 3)], (190,)),
    "rows, by feature": (
        [Normalise(np.arange(19.0) / 7, np.arange(1.0, 20.0)), Dense(19, 3)],
        (19,),
    ),
    "images as rows": ([Normalise([0.1, 0.2], [0.5, 0.1]), Flatten(), Dense(18, 3)], (2, 3, 3)),
    "padded images": (
        [Normalise([0.1, 0.2], [0.5, 0.6]), Conv2d(2, 3, 3, padding=1), ReLU(), MaxPool2d(2)],
        (2, 5, 4),
    ),
    "images without padding": ([Normalise(0.3, 2.0), Conv2d(2, 3, 3), Flatten()], (2, 5, 4)),
    "temperatures": ([Normalise(293.0, 5.0), Dense(24, 3)], (24,)),
}


def inputs(net: Network) -> np.ndarray:
    """Blank, sparse, half blank and half µ₀, all µ₀, around µ₀, and uniform, in float32."""
    rng = np.random.default_rng(1)
    shape, first = net.input_shape, net.layers[0]
    assert isinstance(first, Normalise)
    assert shape is not None
    mean, sd = (
        np.broadcast_to(np.reshape(v, (-1,) + (1,) * (len(shape) - 1)), shape)
        for v in (first.mean, first.sd)
    )
    uniform = rng.random(shape)
    half, sparse = rng.random(shape) < 0.5, rng.random(shape) < 0.1
    rows = [0 * uniform, sparse * uniform, half * mean, mean, rng.normal(mean, sd), uniform]
    return np.array(rows).astype(np.float32)


def one_by_one(net: Network, monkeypatch, **options):
    """The compiled network with a pass of its own for Normalise."""
    with monkeypatch.context() as without:
        without.setattr(folding, "FORMS", ())
        return compile_network(net, 6, **options)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_compiled_network_takes_raw_inputs(name):
    layers, shape = NETWORKS[name]
    net = Network(layers, input_shape=shape, seed=0)
    x = inputs(net)
    result, expected = compile_network(net, len(x))(x), net.propagate(x.astype(float))
    for got, wanted, allowed in zip(
        (result.mean, result.var),
        (expected.mean, expected.var),
        accuracy(Moments(expected.mean, expected.var)),
        strict=True,
    ):
        assert (np.abs(got - wanted) <= allowed).all()


@pytest.mark.parametrize("form", ["variance", "mean"])
def test_rows_that_are_not_blank_have_the_bits_of_the_layers_one_by_one(form, monkeypatch):
    layers, shape = NETWORKS["rows, one"]
    net = Network(layers, input_shape=shape, seed=0)
    x = inputs(net)
    folded = compile_network(net, len(x), form=form)(x)
    explicit = one_by_one(net, monkeypatch, form=form)(x)
    np.testing.assert_array_equal(folded.mean[3:], explicit.mean[3:])
    np.testing.assert_array_equal(folded.var[3:], explicit.var[3:])
    assert (folded.mean[:2] != explicit.mean[:2]).any()  # blank rows are summed in another way


def test_zero_inputs_of_blank_rows_are_exactly_zero():
    offsets, weight = np.full(19, 0.4), Posterior(np.ones((3, 19)), np.ones((3, 19)))
    whole = Program(HOST, 2)
    x = whole.known(Rows(19, HOST.lanes))
    centred = folding.centred_rows(whole, "x", x, folding.shares(weight, offsets))
    m = normalise.add(whole, "m", Normalise(0.2, 0.5), x, centred)
    whole.give(m)
    rows = np.zeros((2, 19))
    rows[0, 7] = 0.75
    rows[1, 4:] = 0.75  # 4 of 19 are blank: less than a quarter
    (values,) = build(whole, "hand")(rows)
    np.testing.assert_array_equal(values[0], 2.0 * rows[0])
    np.testing.assert_allclose(values[1], (rows[1] - 0.2) / 0.5, rtol=1e-6)


def test_a_blank_row_keeps_a_quarter_of_every_variance():
    """The bound that the choice of rows rests on, output by output."""
    rng, chosen = np.random.default_rng(3), 0
    for _ in range(200):
        weight = Posterior(np.ones((5, 30)), rng.lognormal(0.0, 0.4, (5, 30)))
        offsets = rng.normal(0.0, 1.0, 30)
        shares = folding.shares(weight, offsets)
        zero = rng.random(30) < rng.random()
        if shares[zero].sum() >= folding.LEAST_SHARE:
            chosen += 1
            for var in weight.var:
                blank = sum(var[i] * offsets[i] ** 2 for i in range(30))
                kept = sum(var[i] * offsets[i] ** 2 for i in range(30) if zero[i])
                assert kept >= blank / 4
    assert 20 < chosen < 180
    without = Posterior(np.ones((2, 3)), np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 0.0]]))
    np.testing.assert_allclose(folding.shares(without, np.ones(3)), [0.2, 0.8, 0.0], atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "shape", "form", "names"),
    [
        ([Normalise(0.1, 0.3), Dense(8, 2)], (8,), "variance", ["0 Normalise, Dense"]),
        ([Normalise(0.1, 0.3), Dense(8, 2)], (8,), "mean", ["0 Normalise, Dense"]),
        ([Normalise(0.1, 0.3), Dense(8, 2)], (8,), "raw", ["0 Normalise", "1 Dense"]),
        ([Normalise(0.1, 0.3), Dense(8, 2)], (8,), "separate", ["0 Normalise", "1 Dense"]),
        ([Normalise(0.0, 0.3), Dense(8, 2)], (8,), "variance", ["0 Normalise", "1 Dense"]),
        ([Normalise(1e4, 0.3), Dense(8, 2)], (8,), "variance", ["0 Normalise", "1 Dense"]),
        (
            [Normalise([0.1, 0.2], [0.3, 0.4]), Flatten(), Dense(8, 2), ReLU()],
            (2, 2, 2),
            "variance",
            ["0 Normalise, Flatten, Dense", "3 ReLU"],
        ),
        (
            [Normalise(0.1, 0.3), Conv2d(1, 2, 2), Flatten()],
            (1, 3, 3),
            "variance",
            ["0 Normalise", "1 Conv2d", "2 Flatten"],
        ),
    ],
)
def test_operators_of_a_normalised_network(layers, shape, form, names):
    net = Network(layers, input_shape=shape, seed=0)
    whole = program(net, 2, HOST, form)
    assert [name for name, _ in whole.operators] == names
    # Tuning finds the operators' workloads in the network's.
    alone = {step.workload for _, make in whole.operators for step in make().steps if step.space}
    assert alone == {step.workload for step in whole.steps if step.space}
    folded = ", " in names[0]
    assert any(workload.endswith(" folded") for workload in alone) == folded


def test_bench_measures_a_normalised_network():
    from kernels.bench import operators

    layers, shape = NETWORKS["images as rows"]
    net = Network([*layers, ReLU()], input_shape=shape, seed=0)
    x = np.random.default_rng(0).random((2, *shape))
    first, second = operators.one_by_one(net, x, HOST)
    expected = Network(layers, input_shape=shape, seed=0).propagate(x).var
    assert first.work.products == 2 * 18 * 3
    np.testing.assert_array_equal(first.inputs[0], x)
    np.testing.assert_allclose(second.inputs[1], expected)


@pytest.mark.skipif(find_spec("unicorn") is None, reason="the extra `arm` is not installed")
def test_a_folded_network_on_the_emulated_core():
    layers, shape = NETWORKS["images as rows"]
    net = Network(layers, input_shape=shape, seed=0)
    x = inputs(net)
    result = compile_network(net, len(x), "cortex-a72", device="emulated")(x)
    expected = net.propagate(x.astype(float))
    mean, var = accuracy(expected)
    assert (np.abs(result.mean - expected.mean) <= mean).all()
    assert (np.abs(result.var - expected.var) <= var).all()


def test_compiled_networks_warn_of_inputs_far_outside_the_trained_range():
    net = Network([Normalise(0.1, 0.3), Dense(8, 2)], seed=0)
    net.input_range = 0.0, 1.0
    fast, sampled = compile_network(net, 1), compile_sampled(net, 1, 2)
    x = np.full((1, 8), 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast(x)
        sampled(x, seed=0)
    for call in (lambda: fast(255 * x), lambda: sampled(255 * x, seed=0)):
        with pytest.warns(InputRangeWarning, match="from 510 to 510, .* trained on 0 to 1"):
            call()


def test_a_header_says_what_happens_to_the_inputs():
    net = Network(
        [Normalise([0.25, 0.5], [0.5, 1.0]), Flatten(), Dense(8, 2)], input_shape=(2, 2, 2), seed=0
    )
    net.input_range = -0.5, 4.0
    said = about_inputs(net)
    assert "(x - m)/s" in said
    assert "m = 0.25, 0.5\n" in said
    assert "s = 0.5, 1\n" in said
    assert "from -0.5 to 4:" in said
    assert not about_inputs(Network([Dense(3, 2)], seed=0))
    many = Network([Normalise(np.arange(9.0), np.ones(9)), Dense(9, 2)], seed=0)
    assert "m = 9 numbers from 0 to 8\n" in about_inputs(many)


def test_test_vectors_lie_in_the_trained_range():
    net = Network([Normalise(0.25, 0.5), Dense(400, 2)], seed=0)
    net.input_range = -0.5, 4.0
    x = vector(net, (2, 400), "variance").x
    assert -0.5 <= x.min() < -0.3
    assert 3.5 < x.max() <= 4.0
    # 400 draws with probability 3/4: six standard deviations are 0.13.
    assert abs((x[0] == 0).mean() - 0.75) < 0.13
    assert (x[1] != 0).all()
    net.input_range = 3.0, 4.0  # without 0
    assert (vector(net, (2, 400), "variance").x >= 3.0).all()


def test_sampled_kernels_take_raw_inputs():
    layers, shape = NETWORKS["padded images"]
    net = Network([*layers, Flatten(), Dense(12, 2)], input_shape=shape, seed=0)
    x = np.random.default_rng(2).uniform(0.0, 1.0, (2, *shape))
    expected = net.sample(x, 3, seed=4)
    # float32: some 40 roundings a sum of at most 18 products of order 1, three layers deep.
    np.testing.assert_allclose(compile_sampled(net, 2, 3)(x, seed=4), expected, rtol=0, atol=1e-5)


def test_normalise_in_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: peers)")
    from kernels.bench import peers

    for layers, shape in (NETWORKS["rows, by feature"], NETWORKS["padded images"]):
        x = np.random.default_rng(0).random((3, *shape))
        module = peers.as_torch(layers[:1])
        with torch.no_grad():
            y = module(torch.from_numpy(x.astype(np.float32))).numpy()
        np.testing.assert_allclose(y, layers[0].forward(x, {}), rtol=1e-5, atol=1e-6)
