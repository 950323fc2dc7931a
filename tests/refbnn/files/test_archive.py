"""Small files that claim to unpack to much; see `refbnn.files.archive`."""

import gzip
import tracemalloc
import zipfile

import numpy as np
import pytest

from refbnn.data import read_idx
from refbnn.errors import InputError
from refbnn.files.archive import read_members, unpacked_limit

MANY = 40_000_000  # bytes, more than any small file may unpack to


def zipped(path, content, method):
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as file:
        file.writestr("a.npy", content)


def peak_of(refused, *arguments, **named):
    """Bytes that are held at most until InputError is raised."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="expected at most"):
            refused(*arguments, **named)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_compressed_archive_unpacks_to_a_moderate_multiple(tmp_path):
    path = tmp_path / "a.npz"
    zipped(path, bytes(MANY), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < MANY / 100
    assert peak_of(read_members, path, "a file", stored=False) < 1_000_000
    zipped(path, bytes(1_000_000), zipfile.ZIP_DEFLATED)  # equal scales of a small network
    assert read_members(path, "a file", stored=False) == {"a.npy": bytes(1_000_000)}


def test_members_longer_than_the_file_are_refused(tmp_path):
    """The directory's packed size alone is forged; zipfile would ask for 2 GB to read it."""
    path = tmp_path / "a.npz"
    zipped(path, b"12345678", zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\1\2") + 20
    content[at : at + 4] = (2**31 - 1).to_bytes(4, "little")
    path.write_bytes(content)
    assert peak_of(read_members, path, "a file", stored=True) < 1_000_000


def test_a_compressed_data_set_unpacks_to_a_moderate_multiple(tmp_path):
    path = tmp_path / "a.gz"
    header = b"\0\0\x08\1" + MANY.to_bytes(4, "big")
    path.write_bytes(gzip.compress(header + bytes(MANY), 1))
    assert peak_of(read_idx, path) < 1_000_000


def test_usual_data_sets_and_posteriors_stay_far_below_the_limit():
    """MNIST's images: 9,912,422 bytes packed, 47,040,016 unpacked. Random weights do not shrink."""
    assert unpacked_limit(9_912_422) > 4 * 47_040_016
    assert unpacked_limit(100) == 2**25
    assert unpacked_limit(2**31) == 2**31


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_numpy_does_not_write_are_refused(method, tmp_path):
    """Their decompressors ask for memory that the file names."""
    zipped(tmp_path / "a.npz", np.ones(3).tobytes(), method)
    with pytest.raises(InputError, match="expected it stored or deflated"):
        read_members(tmp_path / "a.npz", "a file", stored=False)
