"""Counts of `refbnn bench` on the emulated core, and calls that it refuses."""

import json
import os
from importlib.util import find_spec

import numpy as np
import pytest

from kernels import compile_network
from kernels.bench import operators
from kernels.devices import by_name, targets
from kernels.devices.emulated_arm import cycles
from kernels.devices.emulated_arm.innermost_loops import Loop
from refbnn import cli
from refbnn.cli.bench import instructions as bench_instructions
from refbnn.layers import Conv2d, Dense, Flatten, Layer, MaxPool2d, ReLU
from refbnn.network.file import save
from refbnn.network.network import Network

A72 = targets.target("cortex-a72")
ARM = ["--target", "cortex-a72", "--device", "emulated"]
emulated = pytest.mark.skipif(
    any(find_spec(module) is None for module in ("unicorn", "elftools", "capstone", "ziglang")),
    reason="the extra `arm` is not installed",
)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.npz"
    save(path, Network([Dense(24, 40), ReLU(), Dense(40, 3)], seed=1))
    return path


@pytest.fixture
def without_analysers(monkeypatch):
    monkeypatch.setattr(cycles, "find_spec", lambda _: None)
    monkeypatch.setattr(cycles.shutil, "which", lambda _: None)


@emulated
def test_what_is_needed_is_counted():
    net = Network([Dense(24, 40), ReLU(), Dense(40, 3)], seed=1)
    x = np.random.default_rng(0).random((5, 24))
    found = operators.one_by_one(net, x, A72)
    first, relu, last = operators.counted(found, A72, ["default", "hand"], None)
    # Known inputs: sums of mµ and m²σ²; random ones: of mµ, (v + m²)σ² and vµ². Four lanes each.
    assert first.floor == 2 * 5 * 24 * 40 / 4
    assert last.floor == 3 * 5 * 40 * 3 / 4
    assert (first.products, relu.products, last.products) == (5 * 24 * 40, 0, 5 * 40 * 3)
    # Means and variances of weights and biases.
    assert first.weight_vectors == 2 * (24 * 40 + 40) / 4
    assert relu.weight_vectors == 0
    assert last.weight_vectors == -(-2 * (40 * 3 + 3) // 4)
    for operator in (first, relu, last):
        for count in operator.instructions.values():
            assert count.fma + count.vector >= operator.floor
    by_hand = first.instructions["hand"]
    assert by_hand.fma == first.floor  # 40 outputs fill whole vectors
    loop = first.loops["hand"]
    assert loop is not None
    assert loop.instructions <= by_hand.total
    assert 0 < sum(line.startswith("fmla") for line in loop.body) * loop.iterations <= by_hand.fma


@emulated
def test_bench_counts_from_the_command_line(model, tmp_path, capsys, without_analysers):
    file = tmp_path / "b.json"
    call = ["bench", str(model), *ARM, "--batch-size", "2", "--schedule", "hand"]
    call += ["--ablation", "--records", str(tmp_path / "none"), "--json", str(file)]
    assert cli.main(call) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    for text in (
        "cortex-a72, emulated core: executed instructions, not time",
        "OSACA: absent, is not installed",
        "llvm-mca: absent, is not installed",
        "0 Dense",
        "peak memory, kB",
        "mean and variance in one loop",
    ):
        assert text in printed.out
    content = json.loads(file.read_text())
    assert content["machine"]["device"] == "emulated"
    (numbers,) = content["by_batch_size"]
    counts = numbers["executed_instructions"]
    assert list(counts) == [
        f"{name}, kernel, hand" for name in ("PFP", "mean", "linearised", "SVI-30", "SVI-30 local")
    ]
    for count in counts.values():
        assert count["total"] == sum(n for name, n in count.items() if name != "total")
    net = Network([Dense(24, 40), ReLU(), Dense(40, 3)], seed=1)
    arm = compile_network(net, 2, "cortex-a72", device="emulated")
    exact = arm.instruction_count(np.random.default_rng(0).random((2, 24))).total  # no zeros
    assert counts["PFP, kernel, hand"]["total"] == exact
    assert counts["mean, kernel, hand"]["total"] < exact < counts["SVI-30, kernel, hand"]["total"]
    first = numbers["operators"][0]
    share = first["executed_instructions"]["hand"]["total"] / (2 * 24 * 40)
    assert first["instructions_per_multiply_accumulate"]["hand"] == pytest.approx(share)
    assert not numbers["operators"][1]["instructions_per_multiply_accumulate"]
    assert first["largest_loop"]["hand"]["predicted_cycles"] == {}
    assert numbers["floor_instructions"] == sum(
        operator["floor_instructions"] for operator in numbers["operators"]
    )
    # The same program but for the checks of what goes in and out.
    *_, by_hand, by_records = numbers["ablation_instructions"].values()
    assert by_hand == by_records
    assert 0.7 * exact < by_hand < exact
    size = numbers["size_bytes"]["hand"]
    assert size["peak_memory"] > 4 * 2 * (24 * 40 + 40 * 3)
    # Mean and variance of the hidden layer, before and after ReLU, of two examples.
    assert size["workspace"] > 4 * 2 * 4 * 40


@emulated
def test_bench_counts_a_network_of_images(tmp_path):
    """With every analyser that is here."""
    layers: list[Layer] = [Conv2d(1, 4, 3), MaxPool2d(2), Flatten(), Dense(16, 2)]
    save(tmp_path / "m.npz", Network(layers, input_shape=(1, 6, 6), seed=1))
    call = ["bench", str(tmp_path / "m.npz"), *ARM, "--batch-size", "1", "--schedule", "tuned"]
    assert cli.main([*call, "--json", str(tmp_path / "b.json")]) == 0
    (numbers,) = json.loads((tmp_path / "b.json").read_text())["by_batch_size"]
    # The whole is its parts, but for checks of what goes in and out of each: also where the work
    # depends on numbers, as the greatest of a window's entries does.
    parts = sum(o["executed_instructions"]["tuned"]["total"] for o in numbers["operators"])
    whole = numbers["executed_instructions"]["PFP, kernel, tuned"]["total"]
    assert 0.8 * whole < parts < 1.2 * whole
    # Linearised, it also computes gains and own variances on the way forth.
    of_pass = numbers["pass_back_operators"]
    parts += sum(o["executed_instructions"]["tuned"]["total"] for o in of_pass)
    joint = numbers["executed_instructions"]["linearised, kernel, tuned"]["total"]
    assert 0.8 * joint < parts < 1.2 * joint
    found, _ = cycles.analysers("cortex-a72")
    for operator in [*numbers["operators"], *of_pass]:
        for loop in operator["largest_loop"].values():
            assert set(loop["predicted_cycles"]) == set(found)
            assert not loop["not_predicted"]
            for name, total in loop["predicted_cycles"].items():
                per_iteration = loop["predicted_cycles_per_iteration"][name]
                assert total == pytest.approx(loop["iterations"] * per_iteration)
                assert per_iteration >= 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "emulated"], "target 'host' is not for aarch64"),
        (["--device", "emulated", "--target", "cortex-m4"], "target 'cortex-m4' is unknown"),
        ([*ARM, "--peers"], "--peers: other tools run on this machine alone"),
        ([*ARM, "--key", "rpi4"], "--key is for boards; expected --device rpc, not emulated"),
        ([*ARM, "--max-pool", "tree"], "has no MaxPool2d; expected one"),
    ],
)
def test_bench_refuses(options, message, model, capsys, monkeypatch):
    monkeypatch.setattr(by_name, "find_spec", lambda _: "here")
    assert cli.main(["bench", str(model), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["bench", "verify"])
def test_an_emulator_that_is_not_installed_is_named(command, model, capsys, monkeypatch):
    monkeypatch.setattr(by_name, "find_spec", lambda name: None if name == "unicorn" else "here")
    words = [command, str(model)] if command == "bench" else [command]
    assert cli.main([*words, *ARM]) == 2
    error = capsys.readouterr().err
    assert "device 'emulated' cannot run without unicorn; install the extra" in error
    assert error.count("\n") == 1


def test_an_analyser_that_fails_leaves_the_rest(tmp_path, monkeypatch):
    broken = tmp_path / "llvm-mca"
    broken.write_text("#!/bin/sh\necho 'llvm-mca: Unknown command line argument' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    numbers = bench_instructions._loop(Loop(6, ("b.ne loop",)), 12, "cortex-a53")
    assert numbers["share_of_instructions"] == 0.5
    assert numbers["predicted_cycles"] == {}
    assert "Unknown command line argument" in numbers["not_predicted"]["llvm-mca"]
