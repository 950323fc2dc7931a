"""Tuning and its records: what is searched, what is kept, what does not fit."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tvm_ffi

from kernels import compile_network
from kernels.devices import targets
from kernels.network import program
from kernels.program import records
from kernels.program.records import Record
from kernels.tuning import choice, search, tune
from kernels.tuning.interruption import forward_signals
from kernels.tuning.journal import Journal
from refbnn import cli
from refbnn.errors import InputError
from refbnn.layers import Dense, MaxPool2d, ReLU
from refbnn.network.architectures import DIGITS, lenet5, mlp
from refbnn.network.file import save
from refbnn.network.network import Network
from verification.rounding import network_bound

HOST = targets.target("host")
# No test here is of the precision of the times.
pytestmark = pytest.mark.usefixtures("short_turns")


def small():
    return Network([Dense(24, 40), ReLU(), Dense(40, 3)], seed=1)


@pytest.fixture(scope="module")
def found():
    """The operator with most to decide of a small network, batch 3."""
    alone, step = max(
        tune.workloads([program(small(), 3, HOST)]).values(), key=lambda p: size(p[1])
    )
    return alone, step


@pytest.fixture
def heard():
    """An interrupt from the keyboard is one here and in processes that start here.

    A shell makes commands in its background deaf to it, and Python leaves them so.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def size(step):
    return len(list(product(*step.space.values())))


def record(step, **changes):
    fields = {
        "workload": step.workload,
        "processor": records.processor(HOST),
        "decisions": dict(step.by_hand),
        "measure": "seconds",
        "cost": 1e-6,
        "cost_by_hand": 1e-6,
        "trials": 9,
        "tvm": "0",
    }
    return Record(**{**fields, **changes})


def write(folder, *found):
    for one in found:
        records.keep(one, records.path(folder, HOST))
    return records.path(folder, HOST)


def test_a_search_measures_its_space_and_is_not_done_again(found, tmp_path, monkeypatch):
    alone, step = found
    ticks: list[int] = []
    result = tune.tune(alone, step, 1000, tmp_path, seed=3, tick=ticks.append)
    assert result.trials == sum(ticks) == size(step)
    assert records.fits(result.decisions, step.space)
    assert 0 < result.cost <= result.cost_by_hand < 1e-3
    assert records.read(records.path(tmp_path, HOST)) == [result]
    assert [p.name for p in tmp_path.iterdir()] == ["host.json"]  # no journal is left
    monkeypatch.setattr(tune, "measured", None)  # an error, if it is called
    assert tune.tune(alone, step, 5, tmp_path) == result


def test_a_search_with_more_trials_is_done(found, tmp_path, monkeypatch):
    alone, step = found
    write(tmp_path, record(step, trials=1))
    monkeypatch.setattr(
        tune, "measured", lambda program, step, points, device: dict.fromkeys(points, 1.0)
    )
    assert tune.tune(alone, step, 1, tmp_path).trials == 1
    assert tune.tune(alone, step, 2, tmp_path).trials == 2


