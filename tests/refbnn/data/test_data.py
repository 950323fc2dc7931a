import gzip
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from refbnn.data import load, packaged, read_idx, write_idx
from refbnn.data.subset import first_of_each_class, main
from refbnn.errors import InputError

TYPES = ["uint8", "int8", "int16", "int32", "float32", "float64"]
FILES = [
    "mnist-subset-train-images-idx3-ubyte.gz",
    "mnist-subset-train-labels-idx1-ubyte.gz",
    "mnist-subset-test-images-idx3-ubyte.gz",
    "mnist-subset-test-labels-idx1-ubyte.gz",
    "fashion-subset-test-images-idx3-ubyte.gz",
    "fashion-subset-test-labels-idx1-ubyte.gz",
]


def some_array(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal(shape) * 50 + 60).astype(dtype)


def idx_bytes(code: int, sizes: tuple[int, ...], payload: bytes) -> bytes:
    return bytes([0, 0, code, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + payload


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4), (0, 28, 28)])
def test_round_trip(tmp_path, dtype, shape):
    array = some_array(dtype, shape)
    write_idx(tmp_path / "a", array)
    back = read_idx(tmp_path / "a")
    assert back.dtype == array.dtype
    assert back.dtype.isnative
    assert back.flags.writeable
    np.testing.assert_array_equal(back, array)


def test_bytes_as_the_format_says(tmp_path):
    # Written out by hand: int16, two dimensions, 1 by 2, big-endian.
    expected = bytes.fromhex("00 00 0b 02 00000001 00000002 0102 fffe")
    write_idx(tmp_path / "a.gz", np.array([[258, -2]], dtype="<i2"))
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == expected
    (tmp_path / "plain").write_bytes(expected)
    np.testing.assert_array_equal(read_idx(tmp_path / "plain"), [[258, -2]])


def test_compression_is_recognised_by_content(tmp_path):
    content = idx_bytes(8, (3,), b"abc")
    (tmp_path / "a.gz").write_bytes(content)
    (tmp_path / "b").write_bytes(gzip.compress(content))
    np.testing.assert_array_equal(read_idx(tmp_path / "a.gz"), read_idx(str(tmp_path / "b")))


def test_written_bytes_are_reproducible_and_nothing_else_is_left(tmp_path):
    array = some_array("float32", (3, 5))
    write_idx(tmp_path / "a", array)
    write_idx(tmp_path / "another name", array)
    write_idx(tmp_path / "another name", array)
    written = (tmp_path / "a").read_bytes()
    assert written == (tmp_path / "another name").read_bytes()
    assert written[3:8] == bytes(5)  # gzip flags (no name) and time
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "another name"]


PLAIN = {
    "empty": (b"", "begins with nothing"),
    "one byte": (b"\0", "begins with 00"),
    "not IDX": (b"\x89PNG\r\n", "begins with 89504e47"),
    "unknown type": (idx_bytes(0x0A, (1,), b"a"), "type code 0a"),
    "no dimensions": (idx_bytes(8, (), b"a"), "0 dimensions"),
    "many dimensions": (bytes([0, 0, 8, 255]) + bytes(1020), "255 dimensions"),
    "short header": (bytes([0, 0, 8, 3]) + bytes(11), "inside its header"),
    "too short": (idx_bytes(8, (2, 3), b"abcde"), "holds only 5 bytes of values; expected 6"),
    "too long": (idx_bytes(8, (2, 3), b"abcdefg"), "holds more bytes of values; expected 6"),
    "half a value": (idx_bytes(0x0E, (1,), bytes(7)), "holds only 7 bytes of values; expected 8"),
    "absurd": (idx_bytes(8, (2**32 - 1,) * 3, b""), "claims the shape"),
    "absurd beside 0": (idx_bytes(8, (0,) + (2**32 - 1,) * 3, b""), "claims the shape"),
    "just too large": (idx_bytes(8, (2**31 + 1,), b""), "claims the shape"),
    "gigabytes claimed": (idx_bytes(8, (2**31,), b"abc"), "(holds only 3 bytes|claims 2147483648)"),
}


@pytest.mark.parametrize("case", PLAIN)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_bad_content_is_refused(tmp_path, case, pack):
    content, message = PLAIN[case]
    (tmp_path / "bad").write_bytes(pack(content))
    with pytest.raises(InputError, match=message) as error:
        read_idx(tmp_path / "bad")
    assert "bad: " in str(error.value)
    assert "expected" in str(error.value)
    assert "\n" not in str(error.value)


def broken_gzip() -> dict[str, bytes]:
    packed = gzip.compress(idx_bytes(8, (1000,), bytes(range(250)) * 4), mtime=0)
    return {
        "magic only": packed[:2],
        "cut in the header": packed[:6],
        "cut in the data": packed[:-20],
        "cut in the checksum": packed[:-4],
        "wrong checksum": packed[:-8] + b"\0\0\0\0" + packed[-4:],
        "wrong length": packed[:-4] + b"\0\0\0\0",
        "corrupt data": packed[:10] + b"\xff" * 20 + packed[30:],
        "unknown method": packed[:2] + b"\x07" + packed[3:],
        "garbage behind": packed + b"garbage",
    }


@pytest.mark.parametrize("case", broken_gzip())
def test_broken_gzip_is_refused(tmp_path, case):
    (tmp_path / "bad").write_bytes(broken_gzip()[case])
    with pytest.raises(InputError, match=r"bad: .*expected") as error:
        read_idx(tmp_path / "bad")
    assert "\n" not in str(error.value)


