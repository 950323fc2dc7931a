"""Commands on a user's own data: two classes, one logit, regressions, images; and what they say."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from refbnn import Network, load, predict, save
from refbnn.cli.output import Lines
from refbnn.data import load as load_data
from refbnn.layers import Dense, Normalise, ReLU
from refbnn.noise import Bimodal, save_law
from refbnn.prediction.predict import predict_targets
from refbnn.prior import GaussianPrior
from tests.helpers.command import run


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def two_classes(n=120, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 3))
    return x, (x[:, 0] > 0).astype(int)


def write(name="own.npz", targets=False):
    x, y = two_classes()
    y = 5000.0 + 300.0 * x[:, 0] + 30.0 * x[:, 1] ** 3 if targets else y
    np.savez(name, x=x[:80], y=y[:80], x_test=x[80:], y_test=y[80:])
    return x[80:], y[80:]


def start(outputs=2):
    """A small network in a file."""
    net = Network([Dense(3, 4), ReLU(), Dense(4, outputs)], prior=GaussianPrior(2.0), seed=0)
    save("start.npz", net)
    return net


TRAIN = ["train", "--data", "own.npz", "-o", "m.npz", "--learning-rate", 0.05, "--batch-size", 20]


def test_two_classes_from_one_logit(capsys):
    x, y = write()
    start(outputs=1)
    code, out, err = run(capsys, *TRAIN, "--start", "start.npz", "--epochs", 20)
    assert (code, err) == (0, "")
    assert (
        "begun with start.npz, 21 weights, trained on own.npz (x, y of own.npz), 2 classes" in out
    )
    net = load("m.npz")
    assert (net.likelihood, net.prior) == ("bernoulli", GaussianPrior(2.0))
    for words in (
        ["evaluate", "--id", "own.npz"],
        ["compare", "--id", "own.npz", "--samples", 200],
        ["calibrate", "--data", "own.npz", "--validation", 0.5],
        ["diagnose", "--data", "own.npz", "--samples", 0],
    ):
        code, out, err = run(capsys, words[0], "m.npz", *words[1:], "--json", "n.json")
        assert code in ((0, 1) if words[0] == "compare" else (0,)), words
        assert "warning" not in err
        assert json.loads(Path("n.json").read_text())
    assert predict(net, x).accuracy(y) > 0.8
    np.save("x.npy", x)
    code, out, err = run(capsys, "predict", "m.npz", "x.npy", "--probabilities", "--json", "p.json")
    assert (code, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    both = [[float(row[f"probability_{c}"]) for c in range(2)] for row in rows]
    np.testing.assert_array_equal(both, predict(net, x).probabilities)
    numbers = json.loads(Path("p.json").read_text())
    assert [{k: str(v) for k, v in row.items()} for row in numbers["rows"]] == rows


@pytest.mark.parametrize("noise", [[], ["--noise-sd", 40], ["--noise-sd", "learned"]])
def test_own_targets_are_answered_in_their_unit(capsys, noise):
    x, y = write(targets=True)
    start(outputs=1 if noise else 2)
    code, _, err = run(capsys, *TRAIN, "--start", "start.npz", "--epochs", 60, *noise)
    assert (code, err) == (0, "")
    net = load("m.npz")
    assert isinstance(net.layers[-1], Normalise)
    assert (net.noise_sd == (40.0,)) == (noise == ["--noise-sd", 40])
    found = predict_targets(net, x, 1)
    assert np.sqrt(np.mean((found.mean[:, 0] - y) ** 2)) < y.std() / 2
    code, _, err = run(capsys, "evaluate", "m.npz", "--id", "own.npz", "--json", "e.json")
    assert (code, err) == (0, "")
    measures = json.loads(Path("e.json").read_text())["by_method"]["pfp"]
    assert measures["rmse"] == pytest.approx(np.sqrt(np.mean((found.mean[:, 0] - y) ** 2)))
    np.save("x.npy", x)
    code, out, err = run(capsys, "predict", "m.npz", "x.npy")  # without --targets: as trained
    assert (code, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [float(row["mean_0"]) for row in rows] == found.mean[:, 0].tolist()
    code, out, err = run(capsys, "predict", "m.npz", "x.npy", "--probabilities")
    assert (code, out) == (2, "")
    assert "--probabilities with a regression" in err


def test_a_start_takes_the_scale_of_other_targets(capsys):
    x, y = write(targets=True)
    start()
    words = [*TRAIN, "--epochs", 60]
    assert run(capsys, *words, "--start", "start.npz")[0] == 0
    with np.load("own.npz") as arrays:
        np.savez("own.npz", x=arrays["x"], y=arrays["y"] / 1e6)
    code, _, err = run(capsys, *words, "--start", "m.npz", "-o", "other.npz")
    assert (code, err) == (0, "")
    found = predict_targets(load("other.npz"), x, 1)
    assert np.sqrt(np.mean((found.mean[:, 0] - y / 1e6) ** 2)) < y.std() / 2e6
    assert load("other.npz").trained_on == ("own.npz", load_data("own.npz", "train").fingerprint)


def test_the_energy_score_takes_standardised_targets(capsys):
    write(targets=True)
    start(outputs=1)
    words = [*TRAIN, "--start", "start.npz", "--epochs", 1, "--likelihood", "energy"]
    words += ["--n-samples", 2]
    code, out, err = run(capsys, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "own.npz have means up to 4" in err
    assert "expected standardised ones" in err
    with np.load("own.npz") as arrays:
        y = arrays["y"]
        np.savez("own.npz", x=arrays["x"], y=(y - y.mean()) / y.std())
    assert run(capsys, *words)[0] == 0
    assert load("m.npz").likelihood == "energy"


def test_a_noise_is_learned_where_it_is_shared_alone(capsys):
    learned = ["--noise-sd", "learned", "--start", "start.npz", "--epochs", 1]
    start()
    write()
    code, _, err = run(capsys, *TRAIN, *learned)
    assert (code, err.count("\n")) == (2, 1)
    assert "--noise-sd learned with the likelihood 'categorical'; expected 'gaussian'" in err
    write(targets=True)
    code, _, err = run(capsys, *TRAIN, *learned)
    assert (code, err.count("\n")) == (2, 1)
    assert "--noise-sd learned: the network has outputs (2,) for 1 targets" in err
    assert not Path("m.npz").exists()


def test_a_regression_of_unknown_shape_asks_for_the_number_of_targets(capsys):
    net = Network([ReLU(), Dense(3, 2)], seed=0)
    net.likelihood = "gaussian"
    save("m.npz", net)
    np.save("x.npy", np.ones((2, 3)))
    code, out, err = run(capsys, "predict", "m.npz", "x.npy")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "expected --targets N" in err
    assert run(capsys, "predict", "m.npz", "x.npy", "--targets", 1)[0] == 0


def test_a_correlated_layer_is_counted_without_normalise(capsys):
    write()
    words = [*TRAIN, "--arch", "mlp", "--epochs", 1, "--normalise", 0, 2]
    assert run(capsys, *words, "--correlated", 4)[0] == 0
    net = load("m.npz")
    assert list(net.correlation) == [5]
    assert net.layers[5].parameter_shapes()["weight"][0] == 2  # the last of the architecture
    code, out, err = run(capsys, *words, "-o", "n.npz", "--correlated", 5)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--correlated 5: expected the index of a layer with weights, one of 0, 2, 4" in err


def test_a_start_keeps_its_law_and_prior_unless_others_are_named(capsys):
    write()
    start()
    law = Bimodal()
    save_law("law.json", law)
    words = ["--noise", "law.json", "--prior", "laplace:1", "--epochs", "1"]
    assert run(capsys, *TRAIN, "--start", "start.npz", *words)[0] == 0
    net = load("m.npz")
    assert net.law == law
    assert type(net.prior).__name__ == "LaplacePrior"
    assert net.likelihood == "categorical"
    for words, said in (
        (["--arch", "mlp"], "expected either --arch NAME or --start MODEL.npz"),
        (["--correlated", "0"], "--correlated is for a new network"),
        (["--normalise", "0", "1"], "--normalise is for a new network"),
    ):
        code, out, err = run(capsys, *TRAIN, "--start", "start.npz", *words, "--resume")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert said in err


def test_a_network_meets_other_data(capsys):
    x, _ = write()
    start()
    assert run(capsys, *TRAIN, "--start", "start.npz", "--epochs", 1)[0] == 0
    evaluate = ["evaluate", "m.npz", "--method", "pfp", "--id"]
    assert run(capsys, *evaluate, "own.npz")[2] == ""
    x, y = two_classes()
    np.savez("again.npz", x=x[:80], y=y[:80])  # the training split alone, under another name
    np.savez("other.npz", x=x + 0.1, y=y)
    np.savez("three.npz", x=x[:3], y=[0, 1, 2])
    for name, said in (
        ("again.npz", "these are the examples that m.npz was trained on"),
        ("other.npz", "m.npz was trained on own.npz, not on other.npz"),
    ):
        code, _, err = run(capsys, *evaluate, name)
        assert (code, err.count("\n")) == (0, 1)
        assert f"refbnn evaluate: warning: {said}" in err.replace("x, y of again.npz: ", "")
    Path("own.npz").rename("moved.npz")
    assert run(capsys, *evaluate, "moved.npz")[2] == ""
    Path("moved.npz").rename("own.npz")
    np.savez("own.npz", x=x + 0.1, y=y)
    assert "other examples than own.npz holds now" in run(capsys, *evaluate, "own.npz")[2]
    code, out, err = run(capsys, *evaluate, "three.npz")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "expected 3 classes, as three.npz has" in err


@pytest.mark.parametrize("command", ["train", "evaluate", "compare", "calibrate", "diagnose"])
def test_channels_last_are_refused(capsys, command):
    np.savez("own.npz", x=np.zeros((6, 8, 8, 3), np.uint8), y=np.arange(6) % 2)
    save("m.npz", Network([Dense(192, 2)]))
    words = {
        "train": ["--arch", "mlp", "-o", "n.npz", "--data", "own.npz"],
        "evaluate": ["m.npz", "--id", "own.npz"],
        "compare": ["m.npz", "--id", "own.npz"],
        "calibrate": ["m.npz", "--data", "own.npz"],
        "diagnose": ["m.npz", "--data", "own.npz"],
    }[command]
    code, out, err = run(capsys, command, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "expected (6, 3, 8, 8): transpose with (0, 3, 1, 2)" in err
    assert sorted(path.name for path in Path().iterdir()) == ["m.npz", "own.npz"]


def test_rows_are_no_images_and_targets_no_classes(capsys):
    write(targets=True)
    for words, said in (
        ([*TRAIN, "--arch", "lenet5"], "--arch lenet5 takes images"),
        ([*TRAIN, "--arch", "mlp", "--likelihood", "bernoulli"], "targets of a regression"),
        (["data", "show", "own.npz", "-o", "p.png"], "expected images of one or three channels"),
    ):
        code, out, err = run(capsys, *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert said in err


@pytest.mark.parametrize("command", ["evaluate", "compare", "calibrate", "diagnose", "predict"])
def test_huge_inputs_are_one_line(capsys, command):
    """Warnings of NumPy are errors in these tests; that of the range joins the error."""
    x = np.linspace(1e299, 1e300, 18).reshape(6, 3)
    np.savez("own.npz", x=x, y=np.arange(6) % 2)
    np.save("x.npy", x)
    net = start()
    net.input_range = (0.0, 1.0)
    save("start.npz", net)
    words = {
        "calibrate": ["--data", "own.npz", "--validation", "0.5"],
        "diagnose": ["--data", "own.npz"],
        "predict": ["x.npy"],
    }.get(command, ["--id", "own.npz"])
    code, out, err = run(capsys, command, "start.npz", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "trained on 0 to 1: expected inputs on the same scale" in err


def test_lines_of_progress_come_now_and_then(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    lines = Lines(True)
    for second in (0.5, 1.0, 1.5, 2.0):
        now[0] = 100.0 + second
        lines.say(1.0, f"at {second}")
    Lines(False).say(0.0, "a bar is there")
    assert capsys.readouterr().out == "at 1.0\nat 2.0\n"


def test_a_piped_training_prints_as_it_goes(capsys, monkeypatch):
    """Every epoch here, as the interval is 0."""
    monkeypatch.setattr("refbnn.cli.train._EPOCH_LINES", 0.0)
    write()
    start()
    _, out, _ = run(capsys, *TRAIN, "--start", "start.npz", "--epochs", 3)
    lines = [line for line in out.splitlines() if line.startswith("epoch ")]
    assert [line.split(":")[0] for line in lines] == [f"epoch {n} of 3" for n in (1, 2, 3)]
    assert "NLL" in lines[0]


def test_answers_that_look_wrong_are_named(capsys):
    x, labels = two_classes()
    start(outputs=3)
    np.savez("own.npz", x=x, y=2 * labels)
    code, _, err = run(capsys, *TRAIN, "--start", "start.npz", "--epochs", 1)
    assert (code, err) == (
        0,
        "refbnn train: warning: own.npz: 3 classes, of which 1 never occur\n",
    )
    np.savez("own.npz", x=x, y=labels.astype(float))
    start(outputs=2)
    code, _, err = run(capsys, *TRAIN[:-5], "f.npz", "--start", "start.npz", "--epochs", 1)
    assert code == 0
    assert "warning: own.npz: y holds 2 whole numbers as floats" in err


def test_a_network_of_classes_is_not_trained_on_targets(capsys):
    x, labels = two_classes()
    net = start(outputs=2)
    net.likelihood = "categorical"
    save("start.npz", net)
    write(targets=True)
    code, _, err = run(capsys, *TRAIN, "--start", "start.npz")
    assert code == 2
    assert "start.npz was trained on classes; expected a data set of classes, not own.npz" in err
    np.savez("own.npz", x=x, y=labels)
    code, _, err = run(capsys, *TRAIN, "--arch", "mlp", "--likelihood", "gaussian")
    assert code == 2
    assert "own.npz holds classes; expected categorical or bernoulli" in err
