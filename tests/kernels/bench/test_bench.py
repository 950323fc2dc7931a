"""Measurements of `refbnn bench`: counted work, limits, sizes, ways to compute a network."""

import json
from math import prod
from typing import Any

import numpy as np
import pytest
from tvm import te, tirx
from tvm.script.ir_builder import tirx as script

from kernels.arithmetic.polynomials import f32, fma, kept
from kernels.bench import ablation, comparison, memory, operations, operators, roofline
from kernels.bench import latency as bench
from kernels.devices import targets
from kernels.network import program
from kernels.program import loops
from refbnn import cli
from refbnn.cli.bench import command as bench_command
from refbnn.cli.bench import tables
from refbnn.layers import AvgPool2d, Conv2d, Dense, Flatten, Layer, MaxPool2d, ReLU, Residual
from refbnn.layers.moments import JointMoments, deterministic
from refbnn.network.file import save
from refbnn.network.network import Network

HOST = targets.target("host")


def mlp():
    return Network([Dense(24, 40), ReLU(), Dense(40, 3)], seed=1)


def cnn():
    layers: list[Layer] = [Conv2d(2, 5, 3), ReLU(), AvgPool2d(2), Flatten(), Dense(20, 3)]
    return Network(layers, input_shape=(2, 6, 6), seed=1)


def works(net, batch, form):
    parts = program(net, batch, HOST, form).operators
    return [
        roofline.work(layer, make(), form)
        for layer, (_, make) in zip(net.layers, parts, strict=True)
    ]


def test_operators_are_given_what_the_network_hands_them():
    """Images as planes, then as packs of channels, the last of which is not full."""
    channels = HOST.lanes + 3
    layers: list[Layer] = [Conv2d(1, channels, 2), ReLU(), Conv2d(channels, 2, 1), Flatten()]
    net = Network([*layers, Dense(8, 2)], input_shape=(1, 3, 3), seed=1)
    x = np.random.default_rng(0).random((2, 1, 3, 3))
    moments, packed = deterministic(x), 0
    of_layers = net.by_layer(net.parameters())
    found = operators.one_by_one(net, x, HOST)
    for operator, layer, own in zip(found, net.layers, of_layers, strict=True):
        kernel = operator.kernel("hand", None, "local")
        for view, expected in zip(kernel.inputs, (moments.mean, moments.var), strict=False):
            if view.ndim == 5:
                packed += 1
                view = view.reshape(2, -1, *view.shape[3:])[:, : expected.shape[1]]
            np.testing.assert_array_equal(view, expected.astype(np.float32))
        moments = layer.moments(moments, own)
    assert packed


def test_operators_of_the_pass_back_hand_on_what_the_network_does():
    """Each by itself, on the network's arrays; the last gives the covariance of the reference."""
    layers: list[Layer] = [Conv2d(1, 2, 2), MaxPool2d(2), ReLU(), Flatten(), Dense(8, 4)]
    layers += [Residual((Dense(4, 4), ReLU(), Dense(4, 4))), Dense(4, 2)]
    net = Network(layers, input_shape=(1, 5, 5), seed=1)
    x = np.random.default_rng(0).random((2, 1, 5, 5))
    computed: dict[str, np.ndarray] = {}
    for operator in operators.of_pass_back(net, x, HOST, "local"):
        for tensor, given in zip(operator.alone.sources, operator.inputs, strict=True):
            if tensor.op.name in computed:
                expected = computed.pop(tensor.op.name)
                # float32 in another order of sums, of some hundred terms at most.
                np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5 * abs(given).max())
        kernel = operator.kernel("hand", None, "local")
        outputs = kernel(*kernel.inputs)
        for (_, tensor), array in zip(operator.alone.outputs, outputs, strict=True):
            computed[tensor.op.name] = array
    assert computed.keys() == {"covariance"}  # all others were handed on
    joint = net.propagate(x, method="linearised")
    assert isinstance(joint, JointMoments)
    np.testing.assert_allclose(computed["covariance"][..., :2], joint.cov, rtol=1e-4, atol=1e-6)


def works_of_pass_back(net, batch):
    made = [
        (name, make()) for name, make in program(net, batch, HOST, method="linearised").operators
    ]
    return {name: roofline.work_of_pass_back(alone) for name, alone in made if alone.outputs}


