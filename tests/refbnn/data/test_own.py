"""A user's own data: .npz files and folders of IDX files."""

import gzip

import numpy as np
import pytest

from refbnn.data import load, read_idx, write_idx
from refbnn.errors import InputError


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def some(n=6, shape=(4, 5), classes=3):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, *shape)).astype(np.uint8), np.arange(n) % classes


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_pixels_are_divided_and_floats_stay(write):
    x, y = some()
    write("own.npz", x=x, y=y, x_test=x[:2], y_test=y[:2])
    train, test = load("own.npz", "train"), load("own.npz", "test")
    assert (train.task, train.n_outputs, test.n_outputs) == ("classes", 3, 3)
    np.testing.assert_array_equal(train.x, (x / np.float32(255))[:, None])
    assert train.x.dtype == np.float32
    np.testing.assert_array_equal(test.y, y[:2])
    assert train.fingerprint != test.fingerprint
    rows = np.random.default_rng(1).standard_normal((6, 3)) * 1e3
    write("own.npz", x=rows, y=y)
    np.testing.assert_array_equal(load("own.npz", "train").x, rows)


def test_a_file_of_one_split_is_its_test_data_too():
    np.savez("own.npz", x=np.eye(3), y=[0, 1, 1])
    test = load("own.npz", "test")
    assert test.fingerprint == load("own.npz", "train").fingerprint
    assert test.source == "x, y of own.npz"


def test_floats_in_y_are_targets():
    np.savez("own.npz", x=np.eye(3), y=np.array([0.0, 1.5, 2.0]))
    own = load("own.npz", "train")
    assert (own.task, own.n_outputs, own.y.shape) == ("regression", 1, (3, 1))
    np.savez("own.npz", x=np.eye(3), y=np.ones((3, 2), np.float32))
    assert load("own.npz", "train").n_outputs == 2


@pytest.mark.parametrize("packed", [True, False])
def test_a_folder_of_idx_files(tmp_path, packed):
    x, y = some()
    for part, n in (("train", 6), ("t10k", 3)):
        for kind, array in (("images-idx3", x[:n]), ("labels-idx1", y[:n].astype(np.uint8))):
            path = tmp_path / f"{part}-{kind}-ubyte.gz"
            write_idx(path, array)
            if not packed:
                (tmp_path / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
                path.unlink()
    train, test = load(str(tmp_path), "train"), load(str(tmp_path), "test")
    assert (len(train), len(test), test.n_outputs) == (6, 3, 3)
    np.testing.assert_array_equal(test.x[:, 0], x[:3] / np.float32(255))
    name = "t10k-labels-idx1-ubyte" + (".gz" if packed else "")
    np.testing.assert_array_equal(read_idx(tmp_path / name), y[:3])
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte\.gz is not here"):
        load(str(tmp_path), "train")


def test_a_folder_of_a_test_split_alone(tmp_path):
    x, y = some()
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", x)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", y.astype(np.uint8))
    assert len(load(str(tmp_path), "test")) == 6
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte\.gz is not here"):
        load(str(tmp_path), "train")


def test_a_last_axis_of_one_is_that_of_grey_images():
    x, y = some(shape=(16, 50))
    np.savez("own.npz", x=x[..., np.newaxis], y=y)
    np.savez("first.npz", x=x[:, np.newaxis], y=y)
    own = load("own.npz", "train")
    assert own.x.shape == (6, 1, 16, 50)
    np.testing.assert_array_equal(own.x, load("first.npz", "train").x)


X, Y = some()
WRONG = {
    "small and channels last": (
        {"x": np.zeros((6, 4, 4, 3)), "y": Y},
        r"expected \(6, 3, 4, 4\): transpose with \(0, 3, 1, 2\)",
    ),
    "channels last": (
        {"x": np.zeros((6, 8, 9, 3), np.uint8), "y": Y},
        r"shape \(6, 8, 9, 3\); expected \(6, 3, 8, 9\): transpose with \(0, 3, 1, 2\)",
    ),
    "integers": ({"x": X.astype(int), "y": Y}, "int64 .* expected uint8 pixels"),
    "complex": ({"x": X * 1j, "y": Y}, "NumPy's format"),
    "NaN": ({"x": np.full((6, 2), np.nan), "y": Y}, "inputs hold NaN"),
    "text": ({"x": X, "y": np.array(list("abcdef"))}, "NumPy's format"),
    "booleans": ({"x": X, "y": Y > 0}, "answers are bool .* expected integers"),
    "one-hot": ({"x": X, "y": np.eye(3, dtype=int)[Y]}, r"y\.argmax\(axis=1\)"),
    "a column": ({"x": X, "y": Y[:, None]}, r"expected labels \(N,\): y\[:, 0\]"),
    "from 1": ({"x": X, "y": Y + 1}, r"lie in 1 \.\.\. 3; expected 0, 1"),
    "negative": ({"x": X, "y": Y - 1}, r"lie in -1 \.\.\. 1; expected 0"),
    "years": ({"x": X, "y": Y * 10_000}, "integers up to 20000 .* floats for a regression"),
    "lengths": ({"x": X, "y": Y[:5]}, "expected one int64 label for each of 6 examples"),
    "no y": ({"x": X, "z": Y}, r"y is missing among x, z; expected \('x', 'y'\)"),
    "no y_test": ({"x": X, "y": Y, "x_test": X}, "y_test is missing"),
    "both kinds": ({"x": X, "y": Y, "x_test": X, "y_test": Y * 1.0}, "splits differ in type"),
    "empty": ({"x": X[:0], "y": Y[:0]}, "N > 0"),
    "a number an example": ({"x": X[:, 0, 0], "y": Y}, r"expected rows \(N, features\)"),
    "pickle": ({"x": np.array([{}] * 6, object), "y": Y}, "NumPy's format"),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_arrays_are_refused(case):
    arrays, said = WRONG[case]
    np.savez("own.npz", **arrays)
    with pytest.raises(InputError, match=said) as error:
        load("own.npz", "train")
    assert "own.npz" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_data_is_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    for name, said in (
        ("absent.npz", "absent.npz: not a file"),
        ("text.npz", "cannot be read"),
        ("./absent", "expected a folder of IDX files, or a file .npz"),
        (str(tmp_path), "train-images-idx3-ubyte.gz is not here, with or without .gz"),
        ("minst", "no data set of that name; .* a file .npz; did you mean 'mnist'"),
    ):
        with pytest.raises(InputError, match=said):
            load(name, "train")


def test_a_file_that_claims_much_is_refused(tmp_path):
    """The claim of a header is compared with the bytes there before memory is asked for."""
    np.savez("own.npz", x=np.zeros((2, 3)), y=[0, 1])
    whole = (tmp_path / "own.npz").read_bytes()
    (tmp_path / "own.npz").write_bytes(whole.replace(b"(2, 3)", b"(9, 9)"))
    with pytest.raises(InputError, match=r"own\.npz: .*(CRC|do not make)"):
        load("own.npz", "train")
