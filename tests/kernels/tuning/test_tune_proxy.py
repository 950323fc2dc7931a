"""Tuning by proxy: cycles counted by hand, searches on the emulated core, records of both kinds."""

import json
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from kernels import compile_network
from kernels.devices import by_name, targets
from kernels.devices.emulated_arm import costs
from kernels.devices.instructions import count
from kernels.network import program
from kernels.program import kernel, records
from kernels.program.records import Record
from kernels.tuning import choice, measuring, search, tune
from kernels.tuning.journal import Journal
from refbnn import cli
from refbnn.cli.bench import tables as bench_tables
from refbnn.errors import InputError
from refbnn.layers import Dense, ReLU
from refbnn.network.architectures import DIGITS, lenet5
from refbnn.network.file import save
from refbnn.network.network import Network
from verification.rounding import network_bound

A72 = targets.target("cortex-a72")
NET = Network([Dense(24, 40), ReLU(), Dense(40, 3)], seed=1)
SECONDS = "seconds"
WORKLOAD = "dense 24x40 batch 3 known variance"

emulated = pytest.mark.skipif(
    any(find_spec(module) is None for module in ("unicorn", "elftools", "capstone", "ziglang")),
    reason="the extra `arm` is not installed",
)


def operator():
    return tune.workloads([program(NET, 3, A72)])[WORKLOAD]


def record(step, **changes):
    fields = {
        "workload": step.workload,
        "processor": records.processor(A72),
        "decisions": dict(step.by_hand),
        "measure": "proxy_cycles",
        "cost": 1000.0,
        "cost_by_hand": 1000.0,
        "trials": 3,
        "tvm": "0",
    }
    return Record(**{**fields, **changes})


# Loops of n rounds, two of whose instructions are the loop itself, and the cycles of one round,
# counted by hand on the A53, A72 and A76 by the formula of `kernels.devices.emulated_arm.costs`.
LOOPS = {
    # 32 bytes loaded: 4 of 8 alone | 2 of 16, one port | 2, two ports. 2 × 16 bytes of arithmetic:
    # 2 | 4 of 8, two ports | 2, two ports. 16 stored: 1 | 2 of 8 | 1. In all, with the loop's two:
    # 5 by 2 beside the loads | 10 by 3 | 7 by 4.
    "ldp q0, q1, [%x0]\n fmla v2.4s, v0.4s, v1.4s\n fmla v3.4s, v0.4s, v1.s[1]\n str q2, [%x0]": (
        4 + 5 / 2,
        10 / 3,
        7 / 4,
    ),
    # Arithmetic decides: 4 and 3 beside the load | 8 operations on two ports | 4 on two.
    "ldr q0, [%x0]\n fmla v2.4s, v0.4s, v0.4s\n fmul v3.4s, v0.4s, v0.4s\n"
    " fadd v4.4s, v0.4s, v0.4s\n fmla v5.4s, v0.4s, v0.4s": (2 + 4, 8 / 2, 4 / 2),
    # Loads decide: 4 × 16 bytes by one instruction, 8 of an integer.
    "ld1 {v0.4s, v1.4s, v2.4s, v3.4s}, [%x0]\n ldr x9, [%x0]": (9 + 1, 5, 5 / 2),
    # Stores decide: 32 and 16 bytes.
    "stp q0, q1, [%x0]\n str q0, [%x0]": (3, 6, 3),
    # Scalars and lanes: 4 and 8 bytes are one operation each, on the A53 as whole ones.
    "fmadd s0, s1, s2, s3\n fmla v4.2s, v1.2s, v2.2s\n fadd s5, s1, s2\n ldr s6, [%x0]": (
        1 + 3,
        6 / 3,
        3 / 2,
    ),
}
CORES = ("cortex-a53", "cortex-a72", "cortex-a76")


@pytest.fixture(scope="module")
def loops(tmp_path_factory):
    """Blocks that each of the loops executes in some rounds."""
    from kernels.devices import linker
    from kernels.devices.emulated_arm.core import Core

    path = tmp_path_factory.mktemp("loops") / "loops.c"
    used = "".join(f', "v{n}"' for n in range(6)).lstrip(", ")
    path.write_text(
        "".join(
            f"int loop{index}(void *memory, int n) {{ __asm__ volatile("
            f'"1: {body}\\n subs %w1, %w1, #1\\n b.ne 1b"'.replace("\n", "\\n")
            + f' : "+r"(memory), "+r"(n) : : "memory", "cc", "x9", "v6", {used}); return 0; }}\n'
            for index, body in enumerate(LOOPS)
        )
    )
    core = Core("cortex-a72", linker.linked(linker.compiled(path)))
    memory, _ = core.place(np.zeros(16, np.float32), read_only=False)
    return lambda index, n: core.blocks(f"loop{index}", memory, n)[1]


