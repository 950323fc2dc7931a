"""A run that stops and goes on is bit for bit the run that did not stop."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from typing import Any

import numpy as np
import pytest

from refbnn import InputError, Network, load, save, train
from refbnn.layers import Dense, ReLU
from refbnn.noise import Bimodal, Gaussian
from refbnn.prior import GaussianPrior
from refbnn.training.optimise import SCHEDULES
from refbnn.training.run import Training
from tests import ROOT
from tests.helpers.checkpoints import members_of, npy, with_header, write

GAUSSIAN = Gaussian()  # one for all, since it builds its inverse distribution function once
OPTIONS: dict[str, Any] = {"epochs": 5, "batch_size": 4, "seed": 3}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "float64": {"dtype": "float64", "schedule": "linear", "n_samples": 2},
    "validation": {"validation": True, "patience": 4},
    "correlation": {"correlated": [0]},
    "local": {"local": True},
    "one noise": {"likelihood": "gaussian", "validation": True, "outputs": 2},
    "known noise": {"likelihood": "gaussian", "noise_sd": 0.5, "outputs": 2},
    "scaled": {"likelihood": "gaussian", "scale_targets": True},
    "all": {
        "validation": True,
        "correlated": [0, 2],
        "clip_norm": 5.0,
        "kl_warmup": 3,
        "likelihood": "gaussian",
        "law": Bimodal(),
    },
}


def data(n=10, seed=0, regression=False):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 3))
    return x, rng.standard_normal((n, 2)) if regression else rng.integers(0, 4, n)


def build(law=None, correlated=(), prior=None, outputs=4):
    return Network(
        [Dense(3, 4), ReLU(), Dense(4, outputs)],
        law=law or GAUSSIAN,
        prior=prior,
        correlated=correlated,
        seed=1,
    )


def run(path, case, **change):
    """Train one of the cases; returns network and history."""
    case = dict(case)
    net = build(case.pop("law", None), case.pop("correlated", ()), outputs=case.pop("outputs", 4))
    regression = case.get("likelihood") == "gaussian"
    if case.pop("validation", False):
        case["validation"] = data(6, 1, regression)
    history = train(net, *data(regression=regression), checkpoint=path, **OPTIONS | case | change)
    return net, history


def assert_same(ours, theirs):
    (net, history), (other, other_history) = ours, theirs
    assert history == other_history
    for name, p in net.parameters().items():
        np.testing.assert_array_equal(p.mean, other.parameters()[name].mean)
        np.testing.assert_array_equal(p.scale, other.parameters()[name].scale)
    assert (net.noise_sd, net.likelihood) == (other.noise_sd, other.likelihood)
    assert net.correlation.keys() == other.correlation.keys()
    for index, A in net.correlation.items():
        np.testing.assert_array_equal(A, other.correlation[index])
        assert A.any()


class Interrupted(KeyboardInterrupt):
    """Interrupted as by Ctrl-C."""


def stop(number, at_step=None):
    """Callbacks that interrupt after so many epochs, or within the one after them."""
    done = []

    def on_epoch(epoch):
        done.append(epoch)
        if len(done) == number and at_step is None:
            raise Interrupted

    def on_step(step, _):
        if len(done) == number and step == at_step:
            raise Interrupted

    return {"on_epoch": on_epoch, "on_step": on_step}


@pytest.mark.parametrize("at_step", [None, 2])
@pytest.mark.parametrize("name", CASES)
def test_resumed_is_bit_identical(name, at_step, tmp_path):
    """Interrupted twice, between epochs or within one."""
    case = CASES[name]
    whole = run(tmp_path / "whole.npz", case)
    path = tmp_path / "parts.npz"
    with pytest.raises(Interrupted):
        run(path, case, **stop(2, at_step))
    with pytest.raises(Interrupted):
        run(path, case, resume=True, **stop(1, at_step))
    assert len(members_of(path)) > 6  # whole, after either
    resumed = run(path, case, resume=True)
    assert_same(resumed, whole)
    assert path.read_bytes()[:4] == b"PK\x03\x04"
    contents = [members_of(p) for p in (path, tmp_path / "whole.npz")]
    assert contents[0] == contents[1]
    # The file holds the network that training ends with, the best one where there is validation.
    loaded = load(path)
    assert_same((loaded, resumed[1]), resumed)


@pytest.mark.parametrize("name", CASES)
def test_a_finished_run_stays_as_it_is(name, tmp_path):
    first = run(tmp_path / "net.npz", CASES[name])
    before = members_of(tmp_path / "net.npz")
    called: list = []
    again = run(tmp_path / "net.npz", CASES[name], resume=True, on_epoch=called.append)
    assert_same(again, first)
    assert not called
    assert members_of(tmp_path / "net.npz") == before


def test_a_run_that_stopped_early_stays_stopped(tmp_path):
    case = {"validation": True, "patience": 1, "epochs": 40, "learning_rate": 0.2}
    first = run(tmp_path / "net.npz", case)
    assert len(first[1]) < 40
    best = min(first[1], key=lambda epoch: epoch.validation)
    assert best.number == len(first[1]) - 1
    assert_same(run(tmp_path / "net.npz", case, resume=True), first)


def test_resume_without_a_file_begins(tmp_path):
    assert_same(run(tmp_path / "a.npz", {}, resume=True), run(tmp_path / "b.npz", {}))
    with pytest.raises(InputError, match="resume without a checkpoint"):
        run(None, {}, resume=True)


def test_without_resume_a_file_is_kept(tmp_path):
    run(tmp_path / "net.npz", {"seed": 9})
    before = (tmp_path / "net.npz").read_bytes()
    with pytest.raises(InputError, match="already exists: continue it with resume=True"):
        run(tmp_path / "net.npz", {})
    assert (tmp_path / "net.npz").read_bytes() == before


CHANGES: dict[str, dict[str, Any]] = {
    "batch_size": {"batch_size": 5},
    "learning_rate": {"learning_rate": 1e-3},
    "schedule": {"schedule": "constant"},
    "n_samples": {"n_samples": 2},
    "local": {"local": True},
    "kl_warmup": {"kl_warmup": 1},
    "clip_norm": {"clip_norm": 1.0},
    "dtype": {"dtype": "float64"},
    "seed": {"seed": 4},
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_options_are_refused_by_name(name, tmp_path):
    run(tmp_path / "net.npz", {})
    with pytest.raises(InputError, match=rf"run began with different options \({name}\)"):
        run(tmp_path / "net.npz", {}, resume=True, **CHANGES[name])


@pytest.mark.parametrize("name", ["validation", "correlation", "one noise"])
def test_a_finished_run_goes_on_for_more_epochs(name, tmp_path):
    """With a constant rate, which knows no end: bit for bit the longer run, best epoch and all."""
    case = CASES[name] | {"schedule": "constant"}
    whole = run(tmp_path / "whole.npz", case, epochs=7)
    run(tmp_path / "net.npz", case, epochs=3)
    longer = run(tmp_path / "net.npz", case, epochs=7, resume=True)
    assert_same(longer, whole)
    assert members_of(tmp_path / "net.npz") == members_of(tmp_path / "whole.npz")


def test_a_finished_run_goes_on_with_its_own_noise_not_the_best_one(tmp_path, monkeypatch):
    """The best epoch is not the last: the network has its noise, the run that of the last."""
    score = Training._score

    def rising(training, x, y, epoch):
        return epoch + 0.0 * score(training, x, y, epoch)

    monkeypatch.setattr(Training, "_score", rising)
    case = CASES["one noise"] | {"schedule": "constant", "dtype": "float64", "learning_rate": 0.05}
    whole = run(tmp_path / "whole.npz", case, epochs=7)
    first = run(tmp_path / "first.npz", case, epochs=1)
    short = run(tmp_path / "net.npz", case, epochs=3)
    assert whole[0].noise_sd == short[0].noise_sd == first[0].noise_sd  # that of epoch 1
    longer = run(tmp_path / "net.npz", case, epochs=7, resume=True)
    assert_same(longer, whole)
    assert members_of(tmp_path / "net.npz") == members_of(tmp_path / "whole.npz")


def state(net):
    """All attributes of a network, arrays as lists."""
    posteriors = {n: (p.mean.tolist(), p.scale.tolist()) for n, p in net.parameters().items()}
    factors = {index: A.tolist() for index, A in net.correlation.items()}
    others = {k: v for k, v in vars(net).items() if k not in ("_posteriors", "correlation")}
    return others | {"layers": list(net.layers)}, posteriors, factors


def trained_elsewhere():
    """A classifier of known data, with a variance factor."""
    net = build(correlated=[0], outputs=2)
    train(net, data()[0], data()[1] % 2, trained_on=("digits", "01"), epochs=1)
    return net.with_variance_factor(2.0)


@pytest.mark.parametrize("fails", ["checkpoint exists", "other run", "targets", "epoch 1", "state"])
def test_a_training_that_fails_leaves_the_network_as_it_was(fails, tmp_path):
    path, net = tmp_path / "net.npz", trained_elsewhere()
    x, y = data(regression=True)
    options = OPTIONS | {"likelihood": "gaussian", "scale_targets": True}
    if fails == "state":
        train(trained_elsewhere(), x, y, checkpoint=path, **options)
        with_header(path, entry(history=7))
    elif fails in ("checkpoint exists", "other run"):
        run(path, {})
    elif fails == "targets":
        y = np.ones_like(y)
    else:
        options |= {"learning_rate": 1e38}
    before = state(net)
    with pytest.raises(InputError):
        train(net, x, y, checkpoint=path, resume=fails in ("other run", "state"), **options)
    assert state(net) == before
    assert (net.likelihood, net.trained_on) == ("categorical", ("digits", "01"))


def test_the_name_of_the_data_is_that_of_the_last_training(tmp_path):
    path = tmp_path / "net.npz"
    net, _ = run(path, {}, trained_on=("digits", "01"))
    assert net.trained_on == load(path).trained_on == ("digits", "01")
    resumed, _ = run(path, {}, resume=True, epochs=6)  # without the name, which the file has
    assert resumed.trained_on == load(path).trained_on == ("digits", "01")
    train(resumed, *data(seed=1), **OPTIONS)
    assert resumed.trained_on is None  # not the data of its first training


def test_the_schedule_is_that_of_the_new_number_of_epochs(tmp_path, monkeypatch):
    """The factor depends on epochs done over all epochs, from the next step on."""
    progress: list[float] = []

    def linear(s):
        progress.append(s)
        return 1.0 - s

    monkeypatch.setitem(SCHEDULES, "linear", linear)
    run(tmp_path / "net.npz", {"schedule": "linear"}, epochs=2)
    progress.clear()
    run(tmp_path / "net.npz", {"schedule": "linear"}, epochs=4, resume=True)
    np.testing.assert_allclose(progress, (2 + np.arange(6) / 3) / 4, rtol=1e-15)  # 3 steps each


def test_fewer_epochs_than_are_done_are_refused(tmp_path):
    run(tmp_path / "net.npz", {})
    with pytest.raises(InputError, match="has 5 epochs already; expected at least as many, not 4"):
        run(tmp_path / "net.npz", {}, resume=True, epochs=4)


def test_other_data_are_refused(tmp_path):
    path = tmp_path / "net.npz"
    run(path, {"validation": True})
    x, y = data()
    held = data(6, 1)
    other = x.copy()
    other[0, 0] = np.nextafter(np.float32(other[0, 0]), np.float32(9))
    for given in (
        {"x": other, "y": y, "validation": held},
        {"x": x, "y": (y + 1) % 4, "validation": held},
        {"x": x[::-1], "y": y, "validation": held},
        {"x": x, "y": y, "validation": data(6, 2)},
        {"x": x, "y": y},
    ):
        with pytest.raises(InputError, match="run began with different data; resume"):
            train(build(), **given, checkpoint=path, resume=True, **OPTIONS)


def test_other_networks_are_refused_by_name_and_left_alone(tmp_path):
    path = tmp_path / "net.npz"
    run(path, {})
    others = {
        "layers": Network([Dense(3, 5), ReLU(), Dense(5, 4)]),
        "law": build(Bimodal()),
        "prior": build(prior=GaussianPrior(0.5)),
        "correlated": build(correlated=[2]),
    }
    for name, net in others.items():
        before = net.parameters()
        with pytest.raises(InputError, match=rf"run began with different network \({name}\)"):
            train(net, *data(), checkpoint=path, resume=True, **OPTIONS)
        for kept, p in zip(before.values(), net.parameters().values(), strict=True):
            np.testing.assert_array_equal(p.mean, kept.mean)


def test_a_network_alone_is_no_run(tmp_path):
    save(tmp_path / "net.npz", build())
    with pytest.raises(InputError, match="holds a network without a run of training"):
        run(tmp_path / "net.npz", {}, resume=True)


def entry(**values):
    return lambda header: header["run"].update(values)


def without(name):
    return lambda header: header | {"run": {k: v for k, v in header["run"].items() if k != name}}


@pytest.mark.parametrize(
    "change",
    [
        without("random_state"),
        without("history"),
        entry(random_state=None),
        entry(random_state={"bit_generator": "MT19937"}),
        entry(random_state={"bit_generator": "PCG64", "state": {"state": -1, "inc": 1}}),
        entry(random_state={"bit_generator": "PCG64", "state": {"state": 2**200, "inc": 1}}),
        entry(history=7),
        entry(history=[{}]),
        entry(history=[{"nll": "x", "kl": 1, "kl_weight": 1, "validation": None}]),
        entry(adam_steps=-1),
        entry(adam_steps=None),
        entry(adam_steps=float("inf")),
        entry(adam_steps=10**400),  # no float: the first step would overflow
        entry(adam_steps=2**53 + 1),
        entry(best={"epoch": "x", "score": 1}),
        entry(best={"epoch": 1, "score": float("nan")}),
        entry(best=7),
        entry(best={}),
        entry(best={"epoch": 1, "score": float("nan"), "noise_sd": None}),
        entry(best={"epoch": 1, "score": float("inf"), "noise_sd": None}),
        entry(history=[{"nll": float("nan"), "kl": 1, "kl_weight": 1, "validation": 1}]),
        entry(history=[{"nll": 1, "kl": 1, "kl_weight": 1, "validation": float("nan")}]),
    ],
)
def test_hostile_runs_are_refused(change, tmp_path):
    path = tmp_path / "net.npz"
    run(path, {"validation": True})
    with_header(path, change)
    # NaN and Infinity are no JSON: the header cannot be read at all.
    message = r"its run is incomplete; expected all of its state|not JSON \(holds"
    with pytest.raises(InputError, match=message):
        run(path, {"validation": True}, resume=True)


@pytest.mark.parametrize("name", ["adam/m/mean", "adam/p/rho", "best/mean"])
def test_missing_or_wrong_arrays_of_a_run_are_refused(name, tmp_path):
    path = tmp_path / "net.npz"
    run(path, {"validation": True})
    members = members_of(path)
    write(path, {n: b for n, b in members.items() if n != f"{name}.npy"})
    with pytest.raises(InputError, match=f"{name} is missing"):
        run(path, {"validation": True}, resume=True)
    write(path, members | {f"{name}.npy": npy(np.zeros(36))})  # float64
    with pytest.raises(InputError, match=rf"{name}: <f8 of shape \(36,\); expected <f4"):
        run(path, {"validation": True}, resume=True)


@pytest.mark.parametrize("name", ["adam/m/mean", "adam/v/mean", "adam/p/rho", "best/mean"])
def test_arrays_of_a_run_that_are_not_finite_are_refused(name, tmp_path):
    path = tmp_path / "net.npz"
    run(path, {"validation": True})
    wrong = np.frombuffer(members_of(path)[f"{name}.npy"][-4 * 36 :], np.float32).copy()
    for value in (np.nan, np.inf, *([-1.0] if name == "adam/v/mean" else [])):
        wrong[3] = value
        write(path, members_of(path) | {f"{name}.npy": npy(wrong)})
        with pytest.raises(InputError, match="its run is incomplete; expected all of its state"):
            run(path, {"validation": True}, resume=True)


@pytest.mark.parametrize("noise_sd", [None, [], [1.0], [1.0, 0.0], [1.0, float("nan")], "ab"])
def test_a_hostile_noise_of_a_run_is_refused(noise_sd, tmp_path):
    path = tmp_path / "net.npz"
    run(path, CASES["one noise"])
    with_header(path, entry(noise_sd=noise_sd))
    # NaN is no JSON: the header cannot be read at all.
    message = r"its run is incomplete; expected all of its state|not JSON \(holds NaN"
    with pytest.raises(InputError, match=message):
        run(path, CASES["one noise"], resume=True)


KILLED = """
import sys, time
sys.path.insert(0, sys.argv[2])
from tests.refbnn.training.test_resume import run
def on_step(number, steps):
    print("step", flush=True)
    time.sleep(0.02)
run(sys.argv[1], {"validation": True, "kl_warmup": 2}, resume=True, epochs=12, on_step=on_step)
print("done", flush=True)
"""


def test_killed_runs_go_on(tmp_path):
    """SIGKILL at some steps, wherever each catches the process; the file is whole every time."""
    path, case = tmp_path / "net.npz", {"validation": True, "kl_warmup": 2, "epochs": 12}
    whole = run(tmp_path / "whole.npz", case)
    finished = False
    for steps in (7, 12):  # 3 an epoch
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path), str(ROOT)],
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            for _ in range(steps):
                assert process.stdout.readline() == "step\n"
            time.sleep(0.003 * steps)
            os.kill(process.pid, signal.SIGKILL)
            finished = "done" in process.stdout.read()
        assert not finished
        assert process.returncode == -signal.SIGKILL
        assert zipfile.is_zipfile(path)
        load(path)
    assert_same(run(path, case, resume=True), whole)
