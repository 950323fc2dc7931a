import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refbnn import InputError, Network, load, predict, save
from refbnn.data import load as load_data
from refbnn.data import packaged, read_idx
from refbnn.network.architectures import architecture_named
from refbnn.noise import DeviceLaw, load_law, save_law
from refbnn.prior import LaplacePrior
from refbnn.training.data import held_out
from tests.helpers.command import run

IMAGES = packaged("mnist-subset-test-images-idx3-ubyte.gz")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def train(capsys, *words, arch="mlp", data="mnist-subset", out="m.npz"):
    return run(capsys, "train", "--arch", arch, "--data", data, "-o", out, *words)


def test_train_evaluate_and_predict(capsys, tmp_path):
    save_law("law.json", DeviceLaw(-0.5, 0.5, (0.3,)))
    code, out, err = train(
        capsys, "--noise", "law.json", "--prior", "laplace:0.1", "--epochs", 3, "--json", "t.json"
    )
    assert (code, err) == (0, "")
    assert "89610 weights" in out
    epochs = json.loads((tmp_path / "t.json").read_text())["epochs"]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3]
    assert epochs[2]["nll_nats"] < epochs[0]["nll_nats"]
    net = load("m.npz")
    assert net.law == load_law("law.json")[0]
    assert net.prior == LaplacePrior(0.1)

    words = ["evaluate", "m.npz", "--id", "mnist-subset", "--ood", "fashion-subset"]
    code, out, err = run(capsys, *words, "--json", "e.json", "--samples", 10)
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["PFP", "SVI"]
    numbers = json.loads((tmp_path / "e.json").read_text())["by_method"]
    assert set(numbers) == {"pfp", "svi"}
    for measures in numbers.values():
        assert measures["accuracy"] > 0.8  # a linear classifier has 0.87 with so few digits
        assert measures["auroc_mutual_information"] > 0.5
        assert measures["log_score_nats"] < np.log(10.0)

    assert run(capsys, "predict", "m.npz", IMAGES, "-o", "p.csv") == (0, "", "")
    with open("p.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    x, y = read_idx(IMAGES) / 255, load_data("mnist-subset", "test").y
    expected = predict(net, net.shaped(x), method="pfp").probabilities.max(axis=-1)
    got = [float(row["probability"]) for row in rows]
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    labels = np.array([int(row["label"]) for row in rows])
    assert np.mean(labels == y) == pytest.approx(numbers["pfp"]["accuracy"], abs=0.02)
    for row in rows:
        parts = float(row["aleatoric_nats"]) + float(row["mutual_information_nats"])
        assert float(row["entropy_nats"]) == pytest.approx(parts, abs=1e-9)


def test_a_regression_with_learned_variance(capsys):
    code, _, err = train(capsys, "--epochs", 5, data="rotated-mnist-subset")
    assert (code, err) == (0, "")
    code, out, err = run(capsys, "evaluate", "m.npz", "--id", "rotated-mnist-subset")
    assert (code, err) == (0, "")
    rmse = float(next(line.split()[1] for line in out.splitlines() if line.startswith("rmse")))
    assert rmse < 0.5  # angles are uniform in [−1, 1]: 0.577 without looking
    code, out, err = run(capsys, "predict", "m.npz", IMAGES, "--targets", 1, "--method", "svi")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "index,mean_0,epistemic_sd_0,aleatoric_sd_0"
    assert len(out.splitlines()) == 1001


def test_a_picture_is_never_on_both_sides_of_validation():
    """Ambiguous digits come ten times each, with other labels."""
    pictures = np.random.default_rng(0).random((50, 1, 4, 4)).astype(np.float32)
    x = np.repeat(pictures, 10, axis=0)
    held = held_out(x, 0.2, seed=3)
    assert held.sum() == 100
    assert not set(map(bytes, x[held])) & set(map(bytes, x[~held]))
    assert not np.array_equal(held, held_out(x, 0.2, seed=4))
    for share in (0.0, 1.0, 0.001, np.nan):
        with pytest.raises(InputError, match="validation share"):
            held_out(x, share, seed=3)


def test_faces_train_every_architecture(capsys, tmp_path):
    """Images of three channels, 32 by 32."""
    rng = np.random.default_rng(0)
    for n in range(20):
        pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{20 + n}_0_0_2017010{n % 10}.jpg")
    for arch in ("mlp", "lenet5", "vgg7", "narrow12"):
        code, _, err = train(
            capsys, "--epochs", 1, arch=arch, data=f"utkface:{tmp_path}", out=f"{arch}.npz"
        )
        assert (code, err) == (0, ""), arch
        assert load(f"{arch}.npz").output_shape == (2,)


def test_early_stopping_and_correlated_layer(capsys):
    words = ["--validation", 0.2, "--patience", 1, "--learning-rate", 0.05, "--correlated", 4]
    code, out, err = train(capsys, *words, "--epochs", 30)
    assert (code, err) == (0, "")
    assert "validation" in out
    assert not np.all(load("m.npz").correlation[4] == 0.0)
    code, _, err = run(capsys, "evaluate", "m.npz", "--id", "mnist-subset", "--method", "pfp")
    assert code == 2
    assert "correlated weights" in err
    code, out, err = run(
        capsys, "evaluate", "m.npz", "--id", "mnist-subset", "--method", "svi", "--samples", 2
    )
    assert (code, err) == (0, "")


def test_a_killed_run_goes_on_as_if_it_had_not_been(capsys):
    """SIGKILL in the middle of an epoch; the weights at the end are those of a run left alone."""
    words = ["--epochs", "12", "--batch-size", "64"]
    assert train(capsys, *words, out="whole.npz")[0] == 0
    program = "import sys; from refbnn import cli; sys.exit(cli.main())"
    command = [sys.executable, "-c", program, "train", "--arch", "mlp"]
    command += ["--data", "mnist-subset", "-o", "killed.npz", *words]
    with subprocess.Popen(command, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}) as process:
        while not os.path.exists("killed.npz") and process.poll() is None:
            time.sleep(0.005)
        time.sleep(0.05)  # an epoch takes about 0.2 s
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    load("killed.npz")
    assert train(capsys, *words, "--resume", out="killed.npz")[0] == 0
    whole, killed = load("whole.npz").parameters(), load("killed.npz").parameters()
    for name, posterior in whole.items():
        np.testing.assert_array_equal(killed[name].mean, posterior.mean)
        np.testing.assert_array_equal(killed[name].scale, posterior.scale)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--arch", "alexnet"], "architecture 'alexnet'; expected one of mlp, lenet5"),
        (["--data", "imagenet"], "imagenet: no data set of that name"),
        (["-o", "m.txt"], "ends in .npz"),
        (["-o", "absent/m.npz"], "not writable"),
        (["--prior", "cauchy:1"], "expected one of gaussian, laplace"),
        (["--prior", "student:1"], "expected student:DOF,SCALE"),
        (["--prior", "gaussian:0"], "expected a finite number above 0"),
        (["--noise", "absent.json"], "absent.json"),
        (["--learning-rate", "-1"], "--learning-rate is -1.0"),
        (["--schedule", "steps"], "expected one of constant, linear, cosine"),
        (["--likelihood", "poisson"], "expected one of categorical, bernoulli, gaussian"),
        (["--likelihood", "gaussian"], "holds classes; expected categorical or bernoulli"),
        (["--likelihood", "energy"], "holds classes; expected categorical or bernoulli"),
        (["--likelihood", "bernoulli"], "mnist-subset has 10 classes; expected 2"),
        (["--noise-sd", "0.5"], "--noise-sd with the likelihood 'categorical'"),
        (["--noise-sd", "none"], "expected a number above 0, or learned"),
        (["--kl-warmup", "3"], "--kl-warmup is 3; expected less than epochs, 1"),
        (["--start", "a.npz"], "either --arch NAME or --start MODEL.npz"),
        (["--validation", "1.5"], "validation share is 1.5"),
        (["--patience", "3"], "without validation data"),
        (["--correlated", "1"], "layer with weights"),
        (["--correlated", "0"], "expected at most 4096"),
        (["--local", "--correlated", "4"], "local reparameterisation"),
    ],
)
def test_bad_calls_are_one_line(capsys, words, said):
    code, out, err = train(capsys, "--epochs", 1, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert not list(filter(os.path.isfile, os.listdir()))


def test_a_finished_checkpoint_is_not_overwritten(capsys):
    assert train(capsys, "--epochs", 1)[0] == 0
    before = Path("m.npz").read_bytes()
    for words, said in (
        ([], "m.npz already exists: continue it with --resume"),
        (["--resume", "--epochs", 1, "--batch-size", 9], "different options (--batch-size)"),
        (["--resume", "--epochs", 1, "--prior", "laplace:1"], "different network (prior)"),
        (["--resume", "--epochs", 1, "--validation", 0.1], "different data"),
    ):
        code, out, err = train(capsys, *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert said in err
        assert Path("m.npz").read_bytes() == before
    code, out, _ = train(capsys, "--resume", "--epochs", 1)
    assert code == 0
    assert "m.npz: 1 of 1 epochs are done; a greater --epochs makes the run longer" in out


def test_a_finished_run_is_made_longer(capsys, tmp_path):
    assert train(capsys, "--epochs", 1)[0] == 0
    code, out, err = train(capsys, "--epochs", 2, "--resume", "--json", "t.json")
    assert (code, err) == (0, "")
    # The cosine schedule at half of its way: ½(1 + cos π/2) of 2e-3.
    assert "1 of 1 epochs are done; it goes on to 2, with the cosine schedule of 2 epochs" in out
    assert "learning rate 0.001 in epoch 2" in out
    assert len(json.loads((tmp_path / "t.json").read_text())["epochs"]) == 2
    code, out, err = train(capsys, "--epochs", 1, "--resume")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "has 2 epochs already" in err


def test_bad_models_and_inputs(capsys):
    architecture = architecture_named("mlp")
    save("m.npz", Network(architecture.layers(10)))
    np.save("short.npy", np.zeros((2, 783)))
    np.save("nan.npy", np.full((2, 784), np.nan))
    np.save("objects.npy", np.array([[{}]]), allow_pickle=True)
    Path("text.npy").write_text("not an array")
    Path("archive.npy").write_bytes(Path("m.npz").read_bytes())
    for words, said in (
        (["predict", "absent.npz", IMAGES], "absent.npz"),
        (["predict", "text.npy", IMAGES], "expected a checkpoint"),
        (["predict", "m.npz", "absent.npy"], "not a file"),
        (["predict", "m.npz", "short.npy"], "expected (784,)"),
        (["predict", "m.npz", "nan.npy"], "NaN"),
        (["predict", "m.npz", "objects.npy"], "objects.npy"),
        (["predict", "m.npz", "text.npy"], "text.npy"),
        (["predict", "m.npz", "archive.npy"], "expected a plain array"),
        (["predict", "m.npz", IMAGES, "--targets", 3], "expected 3 or"),
        (["predict", "m.npz", IMAGES, "-o", "absent/p.csv"], "not writable"),
        (["evaluate", "m.npz", "--id", "nothing"], "no data set of that name"),
        (["evaluate", "m.npz", "--id", "rotated-mnist-subset"], "expected 1 or"),
    ):
        code, out, err = run(capsys, *words)
        assert (code, out, err.count("\n")) == (2, "", 1), words
        assert said in err
