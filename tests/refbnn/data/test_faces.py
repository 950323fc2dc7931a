import hashlib

import numpy as np
import pytest
from PIL import Image

from refbnn.data import load
from refbnn.data.faces import load_faces
from refbnn.errors import InputError


def put(folder, name, colour=(200, 100, 50), size=(40, 60)):
    Image.new("RGB", size, colour).save(folder / name, "JPEG", quality=95)


def load_both(folder):
    for split in ("train", "test"):
        load_faces(folder, split, 8)


@pytest.fixture
def faces(tmp_path):
    """120 faces of one colour each, the red that of the age."""
    for age in range(1, 121):
        suffix = ".jpg" if age % 2 else ".jpg.chip.jpg"
        put(tmp_path, f"{age}_{age % 2}_{age % 5}_20170116{age:09d}{suffix}", (2 * age, 100, 50))
    return tmp_path


def test_ages_and_colours(faces):
    splits = {split: load(f"utkface:{faces}", split) for split in ("train", "test")}
    ages = np.concatenate([data.y[:, 0] for data in splits.values()]) * 100.0
    np.testing.assert_allclose(np.sort(ages), np.arange(1, 121), rtol=1e-6)
    # Five standard errors of a binomial of 120 names with probability 26/256.
    assert abs(len(splits["test"]) - 12.2) < 5 * np.sqrt(12.2 * 0.9)
    for data in splits.values():
        assert data.task == "regression"
        assert data.x.shape == (len(data), 3, 32, 32)
        # JPEG keeps a single colour to some levels of 255.
        expected = np.stack([data.y[:, 0] * 200.0, *(np.full(len(data), c) for c in (100, 50))], 1)
        found = 255.0 * data.x.mean(axis=(2, 3))
        np.testing.assert_allclose(found, expected, atol=4.0)
        assert "without 0 of 120" in data.source


def test_the_split_is_that_of_the_name(faces):
    expected = [
        int(path.name.split("_")[0])
        for path in sorted(faces.iterdir(), key=lambda path: path.name)
        if int(hashlib.sha256(path.name.encode()).hexdigest()[:2], 16) < 26
    ]
    np.testing.assert_allclose(load_faces(faces, "test", 8).y[:, 0] * 100.0, expected, rtol=1e-6)


def test_other_names_are_left_out_and_counted(faces):
    for name in ("61_3_20170109150557335.jpg.chip.jpg", "200_0_0_1.jpg", "5_2_0_1.jpg", "me.jpg"):
        (faces / name).write_bytes(b"never read")
    (faces / "README.txt").touch()
    data = load(f"utkface:{faces}", "train")
    assert "without 4 of 124" in data.source


SPOILT = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no picture"),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-200]),
    "another format": lambda path: Image.new("RGB", (4, 4)).save(path, "PNG"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_picture_that_cannot_be_read_is_named(faces, case):
    path = next(faces.glob("50_*.jpg"))
    SPOILT[case](path)
    with pytest.raises(InputError, match=r"50_0_0_.*cannot be read") as error:
        load_both(faces)
    assert "\n" not in str(error.value)


def test_a_huge_picture_is_refused(tmp_path, monkeypatch):
    put(tmp_path, "1_0_0_1.jpg", size=(400, 300))
    monkeypatch.setattr("refbnn.data.faces._MOST_PIXELS", 100_000)
    with pytest.raises(InputError, match=r"1_0_0_1\.jpg: 400 by 300 pixels; expected at most"):
        load_both(tmp_path)


def test_absurd_sizes_are_refused_by_pillow(tmp_path, monkeypatch):
    put(tmp_path, "1_0_0_1.jpg", size=(400, 300))
    for most in (100_000, 10_000):  # a warning; an error
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with pytest.raises(InputError, match=r"1_0_0_1\.jpg: cannot be read"):
            load_both(tmp_path)


def test_folders_without_faces_are_refused(tmp_path):
    with pytest.raises(InputError, match="no picture for the train split among 0 files"):
        load(f"utkface:{tmp_path}", "train")
    with pytest.raises(InputError, match=r"absent: No such file.*expected a folder of UTKFace"):
        load(f"utkface:{tmp_path / 'absent'}", "train")