def test_an_interrupted_search_goes_on(found, tmp_path, monkeypatch):
    alone, step = found
    measure = tune.measured
    rounds: list[list[search.Point]] = []

    def interrupted(program, step, points, device):
        if rounds:
            raise KeyboardInterrupt
        rounds.append(points)
        return measure(program, step, points, device)

    monkeypatch.setattr(tune, "_ROUND", 2)
    monkeypatch.setattr(tune, "measured", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune.tune(alone, step, 4, tmp_path)
    (journal,) = tmp_path.glob("*.jsonl")
    assert len(journal.read_text().splitlines()) == 3  # its name and two candidates
    assert not records.path(tmp_path, HOST).exists()

    again: list[search.Point] = []

    def noted(program, step, points, device):
        again.extend(points)
        return measure(program, step, points, device)

    monkeypatch.setattr(tune, "measured", noted)
    result = tune.tune(alone, step, 4, tmp_path)
    assert result.trials == min(4, size(step))
    assert not set(again) & set(rounds[0])  # none twice
    assert not journal.exists()


@pytest.mark.parametrize("text", ["no list", "1\n2", '{}\n{"decisions": 1}', ""])
def test_a_corrupt_journal(found, tmp_path, text):
    alone, step = found
    journal = Journal(tmp_path, step, HOST, "seconds")
    if text.startswith("{}"):
        text = text.replace("{}", json.dumps(journal.head))
    journal.file.write_text(text)
    if text == "1\n2":
        assert journal.read() == {}  # of something else
        return
    with pytest.raises(InputError, match=r"jsonl is not a list of measurements"):
        tune.tune(alone, step, 2, tmp_path)


@pytest.mark.parametrize("wanted", [1, 7, 40, 60])
def test_candidates_are_new_within_the_space_and_begin_by_hand(wanted):
    step = replace(
        program(small(), 3, HOST).steps[0],
        by_hand={"a": 3, "b": 2},
        space={"a": range(1, 11), "b": [1, 2, 4, 8, 16, 32]},
    )

    def drawn(seed, seconds):
        rng = np.random.default_rng(seed)
        return list(search.candidates(step, seconds, rng, wanted))

    first = drawn(0, {})
    assert first == drawn(0, {})
    assert first[0] == (3, 2)
    assert len(set(first)) == len(first) == wanted
    assert set(first) <= set(product(range(1, 11), [1, 2, 4, 8, 16, 32]))
    if wanted == 60:
        assert len(first) == 60  # all of it
    if 1 < wanted < 60:
        assert first != drawn(1, {})
    known = {(3, 2): 1.0, (9, 32): 0.5}
    rest = drawn(0, known)
    assert len(rest) == max(0, wanted - 2)
    assert not set(rest) & known.keys()


def test_candidates_take_some_time(found):
    alone, step = found
    points = [search.by_hand(step), tuple(min(values) for values in step.space.values())]
    costs = tune.measured(alone, step, points)
    assert list(costs) == points
    assert all(1e-8 < cost < 1e-2 for cost in costs.values())


def test_a_candidate_without_schedule_or_with_a_fault_counts_as_failed(found):
    alone, step = found
    broken = replace(step, transform=lambda plan, decisions: plan.get_sblock("no such block"))
    alone = replace(alone, steps=[broken])
    point = search.by_hand(step)
    assert tune.measured(alone, broken, [point]) == {point: float("inf")}


def test_a_schedule_by_hand_that_does_not_end(found, tmp_path, monkeypatch):
    alone, step = found
    tried: list[search.Point] = []

    def endless(program, step, points, device):
        tried.extend(points)
        return dict.fromkeys(points, float("inf"))

    monkeypatch.setattr(tune, "measured", endless)
    for times in (1, 2):  # kept as a failure, it would be one for ever
        with pytest.raises(InputError, match=r"batch 3 .*by hand, it cannot be built and run"):
            tune.tune(alone, step, 2, tmp_path)
        assert tried.count(search.by_hand(step)) == times
    assert len(tried) == 3
    assert not records.path(tmp_path, HOST).exists()


def test_by_hand_is_kept_unless_another_is_faster(found):
    alone, step = found
    hand = search.by_hand(step)
    chosen, seconds, by_hand = choice.fastest(alone, step, {hand: 1e-6}, "local")
    assert chosen == hand
    assert seconds == by_hand


@pytest.mark.parametrize("batch", [1, 3])
def test_tuned_network_is_propagate_in_float32(batch, tmp_path):
    net = small()
    steps = [step for _, step in tune.workloads([program(net, batch, HOST)]).values()]
    others = {s.workload: {name: max(v) for name, v in s.space.items()} for s in steps}
    first, second = steps
    write(tmp_path, record(first, decisions=others[first.workload]))
    fast = compile_network(net, batch, schedule="tuned", records=tmp_path)
    assert fast.tuned == (first.workload,)
    assert fast.untuned == (second.workload,)
    x = np.random.default_rng(0).random((batch, 24))
    got, expected = fast(x), net.propagate(x)
    m_bound, v_bound = network_bound(net, x)
    assert (np.abs(got.mean - expected.mean) <= m_bound).all()
    assert (np.abs(got.var - expected.var) <= v_bound).all()
    by_hand = compile_network(net, batch)
    assert by_hand.tuned == by_hand.untuned == ()


def test_records_are_kept_by_workload_and_processor(found, tmp_path):
    _, step = found
    elsewhere = {"mcpu": "z80", "lanes": 4, "registers": 16}
    write(tmp_path, record(step), record(step, trials=20), record(step, processor=elsewhere))
    kept = records.read(records.path(tmp_path, HOST))
    assert sorted(r.trials for r in kept) == [9, 20]
    mine = records.find(step, HOST, tmp_path)
    assert mine is not None
    assert mine.trials == 20
    other = replace(step, workload="another")
    assert records.find(other, HOST, tmp_path) is None
    narrow = targets.Target("host", 4, 16, HOST.llvm)
    assert records.find(step, narrow, tmp_path) is None  # of another processor: as if none


@pytest.mark.parametrize("decisions", [{}, {"rows": 1}, {"rows": 1, "packs": 99}, {"a": 1}])
def test_a_record_that_does_not_fit(found, tmp_path, decisions):
    _, step = found
    file = write(tmp_path, record(step, decisions=decisions))
    with pytest.raises(InputError, match="do not fit; expected rows of") as caught:
        compile_network(small(), 3, schedule="tuned", records=tmp_path)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_packaged_record_that_does_not_fit_is_none(found, tmp_path, monkeypatch):
    _, step = found
    monkeypatch.setattr(records, "PACKAGED", tmp_path / "packaged")
    records.PACKAGED.mkdir()
    write(records.PACKAGED, record(step, decisions={"rows": 1, "packs": 99}))
    assert records.find(step, HOST, tmp_path) is None
    by_proxy = record(step, measure="proxy_cycles")
    write(tmp_path, by_proxy)
    assert records.find(step, HOST, tmp_path) == by_proxy
    fast = compile_network(small(), 3, schedule="tuned", records=tmp_path)
    assert fast.tuned == (step.workload,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "\xff",
        '{"version": 2, "records": []}',
        '{"version": 1}',
        '{"version": 1, "records": [1]}',
        '{"version": 1, "records": [{"workload": "dense"}]}',
        '{"version": 1, "records": [{"workload": "w", "processor": {}, "decisions": {"a": "1"}, '
        '"seconds": 1.0, "seconds_by_hand": 1.0, "trials": 1, "tvm": ""}]}',
        '{"version": 1, "records": [{"workload": "w", "processor": {}, "decisions": {}, '
        '"seconds": NaN, "seconds_by_hand": 1.0, "trials": 1, "tvm": ""}]}',
    ],
)
def test_a_corrupt_file_of_records(tmp_path, text, capsys):
    file = tmp_path / "host.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"host\.json"):
        compile_network(small(), 1, schedule="tuned", records=tmp_path)
    model = tmp_path / "m.npz"
    save(model, small())
    call = ["tune", str(model), "--batch-size", "1", "--trials", "1", "--records", str(tmp_path)]
    assert cli.main(call) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"refbnn tune: {file}: ")
    assert error.count("\n") == 1
    assert file.read_text(encoding="latin-1") == text


