import gzip
import json
import os

import numpy as np
import pytest

from refbnn import cli
from refbnn.noise import Bimodal, DeviceLaw, Gaussian, HeavyTailed, load_law, save_law
from refbnn.noise.storage import Measured


def run(capsys, *words):
    """Exit code, standard output and standard error of one command."""
    code: object
    try:
        code = cli.main([str(word) for word in words])
    except SystemExit as exit_:
        code = exit_.code
    return code, *capsys.readouterr()


@pytest.fixture
def readings(tmp_path):
    """Two levels of a device: one flat, one with heavy tails."""
    rng = np.random.default_rng(1)
    flat = 10.0 + DeviceLaw(0.0, 0.0).sample(rng, (300,))
    heavy = 50.0 + 3.0 * HeavyTailed(0.9, -0.3).sample(rng, (400,))
    rows = [f"0,{g:.4f}" for g in flat] + [f"1,{g:.4f}" for g in heavy]
    path = tmp_path / "readings.csv.gz"
    path.write_bytes(gzip.compress(("level,conductance_uS\n" + "\n".join(rows) + "\n").encode()))
    return path


def test_fit_show_and_sample(capsys, readings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(
        capsys, "noise", "fit", readings, "--where", "level=1", "-o", "law.json", "--json", "f.json"
    )
    assert (code, err) == (0, "")
    assert "not refuted by 400 values" in out
    assert "chosen" in out
    evidence = json.loads((tmp_path / "f.json").read_text())
    assert evidence["fits"]
    assert evidence["ks_p_value"] > 0.01
    assert evidence["n_values"] == 400
    assert {c["family"] for c in evidence["candidates"]} >= {"Gaussian", "bimodal", "heavy-tailed"}
    _, place = load_law("law.json")
    assert place.quantity == "conductance_uS"
    # Five standard errors of a mean of 400.
    assert place.location == pytest.approx(50.0, abs=5 * 3.0 / 20.0)

    code, out, err = run(capsys, "noise", "show", "law.json")
    assert (code, err) == (0, "")
    assert "excess kurtosis" in out
    assert (tmp_path / "law.png").read_bytes().startswith(b"\x89PNG")

    code, out, err = run(capsys, "noise", "sample", "law.json", "-n", 20_000, "-o", "x.npy")
    assert (code, err) == (0, "")
    x = np.load("x.npy", allow_pickle=False)
    assert x.shape == (20_000,)
    assert np.mean(x) == pytest.approx(place.location, abs=5 * place.scale / np.sqrt(20_000))
    run(capsys, "noise", "sample", "law.json", "-n", 20_000, "-o", "z.npy", "--standardised")
    np.testing.assert_allclose(place.location + place.scale * np.load("z.npy"), x, rtol=1e-12)
    run(capsys, "noise", "sample", "law.json", "-n", 20_000, "-o", "y.npy", "--seed", 1)
    assert not np.array_equal(np.load("y.npy"), x)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_families_and_bounds_are_obeyed(capsys, readings, tmp_path):
    path = tmp_path / "law.json"
    words = ["noise", "fit", readings, "--where", "level=0", "-o", path]
    code, *_ = run(capsys, *words, "--family", "device", "--bounds", "0,12")
    assert code == 0
    law, place = load_law(path)
    assert isinstance(law, DeviceLaw)
    assert place.location + place.scale * law.support[1] <= 12.0
    code, *_ = run(capsys, *words, "--family", "bimodal")
    assert isinstance(load_law(path)[0], Bimodal)


def test_a_law_that_does_not_fit_is_said_and_kept(capsys, readings, tmp_path):
    path = tmp_path / "law.json"
    code, out, err = run(
        capsys, "noise", "fit", readings, "--where", "level=1", "--family", "Gaussian", "-o", path
    )
    assert code == 1
    assert "no law tried fits" in out
    assert err.startswith("refbnn noise: check failed: no law tried fits")
    assert load_law(path)[0] == Gaussian()
    assert not json.loads(path.read_text())["fits"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["fit", "none.csv"], "No such file"),
        (["fit", "readings.csv.gz", "--where", "level=7"], "0 values"),
        (["fit", "readings.csv.gz", "--column", "x"], "no single column 'x'"),
        (["fit", "readings.csv.gz", "--family", "Cauchy"], "'Cauchy'; expected some of"),
        (["fit", "readings.csv.gz", "--where", "level=0", "--bounds", "9,10"], "9"),
        (["fit", "readings.csv.gz", "--bounds", "3,2"], "expected LOW,HIGH"),
        (["fit", "readings.csv.gz", "-o", "no/law.json"], "not writable"),
        (["show", "none.json"], "No such file"),
        (["show", "readings.csv.gz"], "expected a law as JSON"),
        (["show", "law.json", "-o", "no/law.png"], "not writable, as there is no folder no"),
        (["sample", "law.json", "-n", "0", "-o", "x.npy"], "expected an integer"),
        (["sample", "law.json", "-n", "5", "-o", "x.txt"], "ends in .npy"),
        (
            ["sample", "law.json", "-n", "5", "-o", "no/x.npy"],
            "not writable, as there is no folder no",
        ),
        (["sample", "law.json", "-n", "5"], "-o"),
        ([], "ACTION"),
    ],
)
def test_wrong_calls_are_one_line_and_exit_two(
    capsys, readings, tmp_path, monkeypatch, words, reason
):
    monkeypatch.chdir(tmp_path)
    save_law("law.json", Gaussian(), Measured("g", 1.0, 2.0))
    before = sorted(os.listdir(tmp_path))
    code, _, err = run(capsys, "noise", *words)
    assert code == 2
    assert reason in err
    assert err.count("\n") == 1
    assert sorted(os.listdir(tmp_path)) == before
