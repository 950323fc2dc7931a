import io

import numpy as np
import pytest

from refbnn import InputError
from refbnn.files.npy import parse


def saved(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


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
    ],
)
def test_anything_else_is_refused(raw):
    with pytest.raises(InputError, match="x: "):
        parse(raw, "x")