def test_work_of_the_pass_back_is_counted():
    first, covariance = works_of_pass_back(mlp(), 7).values()
    width = -(-40 // HOST.lanes) * HOST.lanes
    # w + g² d of each unit; R diag(w) for three outputs; six pairs of these, a product and a sum.
    assert first.operations == 7 * width * (3 + 3 + 6 * 2)
    # In: g, r of the activation and d of the layer, and R, for all examples the same. Out: pairs.
    assert first.n_bytes == 4 * (3 * 7 * width + 3 * width + 7 * 6 * HOST.lanes)
    assert covariance.n_bytes > first.n_bytes - 4 * (3 * 7 + 3) * width
    hidden = Network([Dense(24, 40), ReLU(), Dense(40, 30), ReLU(), Dense(30, 3)], seed=1)
    product = works_of_pass_back(hidden, 7)["2 Dense, back"]
    assert product.operations > 2 * 7 * 3 * 40 * 30
    assert product.n_weights >= 40 * 30


def test_work_of_dense_layers_is_counted():
    first, relu, last = works(mlp(), 7, "variance")
    # Known inputs: two sums of 24·40 products for each of 7 rows; random ones: three.
    assert first.operations == 2 * 2 * 7 * 24 * 40
    assert last.operations == 2 * 3 * 7 * 40 * 3
    # Input, mean and variance of the output, of weights and of biases.
    assert first.n_bytes == 4 * (7 * 24 + 2 * 7 * 40 + 2 * (24 * 40 + 40))
    assert last.n_bytes == 4 * (2 * 7 * 40 + 2 * 7 * 3 + 2 * (40 * 3 + 3))
    assert relu.n_bytes == 4 * (4 * 7 * 40)
    padded = -(-40 // HOST.lanes) * HOST.lanes
    # A maximum and a polynomial of degree 10 at least, in Horner's form.
    assert relu.operations > 21 * 7 * padded
    assert relu.operations % (7 * padded) == 0
    mean = works(mlp(), 7, "mean")
    assert mean[0].operations == 2 * 7 * 24 * 40
    # max(0, x), and x times a number, its size and a sum, by which what is not finite becomes NaN.
    assert mean[1].operations == 4 * 7 * padded
    assert mean[0].n_bytes == 4 * (7 * 24 + 7 * 40 + 24 * 40 + 40)


def test_work_of_convolutions_is_counted():
    first, *_ = works(cnn(), 3, "variance")
    n_weights = prod((5, 2, 3, 3))
    assert first.operations == 2 * 2 * 3 * n_weights * 4 * 4
    assert first.n_bytes == 4 * (3 * 2 * 36 + 2 * 3 * 5 * 16 + 2 * (n_weights + 5))


def test_work_of_any_layer_is_counted():
    pool = MaxPool2d(2, method="tree")
    layers: list[Layer] = [Conv2d(2, 5, 3), pool, AvgPool2d(2), Flatten(), Dense(5, 3)]
    net = Network(layers, input_shape=(2, 6, 6), seed=1)
    counted = works(net, 2, "variance")
    assert all(work.n_bytes > 0 for work in counted)
    assert all(work.operations > 0 for work in (*counted[:3], counted[4]))
    assert counted[3].operations == 0  # a copy


def test_work_of_a_convolution_with_its_pooling_is_counted():
    net = Network([Conv2d(2, 5, 3), MaxPool2d(2)], input_shape=(2, 6, 6), seed=1)
    ((_, make),) = program(net, 2, HOST, "variance").operators
    counted = roofline.work(net.layers[0], make(), "variance")
    assert counted.products == 2 * 4 * 4 * 5 * 2 * 9
    # Of each window of four, 14 sums of 18 products, for known inputs.
    assert counted.operations > 2 * 14 * (2 * 2 * 2 * 5) * 18


def test_work_of_residual_blocks_is_counted():
    dense = Residual((Dense(4, 6), ReLU(), Dense(6, 4)))
    first, block = works(Network([Dense(3, 4), dense], seed=1), 7, "variance")
    assert first.products == 7 * 3 * 4
    assert block.products == 7 * 2 * 4 * 6
    # Moments in and out; of each weight and bias µ and σ².
    assert block.n_weights == 2 * (2 * 4 * 6 + 6 + 4)
    assert block.n_bytes == 4 * (4 * 7 * 4 + block.n_weights)
    # At least the moments' three sums of products for each, beside those of J.
    assert block.operations > 2 * 3 * block.products
    images = Residual((Conv2d(2, 3, 3, padding=1), Conv2d(3, 2, 1)))
    (alone,) = works(Network([images], input_shape=(2, 5, 6), seed=1), 1, "mean")
    assert alone.products == 5 * 6 * (2 * 3 * 9 + 3 * 2)


def test_operations_of_loops_written_out_are_counted():
    a, b = te.placeholder((6, 8), name="a"), te.placeholder((6, 8), name="b")

    def element(i, j):
        return fma(a[i, j], b[i, j], kept(tirx.max(a[i, j], b[i, j])))

    product = te.compute((6, 8), element, name="product")

    def body(ins, outs, place):
        (m,) = ins
        with script.vectorized(4) as lane:
            script.buffer_store(outs[0], m[place(lane)] * f32(3.0), place(lane))
        with script.If(m[place(0)] > f32(0.0)), script.Then():
            script.buffer_store(outs[0], tirx.sqrt(m[place(1)]), place(1))
        with script.serial(m[place(0)].astype("int32")), script.serial(5):
            script.buffer_store(outs[0], m[place(2)] + f32(1.0), place(2))

    result, _ = loops.stage("result", (6, 8), [product], [], 2, 4, body)
    # A product, a sum and a maximum for each of 48; four products, a comparison, no root, and one
    # round of five sums for each of 12 vectors.
    assert operations.count([result]) == 48 * 3 + 12 * (4 + 1 + 5)


def test_limits_of_this_machine_are_plausible():
    rate = roofline.rate(HOST, "local")
    # At least one multiply-add of a vector a cycle of 0.5 GHz; at most four a cycle of 8 GHz.
    assert 0.5e9 * 2 * HOST.lanes < rate < 4 * 8e9 * 2 * HOST.lanes
    # One core reads a cache at 1 GB/s at least, and at most three vectors a cycle of 8 GHz.
    for n_bytes in (64, 30_000, 3_000_000):
        assert 1e9 < roofline.bandwidth(HOST, n_bytes, "local") < 3 * 8e9 * 4 * HOST.lanes


def test_size_of_a_compiled_network():
    whole = program(mlp(), 7, HOST)
    size = memory.size(whole, "hand", None)

    def padded(n):
        return -(-n // HOST.lanes) * HOST.lanes

    # Packed weights and biases, mean and variance; tiles are padded to less than twice as many.
    least = 4 * 2 * (padded(40) * 25 + padded(3) * 41)
    assert least <= size.weights < 2 * least
    assert size.activations == 4 * 7 * (padded(24) + 2 * padded(3))
    # Mean and variance of the hidden layer are never in fewer bytes than this, nor all in more.
    assert 4 * 2 * 7 * padded(40) <= size.workspace <= 4 * 20 * 7 * padded(40)
    assert size.peak == size.weights + size.activations + size.workspace
    assert size.code > 1000


@pytest.mark.parametrize(
    ("net", "schedule"), [(mlp(), "default"), (cnn(), "hand")], ids=["dense", "convolution"]
)
def test_every_way_computes_the_same(net, schedule):
    x = np.random.default_rng(0).random((4, *net.input_shape))
    calls, absent = comparison.calls(net, x, HOST, [schedule], None)
    expected = net.propagate(x)
    ways: dict[str, Any] = {name: call() for name, call in calls.items()}
    # float32 in sums of at most 40 terms near 1: far below 1e-4; what differs is another thing.
    for name, result in ways.items():
        if name.startswith("PFP"):
            np.testing.assert_allclose(result.mean, expected.mean, atol=1e-4, rtol=1e-4)
            np.testing.assert_allclose(result.var, expected.var, atol=1e-4, rtol=1e-4)
        if name.startswith("linearised"):
            joint = net.propagate(x, method="linearised")
            np.testing.assert_allclose(result.mean, joint.mean, atol=1e-4, rtol=1e-4)
            np.testing.assert_allclose(result.cov, joint.cov, atol=1e-4, rtol=1e-4)
        if name.startswith("prediction"):
            np.testing.assert_allclose(result.logits.mean, expected.mean, atol=1e-4, rtol=1e-4)
        if name.startswith("mean"):
            assert not result.var.any()
        if name.startswith("SVI"):
            assert result.shape == (30, 4, 3)
            # Means of 30 draws: within five of their standard errors.
            error = 5 * np.sqrt(expected.var / 30)
            assert (np.abs(result.mean(axis=0) - expected.mean) <= error + 0.05).all()
    names = ["PFP", "prediction", "mean", "SVI-30", "linearised"]
    local = f"SVI-30 local, kernel, {schedule}"
    if Conv2d in map(type, net.layers):
        assert absent.pop(local).startswith("local reparameterisation: layer 0 is Conv2d")
    else:
        names.append("SVI-30 local")
    kernels = {f"{name}, kernel, {schedule}" for name in names}
    by_reference = {"PFP, NumPy", "PFP, Numba", "prediction, NumPy", "SVI-30, NumPy"}
    assert ways.keys() == {*by_reference, *kernels}
    assert not absent


def test_ablation_has_a_row_a_decision(short_turns):
    times = bench.on_device(ablation.kernels(mlp(), 3, HOST))
    assert len(times) == 7
    assert all(0 < t < 1e-2 for t in times.values())


def test_every_row_of_the_ablation_of_the_pass_back_computes_the_same():
    net = Network([Conv2d(1, 2, 2), Flatten(), Dense(8, 2)], input_shape=(1, 3, 3), seed=1)
    built = ablation.of_pass_back(net, 2, HOST)
    assert len(built) == 5
    assert list(built)[-1].endswith("(hand)")
    joint = net.propagate(np.full((2, 1, 3, 3), 0.5), method="linearised")
    assert isinstance(joint, JointMoments)
    for kernel in built.values():
        mean, cov = kernel(*kernel.inputs)
        np.testing.assert_allclose(mean, joint.mean, atol=1e-4, rtol=1e-4)
        np.testing.assert_allclose(cov, joint.cov, atol=1e-4, rtol=1e-4)


def test_a_network_without_a_linearised_kernel_has_no_operators_of_the_pass_back():
    layers: list[Layer] = [Conv2d(1, 2, 2), MaxPool2d(9, method="tree"), Flatten()]  # too large
    net = Network([*layers, Dense(2, 2)], input_shape=(1, 10, 10), seed=1)
    job = tables.Job(net, HOST, "local", ["hand"], None, False)
    assert set(tables.operators(job, np.zeros((1, 1, 10, 10)))) == {"operators"}


def test_a_call_far_below_the_timer_s_resolution_is_repeated():
    calls: list[None] = []
    bench.latency({"f": lambda: calls.append(None)}, repeats=5)
    assert len(calls) > 5 * 1000  # of 100 ns or so, in turns of 2 ms


def test_latency_takes_another_statistic():
    least = bench.latency({"f": lambda: sum(range(100))}, repeats=5, statistic=min)
    most = bench.latency({"f": lambda: sum(range(100))}, repeats=5, statistic=max)
    assert 0 < least["f"] <= most["f"]


def test_bench_from_the_command_line(tmp_path, capsys, short_turns):
    model, file = tmp_path / "m.npz", tmp_path / "b.json"
    save(model, mlp())
    call = ["bench", str(model), "--batch-size", "2", "--schedule", "hand", "tuned", "--peers"]
    call += ["--ablation", "--records", str(tmp_path / "none"), "--json", str(file)]
    assert cli.main(call) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("refbnn bench: no record of tuning, by hand: dense 24x40 ")
    assert printed.err.count("\n") == 1
    for text in ("Batch size 2", "PFP, kernel, hand", "0 Dense", "peak memory, kB"):
        assert text in printed.out
    assert "decision of the pass back, added to those above" in printed.out
    content = json.loads(file.read_text())
    assert content["machine"]["cores_used"] == 1
    assert content["machine"]["versions"]["numpy"] == np.__version__
    (numbers,) = content["by_batch_size"]
    assert numbers["batch_size"] == 2
    assert set(numbers["latency_seconds"]).isdisjoint(numbers["absent"])
    named = {*numbers["latency_seconds"], *numbers["absent"]}
    assert {"PyTorch, deterministic", "fastbnns, propagation", "Pyro, SVI-30"} <= named
    assert len(numbers["untuned"]) == 2
    of_pass = numbers["pass_back_operators"]
    assert [o["operator"] for o in of_pass] == ["0 Dense, back", "covariance"]
    assert len(numbers["ablation_seconds"]) == 7
    assert len(numbers["pass_back_ablation_seconds"]) == 4
    for operator in [*numbers["operators"], *of_pass]:
        assert set(operator["latency_seconds"]) == {"hand", "tuned"}
        assert operator["limited_by"] in ("memory", "arithmetic")
        for schedule, seconds in operator["latency_seconds"].items():
            share = operator["share_of_limit"][schedule]
            assert share == pytest.approx(operator["limit_seconds"] / seconds)
    assert cli.main(["bench", str(tmp_path / "no.npz")]) == 2
    assert cli.main(["bench", str(model), "--target", "z80"]) == 2


def test_bench_with_another_max_pooling(tmp_path, short_turns):
    """Every result uses the method named, by default the network's own."""
    model, file = tmp_path / "m.npz", tmp_path / "b.json"
    layers: list[Layer] = [MaxPool2d((1, 3), method="tree"), Flatten(), Dense(2, 2)]
    net = Network(layers, input_shape=(1, 1, 6), seed=1)
    save(model, net)
    call = ["bench", str(model), "--batch-size", "1", "--schedule", "hand", "--json", str(file)]
    assert cli.main([*call, "--max-pool", "exact"]) == 0
    (numbers,) = json.loads(file.read_text())["by_batch_size"]
    assert numbers["max_pool"] == ["exact"]
    for method in ("exact", None):
        pool, *others = bench_command._network(model, method).layers
        assert pool == MaxPool2d((1, 3), method=method or "tree")
        assert others == layers[1:]
    assert cli.main(["bench", str(model), "--max-pool", "median"]) == 2
    save(model, Network([Dense(4, 2)], seed=1))
    assert cli.main(["bench", str(model), "--max-pool", "exact"]) == 2