@emulated
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("index", range(len(LOOPS)))
def test_proxy_cycles_of_a_loop_are_those_counted_by_hand(loops, index, core):
    by_hand = list(LOOPS.values())[index][CORES.index(core)]
    # The first round is in a block with what comes before the loop: differences leave it out.
    found = [costs.proxy_cycles(loops(index, n), costs.throughput(core)) for n in (10, 1010)]
    assert found[1] - found[0] == pytest.approx(1000 * by_hand, rel=1e-12)  # sums of thirds


def test_a_core_without_costs():
    with pytest.raises(InputError, match="core 'generic' has no table of costs; expected one of"):
        costs.throughput("generic")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A search of a space of thirty, and its folder."""
    folder = tmp_path_factory.mktemp("records")
    ticks: list[int] = []
    alone, step = operator()
    result = tune.tune(alone, step, 6, folder, seed=5, tick=ticks.append, device="emulated")
    assert sum(ticks) == 6
    return result, folder


@emulated
def test_a_search_by_proxy(found):
    result, folder = found
    alone, step = operator()
    assert (result.workload, result.measure) == (WORKLOAD, "proxy_cycles")
    assert result.trials == 6
    assert result.cost <= result.cost_by_hand
    assert records.read(records.path(folder, A72)) == [result]
    assert [p.name for p in folder.iterdir()] == ["cortex-a72.json"]
    (entry,) = json.loads((folder / "cortex-a72.json").read_text())["records"]
    assert entry["proxy_cycles"] == result.cost
    assert "seconds" not in entry
    # The processes that compile candidates make the code that is used afterwards.
    for decisions, cost in (
        (result.decisions, result.cost),
        (step.by_hand, result.cost_by_hand),
    ):
        point = tuple(decisions[name] for name in step.space)
        bound = kernel.bind(alone, search_plan(alone, step, point), "emulated")
        assert bound.blocks is not None
        fill(bound)
        blocks = bound.blocks()
        cycles = costs.proxy_cycles(blocks, costs.throughput("cortex-a72"))
        assert cost == pytest.approx(cycles, rel=5e-4)  # four digits are kept
        # Lower bounds by another way: 16 bytes of arithmetic, of loads, or 3 instructions a cycle.
        executed = count(blocks)
        assert cycles >= max(executed.fma, executed.load, executed.total / 3)


def fill(built):
    """Inputs without zeros, which would be skipped: a search takes random ones."""
    for view in built.inputs:
        view[...] = 1.0


def search_plan(alone, step, point):
    from kernels.tuning.building import sampled

    return sampled(alone, step, point).mod


@emulated
def test_the_same_seed_finds_the_same_again(found, tmp_path, monkeypatch):
    result, folder = found
    alone, step = operator()
    drawn: list[search.Point] = []
    measure = tune.measured

    def noted(program, step, points, device):
        drawn.extend(points)
        return measure(program, step, points, device)

    monkeypatch.setattr(tune, "measured", noted)
    again = tune.tune(alone, step, 6, tmp_path, seed=5, device="emulated")
    assert again == result
    assert len(set(drawn)) == 6
    drawn.clear()
    assert tune.tune(alone, step, 6, folder, seed=6, device="emulated") == result  # known
    assert not drawn


@emulated
def test_an_interrupted_search_goes_on(found, tmp_path):
    alone, step = operator()
    journal = Journal(tmp_path, step, A72, "proxy_cycles")
    points = list(product(*step.space.values()))
    missing = {points[4], search.by_hand(step)}
    journal.write({point: 1e9 for point in points if point not in missing})
    by_time = Journal(tmp_path, step, A72, "seconds")
    assert by_time.read() == {}  # what is measured otherwise is in another file
    result = tune.tune(alone, step, len(points), tmp_path, device="emulated")
    assert result.trials == len(points)
    assert result.cost_by_hand == found[0].cost_by_hand
    assert not journal.file.exists()


@pytest.mark.parametrize("cost", ["-1.0", "NaN", "[]", '"few"'])
def test_a_corrupt_journal(tmp_path, cost):
    alone, step = operator()
    journal = Journal(tmp_path, step, A72, "proxy_cycles")
    journal.write({search.by_hand(step): 5.0})
    text = journal.file.read_text()
    journal.file.write_text(text.replace("5.0", cost))
    with pytest.raises(InputError, match=r"jsonl is not a list of measurements"):
        tune.tune(alone, step, 2, tmp_path, device="emulated")


@emulated
def test_many_more_instructions_are_not_taken_for_fewer_cycles(monkeypatch):
    alone, step = operator()
    hand, other = search.by_hand(step), (1, 1)  # one vector of outputs: three times the loads
    assert hand != other
    costs = {hand: 1000.0, other: 900.0}
    assert choice.fewest_cycles(alone, step, costs) == (hand, 1000.0, 1000.0)
    monkeypatch.setattr(choice, "_MORE_INSTRUCTIONS", 10.0)
    assert choice.fewest_cycles(alone, step, costs) == (other, 900.0, 1000.0)
    half_a_per_cent = {hand: 1000.0, other: 995.0}
    assert choice.fewest_cycles(alone, step, half_a_per_cent)[0] == hand


@pytest.mark.parametrize("refusal", [False, True])
def test_what_fails_on_a_device(refusal):
    tried: list[str] = []

    def cost(file):
        tried.append(str(file))
        if str(file) == "b":
            raise InputError("no board") if refusal else RuntimeError("session lost")
        return 3.0

    files: dict[search.Point, Path] = {(i,): Path(name) for i, name in enumerate("abc")}
    if refusal:  # no other candidate need be tried
        with pytest.raises(InputError, match="no board"):
            measuring._costs_on_device(cost, files)
    else:
        assert measuring._costs_on_device(cost, files) == {(0,): 3.0, (2,): 3.0}
    assert tried == ["a", "b"] + ["c"] * (not refusal)


@emulated
def test_tuned_network_is_propagate_in_float32(found):
    _, folder = found
    arm = compile_network(NET, 3, "cortex-a72", "tuned", records=folder, device="emulated")
    assert arm.tuned == (WORKLOAD,)
    x = np.random.default_rng(0).random((3, 24))
    got, expected = arm(x), NET.propagate(x)
    m_bound, v_bound = network_bound(NET, x)
    assert (np.abs(got.mean - expected.mean) <= m_bound).all()
    assert (np.abs(got.var - expected.var) <= v_bound).all()


@pytest.mark.parametrize("packaged", [SECONDS, "proxy_cycles"])
def test_time_goes_before_proxy(tmp_path, monkeypatch, packaged):
    own = "proxy_cycles" if packaged == SECONDS else SECONDS
    _, step = operator()
    monkeypatch.setattr(records, "PACKAGED", tmp_path / "packaged")
    (tmp_path / "packaged").mkdir()
    records.keep(record(step, measure=packaged), records.path(records.PACKAGED, A72))
    records.keep(record(step, measure=own), records.path(tmp_path, A72))
    result = records.find(step, A72, tmp_path)
    assert result is not None
    assert result.measure == SECONDS


def test_records_of_either_measure_are_kept_side_by_side(tmp_path):
    _, step = operator()
    file = records.path(tmp_path, A72)
    by_time, by_proxy = record(step, measure=SECONDS, cost=1e-6), record(step)
    for one in (by_time, by_proxy, replace(by_proxy, trials=7)):
        records.keep(one, file)
    assert sorted(records.read(file), key=lambda r: r.measure) == [
        replace(by_proxy, trials=7),
        by_time,
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"proxy_cycles": -1.0},
        {"proxy_cycles": 5},
        {"proxy_cycles": "5"},
        {"proxy_cycles": None},
        {"proxy_cycles": [0] * 3},
        {"seconds": 1e-6},
        {"seconds": 1e-6, "seconds_by_hand": 1e-6},
        {"measure": "seconds"},
        {"cost": 1.0},
        {"decisions": {"rows": 1.0}},
        {"trials": True},
    ],
)
def test_a_corrupt_record(tmp_path, changes, capsys):
    _, step = operator()
    file = records.path(tmp_path, A72)
    records.keep(record(step), file)
    content = json.loads(file.read_text())
    content["records"][0] |= changes
    file.write_text(json.dumps(content))
    model = tmp_path / "m.npz"
    save(model, NET)
    call = ["tune", str(model), "--target", "cortex-a72", "--device", "emulated"]
    with pytest.raises(InputError, match=r"cortex-a72\.json: record 0: "):
        records.find(step, A72, tmp_path)
    if find_spec("unicorn") is not None:
        assert cli.main([*call, "--batch-size", "3", "--records", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"refbnn tune: {file}: record 0: ")
        assert error.count("\n") == 1
    assert json.dumps(json.loads(file.read_text())) == json.dumps(content)  # untouched


@emulated
def test_tune_from_the_command_line(tmp_path, capsys):
    model = tmp_path / "m.npz"
    save(model, NET)
    call = ["tune", str(model), "--batch-size", "1", "--trials", "1", "--records", str(tmp_path)]
    assert cli.main([*call, "--target", "cortex-a72", "--device", "emulated"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines()[0].count("proxy cycles") == 2
    assert "µs" not in captured.out
    assert "no time was measured" in captured.out
    assert {r.measure for r in records.read(records.path(tmp_path, A72))} == {"proxy_cycles"}


def test_bench_says_what_is_tuned_by_proxy(tmp_path, capsys):
    _, step = operator()
    whole = program(NET, 3, A72)
    other = next(own.workload for own in whole.steps if own.space and own.workload != WORKLOAD)
    file = records.path(tmp_path, A72)
    records.keep(record(step), file)
    result = bench_tables.head(NET, whole, ["tuned"], tmp_path)
    assert (result["tuned_by_proxy"], result["untuned"]) == ([WORKLOAD], [other])
    bench_tables.show_networks(["network"], [["PFP"]], result | {"absent": {}})
    assert f"tuned by proxy cycles, not by time: {WORKLOAD}\n" in capsys.readouterr().out
    records.keep(record(step, measure=SECONDS), file)
    assert not bench_tables.head(NET, whole, ["tuned"], tmp_path)["tuned_by_proxy"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "emulated"], "target 'host' is not for aarch64"),
        (["--target", "cortex-a72"], "target 'cortex-a72' is for aarch64, and this machine is"),
        (["--target", "aarch64", "--device", "emulated"], "core 'generic' has no table of costs"),
        (["--target", "cortex-a72", "--device", "emulated", "--key", "x"], "--key is for boards"),
    ],
)
def test_bad_call(options, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(by_name.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(by_name, "find_spec", lambda name: "here")
    model = tmp_path / "m.npz"
    save(model, NET)
    folder = tmp_path / "records"
    assert cli.main(["tune", str(model), *options, "--records", str(folder)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not folder.exists()


def test_without_the_emulator(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(by_name, "find_spec", lambda name: None)
    model = tmp_path / "m.npz"
    save(model, NET)
    call = ["tune", str(model), "--target", "cortex-a72", "--device", "emulated"]
    assert cli.main([*call, "--records", str(tmp_path / "r")]) == 2
    error = capsys.readouterr().err
    assert "pip install 'refbnn[arm]'" in error
    assert error.count("\n") == 1


@emulated
@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([Dense(784, 100), ReLU(), Dense(100, 100), ReLU(), Dense(100, 10)], (784,)),
        (lenet5(10), DIGITS),
    ],
    ids=["mlp", "lenet5"],
)
@pytest.mark.parametrize("batch", [1, 10])
def test_packaged_decisions_are_no_worse_than_by_hand(layers, shape, batch, tmp_path):
    net = Network(layers, input_shape=shape, seed=1)
    found = tune.workloads([program(net, batch, A72)])
    decided = kernel.recorded(program(net, batch, A72), tmp_path)
    assert decided  # there are some, and they fit
    for workload, one in decided.items():
        alone, step = found[workload]
        if one.decisions == step.by_hand:
            continue
        cycles, totals = [], []
        for schedule in ("tuned", "hand"):
            built = kernel.build(alone, schedule, tmp_path, "emulated")
            assert built.blocks is not None
            fill(built)
            cycles.append(costs.proxy_cycles(built.blocks(), costs.throughput("cortex-a72")))
            totals.append(built.instruction_count(*built.inputs).total)
        assert cycles[0] < cycles[1]
        assert totals[0] <= 1.05 * totals[1]