@pytest.mark.parametrize("file", sorted(records.PACKAGED.glob("*.json")), ids=lambda f: f.stem)
def test_packaged_records_are_of_shipped_networks_and_fit(file):
    # Elsewhere one that does not fit counts as none.
    # Its convolutions are operators of their own where pooling takes entries as independent.
    layers = [
        replace(layer, method="exact") if isinstance(layer, MaxPool2d) else layer
        for layer in lenet5(10)
    ]
    nets = Network(mlp(10)), Network(layers, input_shape=DIGITS)
    found = records.read(file)
    assert found
    (described,) = {json.dumps(one.processor) for one in found}
    sizes = {name: json.loads(described)[name] for name in ("lanes", "registers")}
    cpu = replace(targets.target(file.stem), **sizes)
    batches = {int(re.findall(r"batch (\d+)", one.workload)[0]) for one in found}
    programs = [program(net, batch, cpu) for net in nets for batch in batches]
    steps = {workload: step for workload, (_, step) in tune.workloads(programs).items()}
    for one in found:
        assert records.fits(one.decisions, steps[one.workload].space)
        assert one.cost <= one.cost_by_hand


def test_tune_from_the_command_line(tmp_path, capsys):
    model = tmp_path / "m.npz"
    save(model, small())
    folder = tmp_path / "new" / "records"
    call = ["tune", str(model), "--batch-size", "1", "--trials", "2", "--records", str(folder)]
    assert cli.main(call) == 0
    first = capsys.readouterr()
    assert first.err == ""  # quiet in a pipe
    assert "dense 24x40 batch 1 known variance" in first.out
    assert str(folder / "host.json") in first.out
    content = json.loads((folder / "host.json").read_text())
    assert len(content["records"]) == 2
    assert cli.main([*call, "--json", str(tmp_path / "table.json")]) == 0
    assert capsys.readouterr().out == first.out
    table = json.loads((tmp_path / "table.json").read_text())["operators"]
    decisions = {row["operator"]: row["tuned"]["decisions"] for row in table}
    assert decisions == {r["workload"]: r["decisions"] for r in content["records"]}
    fast = compile_network(small(), 1, schedule="tuned", records=folder)
    assert len(fast.tuned) == 2
    assert fast.untuned == ()


@pytest.mark.usefixtures("heard")
def test_an_interrupt_within_tvm_is_one():
    @tvm_ffi.convert
    def interrupted():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError):  # what TVM makes of it
        interrupted()
    with pytest.raises(KeyboardInterrupt), forward_signals():
        interrupted()
    with pytest.raises(KeyboardInterrupt), forward_signals(), suppress(RuntimeError):
        interrupted()  # taken for the failure of a candidate
    with pytest.raises(ValueError, match="another"), forward_signals():
        raise ValueError("another")
    assert signal.getsignal(signal.SIGINT) is before


def test_another_machine_s_target_is_refused_before_the_work(found, tmp_path):
    alone, step = found
    foreign = replace(alone, target=targets.target("cortex-a72"))
    if not HOST.is_arm:
        with pytest.raises(InputError, match="'cortex-a72' is for aarch64"):
            tune.tune(foreign, step, 4, tmp_path / "r")
        assert not (tmp_path / "r").exists()


@pytest.mark.usefixtures("heard")
def test_an_interrupt_leaves_whole_files(tmp_path):
    model = tmp_path / "m.npz"
    save(model, small())
    call = [sys.executable, "-m", "refbnn", "tune", str(model), "--records", str(tmp_path / "r")]
    run = subprocess.Popen(
        [*call, "--trials", "1", "--batch-size", "3"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        cwd=Path(__file__).parents[3],
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "r" / "host.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)  # as Ctrl-C does: to all of them
    _, error = run.communicate(timeout=30)
    assert run.returncode == 128 + signal.SIGINT
    assert error.decode() == "refbnn tune: interrupted\n"
    assert records.read(tmp_path / "r" / "host.json")
