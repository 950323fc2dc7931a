import gzip
import hashlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from refbnn.data import Dataset, load, write_idx
from refbnn.data.catalogue import ENTRIES
from refbnn.data.rotated import rotated
from refbnn.errors import InputError

FULL = os.environ.get("REFBNN_DATA", "")
needs_mnist = pytest.mark.skipif(
    not (Path(FULL) / "mnist").is_dir() or not FULL, reason="REFBNN_DATA has no mnist folder"
)


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """A cache and a data folder of the test's own; returns the latter."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("REFBNN_DATA", str(folder))
    return folder


def put(folder: Path, images: np.ndarray, labels: np.ndarray, part: str = "train") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
    write_idx(folder / f"{part}-labels-idx1-ubyte.gz", labels)
    return folder


def some_digits(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (n, 28, 28)).astype(np.uint8)
    return images, rng.integers(0, 10, n).astype(np.uint8)


@pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES if isinstance(entry.images, str)], ids=lambda e: e.name
)
def test_every_subset_loads_without_a_download(entry):
    for split, size in entry.sizes.items():
        assert entry.is_here(split)
        data = load(entry.name, split)
        assert (data.name, data.task, len(data)) == (entry.name, entry.task, size)
        assert data.x.shape == (size, 1, 28, 28)
        assert data.x.dtype == np.float32
        assert data.x.min() == 0.0
        assert 0.99 < data.x.max() <= 1.0
        again = load(entry.name, split)
        np.testing.assert_array_equal(again.x, data.x)
        np.testing.assert_array_equal(again.y, data.y)


def test_dirty_is_the_digits_and_the_ambiguous_ones():
    parts = [load(f"{kind}mnist-subset", "test") for kind in ("", "ambiguous-")]
    dirty = load("dirty-mnist-subset", "test")
    np.testing.assert_array_equal(dirty.x, np.concatenate([part.x for part in parts]))
    np.testing.assert_array_equal(dirty.y, np.concatenate([part.y for part in parts]))


@needs_mnist
def test_full_mnist(monkeypatch):
    monkeypatch.setenv("REFBNN_DATA", FULL)
    # How often each digit occurs, as LeCun's page and many papers list it.
    counts = {
        "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    }
    # MD5 of the unpacked images as published: of the pixels behind the 16 bytes of the header.
    md5 = {"test": "2646ac647ad5339dbf082846283269ea", "train": "6bbc9ace898e44ae57da46a324031adb"}
    for split, n_each in counts.items():
        data = load("mnist", split)
        np.testing.assert_array_equal(np.bincount(data.y), n_each)
        header = np.array([2051, len(data), 28, 28], ">u4").tobytes()
        pixels = np.rint(data.x * np.float32(255.0)).astype(np.uint8).tobytes()
        assert hashlib.md5(header + pixels).hexdigest() == md5[split]


def test_own_folder_wins_over_the_cache_and_may_be_unpacked(own_folders, tmp_path):
    images, labels = some_digits(20)
    put(tmp_path / "cache/refbnn/mnist", images, labels)
    data = load("mnist", "train")
    np.testing.assert_array_equal(data.y, labels)
    np.testing.assert_allclose(data.x[:, 0], images / 255.0, rtol=1e-7)
    folder = put(own_folders / "mnist", images[:7], labels[:7])
    assert len(load("mnist", "train")) == 7
    for path in list(folder.iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert len(load("mnist", "train")) == 7
    assert load("mnist", "train").source == str(folder)


BAD = {
    "unknown name": ("mnits", "train", "no data set of that name; expected mnist, mnist-subset"),
    "unknown split": ("mnist", "valid", "expected train or test"),
    "no such split": ("fashion-subset", "train", "has no train split"),
    "not here": ("fashion-mnist", "train", "refbnn data fetch fashion-mnist.*REFBNN_DATA"),
    "made of what is not here": ("dirty-mnist", "test", "refbnn data fetch mnist"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_loaded_is_refused(case):
    name, split, message = BAD[case]
    with pytest.raises(InputError, match=message) as error:
        load(name, split)
    assert "\n" not in str(error.value)


def test_a_data_folder_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("REFBNN_DATA", "/absent")
    with pytest.raises(InputError, match="REFBNN_DATA is '/absent'; expected an existing folder"):
        load("mnist", "train")


def _cut(folder):
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])


def _relabel(labels):
    return lambda folder: write_idx(folder / "train-labels-idx1-ubyte.gz", labels)


def _redraw(images):
    return lambda folder: write_idx(folder / "train-images-idx3-ubyte.gz", images)


SPOILT = {
    "truncated": (_cut, "train-images.*cannot be read"),
    "no gzip": (
        lambda folder: (folder / "train-images-idx3-ubyte.gz").write_bytes(b"<html>"),
        "begins with 3c68746d",
    ),
    "one label short": (
        _relabel(np.zeros(19, np.uint8)),
        "expected one uint8 label for each of 20",
    ),
    "label beyond 9": (_relabel(np.full(20, 10, np.uint8)), "holds the label 10; expected 0 to 9"),
    "labels of another type": (_relabel(np.zeros(20, np.float32)), "expected one uint8 label"),
    "another size": (
        _redraw(np.zeros((20, 32, 32), np.uint8)),
        "expected uint8 images of 28 by 28",
    ),
    "no labels": (lambda folder: (folder / "train-labels-idx1-ubyte.gz").unlink(), "is not here"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_spoilt_files_are_refused(own_folders, case):
    spoil, message = SPOILT[case]
    spoil(put(own_folders / "mnist", *some_digits(20)))
    with pytest.raises(InputError, match=message):
        load("mnist", "train")


def test_files_without_an_image_are_refused(own_folders):
    put(own_folders / "mnist", np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.uint8))
    with pytest.raises(InputError, match="holds no image"):
        load("mnist", "train")


X, Y = np.zeros((4, 3), np.float32), np.zeros(4, np.int64)
TARGETS = np.zeros((4, 2), np.float32)
WRONG: dict[str, tuple[np.ndarray, np.ndarray, Any, str]] = {
    "NaN": (np.where(np.eye(4, 3), np.nan, X).astype(np.float32), Y, "classes", "inputs hold NaN"),
    "infinity": (X + np.float32(np.inf), Y, "classes", "inputs hold NaN or infinity"),
    "float16": (X.astype(np.float16), Y, "classes", "inputs are float16"),
    "complex": (X.astype(complex), Y, "classes", "inputs are complex128"),
    "no example": (X[:0], Y[:0], "classes", "at least one example"),
    "no axis": (X[:, 0], Y, "classes", r"expected at least one example, floats \(N, \*shape\)"),
    "labels of another length": (X, Y[:3], "classes", "one int64 label for each of 4"),
    "real labels": (X, Y.astype(float), "classes", "one int64 label"),
    "label too large": (X, Y + 2, "classes", r"lie in 2 \.\.\. 2; expected 0 \.\.\. 1"),
    "negative label": (X, Y - 1, "classes", r"lie in -1 \.\.\. -1"),
    "NaN target": (X, TARGETS * np.float32(np.nan), "regression", "targets hold NaN"),
    "flat targets": (X, TARGETS[:, 0], "regression", r"expected floats of shape \(4, 2\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arrays_are_refused(case):
    x, y, task, message = WRONG[case]
    with pytest.raises(InputError, match=message):
        Dataset("some", x, y, task, 2, "here")


def test_rotation_turns_anticlockwise_as_seen():
    # A blob 8 pixels from the centre at angle φ (upwards is positive) must arrive at φ + θ.
    rows, columns = np.mgrid[:28, :28]
    phi = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    x0, y0 = 13.5 + 8.0 * np.cos(phi), 13.5 - 8.0 * np.sin(phi)
    r2 = (columns - x0[:, None, None]) ** 2 + (rows - y0[:, None, None]) ** 2
    x, y = rotated(np.rint(255 * np.exp(-r2 / 8.0)).astype(np.uint8), np.random.default_rng(0))
    mass = x[:, 0].sum(axis=(1, 2), dtype=float)
    right = (x[:, 0] * columns).sum(axis=(1, 2)) / mass - 13.5
    up = 13.5 - (x[:, 0] * rows).sum(axis=(1, 2)) / mass
    turned = np.angle((right + 1j * up) * np.exp(-1j * phi))
    # Linear interpolation of a blob 2 pixels wide shifts its centre by some hundredths of a pixel.
    np.testing.assert_allclose(turned, np.deg2rad(45.0 * y[:, 0]), atol=0.05 / 8.0)
    assert x.shape == (24, 1, 28, 28)


def test_angles_are_uniform_and_differ_between_splits():
    train, test = (load("rotated-mnist-subset", split) for split in ("train", "test"))
    assert train.y.shape == (5000, 1)
    assert stats.kstest(train.y[:, 0], stats.uniform(-1.0, 2.0).cdf).pvalue > 1e-4
    assert not np.any(train.y[:1000] == test.y)


@pytest.fixture
def torch_files(own_folders, monkeypatch):
    """Stand-in for the reader of PyTorch files: gives what this dictionary holds for a name."""
    contents: dict[str, object] = {}
    module = ModuleType("refbnn.files.torch_file")
    module.__dict__["read_torch"] = lambda path: contents[path.name]
    monkeypatch.setitem(
        sys.modules, "refbnn.network.interchange", ModuleType("refbnn.network.interchange")
    )
    monkeypatch.setitem(sys.modules, "refbnn.files.torch_file", module)
    folder = own_folders / "ambiguous_mnist"
    folder.mkdir()
    for name in ("amnist_samples.pt", "amnist_labels.pt"):
        (folder / name).touch()
    return contents


def test_published_ambiguous_mnist(torch_files, monkeypatch):
    monkeypatch.setattr("refbnn.data.ambiguous.original.N_TRAIN", 20)
    rng = np.random.default_rng(0)
    samples, labels = rng.random((5, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, (5, 10))
    torch_files.update({"amnist_samples.pt": samples, "amnist_labels.pt": labels})
    train, test = (load("ambiguous-mnist", split) for split in ("train", "test"))
    assert (len(train), len(test)) == (20, 30)
    np.testing.assert_array_equal(train.y, np.concatenate([labels[0], labels[1]]))
    np.testing.assert_array_equal(test.y, labels[2:].ravel())
    for i in range(30):  # ten examples a picture
        np.testing.assert_array_equal(test.x[i], samples[2 + i // 10])
    assert "amnist_samples.pt" in train.source
    torch_files["amnist_samples.pt"] = np.rint(255 * samples[:, 0]).astype(np.uint8)
    torch_files["amnist_labels.pt"] = labels[:, 0]
    monkeypatch.setattr("refbnn.data.ambiguous.original.N_TRAIN", 2)
    test = load("ambiguous-mnist", "test")
    np.testing.assert_array_equal(test.y, labels[2:, 0])
    np.testing.assert_allclose(test.x, samples[2:], atol=0.51 / 255)  # rounded to 256 levels


GOOD = np.zeros((5, 1, 28, 28), np.float32), np.zeros((5, 10), np.int64)
NOT_ORIGINAL = {
    "a dictionary": ({"a": 1}, GOOD[1], "holds a dict; expected pictures"),
    "another size": (GOOD[0][..., :27], GOOD[1], r"shape \(5, 1, 28, 27\)"),
    "fewer labels": (GOOD[0], GOOD[1][:4], r"shape \(4, 10\); expected whole numbers, \(5,"),
    "real labels": (GOOD[0], GOOD[1] * 0.5, "labels.pt: holds float64"),
    "label beyond 9": (GOOD[0], GOOD[1] + 10, r"labels lie in 10 \.\.\. 10"),
    "normalised pictures": (GOOD[0] - 0.4, GOOD[1], "inputs lie in -0.4"),
    "NaN": (GOOD[0] * np.nan, GOOD[1], "inputs hold NaN"),
}


@pytest.mark.parametrize("case", NOT_ORIGINAL)
def test_other_ambiguous_files_are_refused(torch_files, case):
    samples, labels, message = NOT_ORIGINAL[case]
    torch_files.update({"amnist_samples.pt": samples, "amnist_labels.pt": labels})
    with pytest.raises(InputError, match=message):
        load("ambiguous-mnist", "train")


def test_one_of_two_ambiguous_files_is_refused(torch_files, own_folders):
    (own_folders / "ambiguous_mnist/amnist_labels.pt").unlink()
    with pytest.raises(InputError, match=r"amnist_labels\.pt is not here"):
        load("ambiguous-mnist", "train")


@pytest.mark.parametrize(("n", "labels"), [(3, (3, 0)), (0, (0, 10)), (0, (0,))])
def test_published_ambiguous_mnist_without_labels_is_refused(torch_files, n, labels):
    torch_files["amnist_samples.pt"] = np.zeros((n, 1, 28, 28), np.float32)
    torch_files["amnist_labels.pt"] = np.zeros(labels, int)
    with pytest.raises(InputError, match="a picture\\), at least one"):
        load("ambiguous-mnist", "train")