def test_a_compressed_flood_is_not_unpacked(tmp_path):
    # 1 GiB of zeros packs into 1 MB; the header claims 10 bytes, so 11 are asked for. A piece at a
    # time is what zlib inflates: a small factor of a mebibyte bounds the memory.
    import tracemalloc

    packer = zlib.compressobj(1, wbits=31)
    with (tmp_path / "bad").open("wb") as file:
        file.write(packer.compress(idx_bytes(8, (10,), b"")))
        for _ in range(64):
            file.write(packer.compress(bytes(2**20)))
        file.write(packer.flush())
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="holds more bytes"):
            read_idx(tmp_path / "bad")
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["absent", ".", "absent/file", "a\0b"])
def test_what_is_not_a_file_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="not a file"):
        read_idx(tmp_path / name)


@pytest.mark.parametrize(
    "array",
    [np.zeros(3), np.zeros(3, bool), np.zeros(3, complex), np.array(["a"]), np.array(1.0)],
    ids=["", "bool", "complex", "text", "no dimension"],
)
def test_what_idx_cannot_hold_is_refused(tmp_path, array):
    array = array.astype(np.int64) if array.dtype == float and array.ndim else array
    with pytest.raises(InputError, match="expected"):
        write_idx(tmp_path / "a", array)
    assert not list(tmp_path.iterdir())


def test_an_unwritable_place_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected a file to write to"):
        write_idx(tmp_path / "absent" / "a", np.zeros(3))


def test_mnist_subset():
    train, test = load("mnist-subset", "train"), load("mnist-subset", "test")
    assert train.x.shape == (5000, 1, 28, 28)
    assert test.x.shape == (1000, 1, 28, 28)
    np.testing.assert_array_equal(np.bincount(train.y), [500] * 10)
    np.testing.assert_array_equal(np.bincount(test.y), [100] * 10)
    for digits in (train, test):
        assert digits.x.dtype == np.float32
        assert (digits.x.min(), digits.x.max()) == (0.0, 1.0)
        assert digits.y.dtype == np.int64
    # The first labels of the published files, as their description lists them.
    np.testing.assert_array_equal(train.y[:10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4])
    np.testing.assert_array_equal(test.y[:10], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9])


def test_fashion_subset():
    garments = load("fashion-subset", "test")
    assert garments.x.shape == (1000, 1, 28, 28)
    assert garments.x.dtype == np.float32
    assert garments.y.dtype == np.int64
    assert (garments.x.min(), garments.x.max()) == (0.0, 1.0)
    np.testing.assert_array_equal(np.bincount(garments.y), [100] * 10)


def test_images_and_labels_belong_together():
    # A nearest class mean gets about 80 % of MNIST (LeCun 1998: linear classifier 88 %) and 10 %
    # where labels are shuffled; 0.7 lies 40 standard errors above the latter.
    train, test = load("mnist-subset", "train"), load("mnist-subset", "test")
    x_train, x_test = (digits.x.reshape(len(digits), -1).astype(float) for digits in (train, test))
    means = np.stack([x_train[train.y == digit].mean(axis=0) for digit in range(10)])
    nearest = np.argmin(((x_test[:, None] - means) ** 2).sum(axis=2), axis=1)
    assert np.mean(nearest == test.y) > 0.7


def test_packaged_names():
    assert packaged("README.md").is_file()
    for name in ("absent", "../idx.py", ""):
        with pytest.raises(InputError, match="not a packaged file"):
            packaged(name)


def test_the_readme_states_the_checksums():
    import hashlib

    text = packaged("README.md").read_text(encoding="utf-8")
    for name in [*FILES, "mtj_conductance.csv"]:
        assert f"{hashlib.sha256(packaged(name).read_bytes()).hexdigest()}  {name}" in text


def test_first_of_each_class():
    labels = np.tile(np.arange(10), 3)[::-1]
    np.testing.assert_array_equal(first_of_each_class(labels, 2), np.arange(20))
    with pytest.raises(InputError, match="class 0: 3 examples; expected at least 4"):
        first_of_each_class(labels, 4)


def test_subset_refuses_what_is_not_mnist(tmp_path, capsys):
    assert main([str(tmp_path), str(tmp_path), str(tmp_path / "out")]) == 2
    assert "train-images-idx3-ubyte.gz: not a file" in capsys.readouterr().err
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", np.zeros((20, 28, 28), np.uint8))
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.zeros(19, np.uint8))
    assert main([str(tmp_path), str(tmp_path), str(tmp_path / "out")]) == 2
    assert "one uint8 label for each of 20 images" in capsys.readouterr().err
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.zeros(20, np.uint8))
    assert main([str(tmp_path), str(tmp_path), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "train-labels-idx1-ubyte.gz: class 0: 20 examples" in error
    assert error.count("\n") == 1
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", np.zeros((20, 27, 28), np.uint8))
    assert main([str(tmp_path), str(tmp_path), str(tmp_path / "out")]) == 2
    assert "expected uint8 images of 28 by 28" in capsys.readouterr().err


def test_subset_makes_the_packaged_files_again(tmp_path):
    folder = Path(os.environ.get("REFBNN_DATA", ""))
    if not os.environ.get("REFBNN_DATA"):
        pytest.skip("REFBNN_DATA is not set: it names a folder with mnist/ and fashion_mnist/")
    if not ((folder / "mnist").is_dir() and (folder / "fashion_mnist").is_dir()):
        pytest.skip("the folder REFBNN_DATA names does not hold mnist/ and fashion_mnist/")
    assert main([str(folder / "mnist"), str(folder / "fashion_mnist"), str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    for name in FILES:
        again, kept = (tmp_path / name).read_bytes(), packaged(name).read_bytes()
        assert gzip.decompress(again) == gzip.decompress(kept)
        # zlib-ng, which some builds of Python use, finds other matches: same content, other bytes.
        if "ng" not in zlib.ZLIB_RUNTIME_VERSION:
            assert again == kept
