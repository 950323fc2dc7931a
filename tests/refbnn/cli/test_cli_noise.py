import gzip
import json
import os

import numpy as np
import pytest

from refbnn.errors import InputError
from refbnn.noise import Bimodal, DeviceLaw, Gaussian, HeavyTailed, load_law, save_law
from refbnn.noise.storage import Measured
from tests.helpers.command import run


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


def test_a_refuted_law_is_saved_on_demand_alone(capsys, readings, tmp_path):
    path, table = tmp_path / "law.json", tmp_path / "table.json"
    words = ["noise", "fit", readings, "--where", "level=1", "--family", "Gaussian", "-o", path]
    code, out, err = run(capsys, *words, "--json", table)
    assert code == 1
    assert "no law tried fits" in out
    assert "p ≤ 0.001" in out
    assert err.startswith("refbnn noise: check failed: no law tried fits")
    assert "law.json is not written (--save-refuted writes it)" in err
    assert not path.exists()
    numbers = json.loads(table.read_text())
    assert not numbers["fits"]
    assert numbers["ks_p_value"] == numbers["ks_p_value_floor"] == pytest.approx(1.0 / 1001.0)
    with pytest.raises(InputError, match="expected a law"):
        load_law(table)  # evidence against a law is no law

    code, _, err = run(capsys, *words, "--save-refuted")
    assert code == 0
    assert "law.json: saved, although no law tried fits" in err
    assert load_law(path)[0] == Gaussian()
    assert not json.loads(path.read_text())["fits"]


def test_levels_are_not_pooled_unasked(capsys, readings):
    code, _, err = run(capsys, "noise", "fit", readings)
    assert code == 2
    assert "differ with 'level' (0, 1; p < 1e-16)" in err
    assert "(--where 'level=1'), or give --pool" in err


def test_notes_of_a_table_go_to_standard_error(capsys, tmp_path):
    path = tmp_path / "g.csv"
    values = np.random.default_rng(2).normal(50.0, 2.0, 100)
    rows = "".join(
        f"{'A' if i % 2 else 'B'};{g:.4f}\n".replace(".", ",") for i, g in enumerate(values)
    )
    path.write_text("device;G (uS)\nA;9,9E37\n" + rows)
    words = ["noise", "fit", path, "--column", "G (uS)", "--decimal", ",", "--family", "Gaussian"]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "1 beyond the instrument's range of 101 values" in err
    code, out, err = run(capsys, *words, "--drop-missing", "--json", tmp_path / "fit.json")
    assert code == 0
    assert "mean, G (uS)" in out
    notes = err.splitlines()
    assert len(notes) == 2
    in_json = json.loads((tmp_path / "fit.json").read_text())["notes"]
    assert notes == [f"refbnn: {path}: {note}" for note in in_json]
    assert "left out; the law says nothing of values beyond that range" in notes[0]
    assert "all 'device' are fitted together (B, A; no difference" in notes[1]


def test_bounds_are_kept_or_the_family_is_left_out(capsys, tmp_path):
    path, law = tmp_path / "g.csv", tmp_path / "law.json"
    values = np.random.default_rng(3).normal(3.0, 1.0, 300)
    np.savetxt(path, values[values > 0.0], header="g", comments="")
    words = ["noise", "fit", path, "--family", "Gaussian", "-o", law, "--bounds"]
    code, _, err = run(capsys, *words, "0,inf")
    assert code == 0
    assert "Gaussian is cut at the bounds" in err
    fitted, place = load_law(law)
    draws = place.location + place.scale * fitted.sample(np.random.default_rng(0), (100_000,))
    assert draws.min() >= 0.0
    code, _, err = run(
        capsys, *words, f"{values[values > 0.0].min() - 1e-6},inf", "--family", "device"
    )
    assert code in (0, 1)
    assert "left out Gaussian" in err or "cut at the bounds" in err


@pytest.mark.parametrize(
    ("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")]
)
def test_a_fit_is_drawn(capsys, readings, tmp_path, suffix, start):
    path = tmp_path / f"fit{suffix}"
    words = ["noise", "fit", readings, "--where", "level=0", "--family", "Gaussian"]
    code, out, _ = run(capsys, *words, "--plot", path)
    assert code == 1  # of a flat law: the picture shows why
    assert out.rstrip().endswith(str(path))
    first = path.read_bytes()
    assert first.startswith(start)
    run(capsys, *words, "--plot", path)
    assert path.read_bytes() == first
    assert [name.name for name in tmp_path.iterdir() if name.name.startswith(".")] == []


def test_show_writes_its_table_as_json(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_law("law.json", DeviceLaw(0.0, 0.0), Measured("g", 5.0, 2.0))
    code, *_ = run(capsys, "noise", "show", "law.json", "--json", "table.json", "-o", "law.svg")
    assert code == 0
    numbers = json.loads((tmp_path / "table.json").read_text())
    assert numbers["mean"] == 5.0
    # A uniform law of variance 1 has half-width √3; its quantiles are even.
    assert numbers["support"] == pytest.approx([5.0 - 2.0 * 3**0.5, 5.0 + 2.0 * 3**0.5])
    assert numbers["quantiles"]["0.25"] == pytest.approx(5.0 - 3**0.5)
    assert load_law("table.json")[0] == DeviceLaw(0.0, 0.0)
    assert (tmp_path / "law.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["fit", "none.csv"], "No such file"),
        (["fit", "readings.csv.gz", "--where", "level=7"], "0 values"),
        (["fit", "readings.csv.gz", "--column", "x"], "no single column 'x'"),
        (["fit", "readings.csv.gz", "--family", "Cauchy"], "--family Cauchy: expected one of"),
        (["fit", "readings.csv.gz", "--family", "gaussian"], "did you mean 'Gaussian'?"),
        (["fit", "readings.csv.gz", "--column", "levle"], "did you mean 'level'?"),
        (["fit", "readings.csv.gz", "--save-refuted"], "expected -o LAW.json"),
        (["fit", "readings.csv.gz", "--plot", "x.jpg"], "ends in .png, .svg or .pdf"),
        (["fit", "readings.csv.gz", "--delimiter", "ab"], "'tab' or 'space'"),
        (["fit", "readings.csv.gz", "--where", "level="], "expected NAME=VALUE"),
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
        ([], "no action; expected fit, show or sample"),
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
