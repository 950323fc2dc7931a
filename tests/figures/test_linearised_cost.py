import json
from dataclasses import replace

import numpy as np
import pytest

from figures import linearised_cost
from figures.support import multiply_adds
from figures.support.half_precision.kernel import absent
from kernels import compile_sampled
from kernels.bench import roofline
from kernels.bench.inputs import evenly_by_zeros
from kernels.devices import targets
from kernels.network import program
from refbnn.cli.output import as_json
from refbnn.layers import Conv2d, Dense, Flatten, Layer, MaxPool2d, ReLU
from refbnn.network.architectures import Architecture
from refbnn.network.network import Network

ONE_LANE = replace(targets.target("host"), lanes=1)  # no padding


def mlp():
    return Network([Dense(20, 30), ReLU(), Dense(30, 25), ReLU(), Dense(25, 3)], seed=1)


def test_multiply_adds_of_dense_layers():
    counts = multiply_adds.count(mlp(), 3)
    products = [20 * 30, 30 * 25, 25 * 3]
    assert counts.mean == sum(products)
    assert counts.one_pass == 2 * sum(products) + 30 + 25 + 3
    assert counts.diagonal == 2 * products[0] + 3 * sum(products[1:])
    # Nine a term of three by three outputs, symmetric: three weighted, six pairs; and J µ.
    assert counts.linearised == counts.diagonal + 9 * (30 + 25) + 3 * products[1]
    squares = 30 * 25 * (30 + 25) + 25 * 3 * (25 + 3)
    assert counts.full == 2 * sum(products) + squares


def test_multiply_adds_of_a_convolution_with_its_pooling():
    layers: list[Layer] = [Conv2d(1, 4, 3), MaxPool2d(2), Flatten(), Dense(144, 3)]
    net = Network(layers, input_shape=(1, 14, 14), seed=1)
    counts = multiply_adds.count(net, 3)
    assert counts.mean == 4 * 144 * 9 + 3 * 144
    assert counts.diagonal == 14 * 144 * 9 + 3 * 3 * 144  # fourteen sums a window, known inputs
    # Windows and weights; gradients; averages of four patches.
    back = 9 * (144 + 4 * 10) + 3 * 144 * 10 + 4 * 144 * 9
    assert counts.linearised - counts.diagonal == back
    assert counts.full is None
    # Sums of four terms have three additions, and those for a bias no products.
    assert back * 0.85 < _operations_back(net) / 2 < back * 1.01


def test_multiply_adds_are_those_of_the_kernels():
    """Two operations each in the expressions of the kernels, without padding."""
    net = mlp()
    counts = multiply_adds.count(net, 3)
    dense = [layer for layer in net.layers if isinstance(layer, Dense)]
    made = [make() for name, make in program(net, 1, ONE_LANE).operators if "Dense" in name]
    works = [roofline.work(*pair, "variance") for pair in zip(dense, made, strict=True)]
    assert sum(work.operations for work in works) == 2 * counts.diagonal
    # Own variances of units, and the sum of all terms, come on top.
    back = counts.linearised - counts.diagonal
    assert back < _operations_back(net) / 2 < 1.05 * back


def _operations_back(net):
    made = [make() for _, make in program(net, 1, ONE_LANE, method="linearised").operators]
    return sum(roofline.work_of_pass_back(alone).operations for alone in made if alone.outputs)


def test_the_figure(tmp_path, monkeypatch):
    """By a small network, without its kernels of one input."""
    small = Architecture(lambda n: [Dense(784, 16), ReLU(), Dense(16, n)], flat=True)
    monkeypatch.setattr(linearised_cost, "ARCHITECTURES", {"mlp": small})
    monkeypatch.setattr(linearised_cost, "NETWORKS", {"mlp": "784-16-10"})
    monkeypatch.setattr(linearised_cost, "EPOCHS", {"mlp": 1})
    monkeypatch.setattr(linearised_cost, "PASSES", (10, 40))
    monkeypatch.setattr(linearised_cost, "TRUTH", 1000)
    monkeypatch.setattr(linearised_cost, "absent", lambda: True)
    kinds = ("mean", "diagonal", "linearised", "passes_10", "passes_40")
    times = {kind: float(n) for n, kind in enumerate(kinds, 1)}
    monkeypatch.setattr(linearised_cost, "microseconds", lambda *_: times)
    ticks: list[str] = []
    numbers = linearised_cost.make(tmp_path, 0, 0, ticks.append)
    assert len(ticks) == linearised_cost.STEPS // 2
    json.loads(as_json(numbers))
    assert (tmp_path / "linearised_cost.png").read_bytes().startswith(b"\x89PNG")
    assert b"</svg>" in (tmp_path / "linearised_cost.svg").read_bytes()
    network = numbers["networks"]["mlp"]
    assert set(network) == {*kinds, "full", "truth"}
    for n in (10, 40):
        # Var log s² ≈ 2/(n − 1) + 4/3(n − 1)², over 100 inputs of ten logits that share few units.
        expected = np.sqrt(2 / (n - 1) + 4 / 3 / (n - 1) ** 2)
        found = network[f"passes_{n}"]["variance_rms_log"]["garments"]
        assert found == pytest.approx(expected, rel=0.25)
    assert "variance_rms_log" not in network["mean"]
    # One hidden layer: variances are exact, so that only the truth's own error is left.
    exact, own = (network[k]["variance_rms_log"]["garments"] for k in ("linearised", "truth"))
    assert 0.5 * own < exact < 2.0 * own
    assert network["linearised"]["microseconds"] == 3.0
    assert network["full"]["microseconds"] is None
    assert network["mean"]["instructions"] is None


@pytest.mark.skipif(absent(), reason="the extra `arm` is not installed")
def test_instructions_of_passes_are_in_proportion():
    net = Network([Dense(20, 8), ReLU(), Dense(8, 3)], seed=1)
    x = np.random.default_rng(0).random((1, 20))
    counts = linearised_cost.instructions(net, x)
    assert counts["mean"] < counts["diagonal"] < counts["linearised"] < counts["passes_10"]
    assert counts["passes_1000"] == 100 * counts["passes_10"]
    sampled = compile_sampled(net, 1, 30, target="cortex-a72", device="emulated")
    # What a call does once, such as reading the input, is 1 % of ten passes at most.
    exact = sampled.instruction_count(x, 0).total
    assert exact == pytest.approx(counts["passes_30"], rel=0.02)


def test_kernels_take_the_input_of_the_median_number_of_zeros():
    x = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    np.testing.assert_array_equal(x[evenly_by_zeros(x, 1)], [[1.0, 0.0]])
