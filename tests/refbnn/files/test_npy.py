import io

import numpy as np
import pytest

from refbnn import InputError
from refbnn.files.npy import parse


def saved(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def headed(shape, descr="<f8"):
    """A file without numbers whose header is of the right form but for its shape or type."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    header = header.ljust(-(len(header) + 11) % 64 + len(header)) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


def test_the_header_below_is_of_the_right_form():
    assert headed("(0, 4)") == saved(np.zeros((0, 4)))[:128]
    assert parse(headed("(0, 4)"), "x").shape == (0, 4)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(24, dtype=np.int16).reshape(2, 3, 4)),
        np.float32(1.5) * np.ones(5, np.float32),
        np.array(7),
        np.zeros((0, 4)),
        np.array([True, False]),
        np.ones((2, 2), ">f4"),
    ],
)
def test_what_numpy_writes_comes_back(array):
    got = parse(saved(array), "x")
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"PK\x03\x04 an archive",
        saved(np.array([{}], dtype=object)),
        saved(np.ones(2, "f4,i4")),
        saved(np.array(["text"])),
        saved(np.ones(3))[:-1],
        saved(np.ones(3)) + b"\0",
        saved(np.ones(3)).replace(b"(3,)", b"(9" + b"9" * 40 + b",)"),
        saved(np.ones((1, 3))).replace(b"(1, 3)", b"(True, 3)"),
        saved(np.ones(3)).replace(b"(3,)", b"((3,"),
        saved(np.ones(3)).replace(b"'<f8'", b"'<f9'"),
        saved(np.ones(3)).replace(b"\x01\x00", b"\x03\x00", 1),
        headed("(0, 99999999999999999999)"),
        headed("(0, 9999999999999)"),
        headed("(2 7, 784)"),
        headed("(2,,7)"),
        headed("(-2, 0)"),
        headed("( 3)"),
        headed("(False, 0)"),
        headed("(0,)", "O"),
        headed("(0,)", "<f16"),
        headed("(0,)", "<c8"),
        headed("(0,)", "<M8"),
        headed("(" + "0, " * 32 + "0)"),
        saved(np.array([True])).replace(b"\n\x01", b"\n\x02"),
    ],
)
def test_anything_else_is_refused(raw):
    with pytest.raises(InputError, match="x: "):
        parse(raw, "x")
