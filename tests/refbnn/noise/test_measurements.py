"""Files of measurements, good and bad."""

import gzip
import os
import threading

import numpy as np
import pytest

from refbnn.errors import InputError
from refbnn.noise import measurements, read_measurements


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


NUMBERS = "\n".join(str(k % 17) for k in range(100))

BAD_FILES = {
    "empty": ("", "no rows"),
    "header only": ("g\n", "0 values"),
    "too few": ("g\n1\n2\n", "2 values"),
    "words": (f"g\n{NUMBERS}\nabc\n", "line 102, column 'g' holds 'abc'; expected a finite number"),
    "nan": (f"g\n{NUMBERS}\nnan\n", r"1 missing of 101 values \(line 102: 'nan'\)"),
    "infinity": (f"g\ninf\n{NUMBERS}\n", "beyond the instrument's range of 101 .*line 2"),
    "constant": ("g\n" + "2.5\n" * 80, "every value in column 'g' is 2.5"),
    "overflow": ("g\n" + "1e308\n-1e308\n0\n1\n" * 30, "expected more than rounding"),
    "rounding": ("g\n" + "".join(f"{10**15 + k % 5}\n" for k in range(90)), "more than rounding"),
    "underflow": ("g\n" + "".join(f"{k}e-320\n" for k in range(90)), "more than rounding"),
    "ragged": (f"g\n{NUMBERS}\n1,2\n", "line 102 has 2 fields; expected 1"),
    "two columns": ("a,b\n1,2\n", "columns 'a', 'b'; expected the name of one"),
    "no header": (NUMBERS, "the first row holds numbers"),
    "endless line": ("g\n" + "1" * 100_000, "a line of over 65536 characters"),
    "binary": (b"\x80\x81\xff" * 50, "expected a CSV file"),
    "broken gzip": (b"\x1f\x8b\x08\x00garbage", "expected a CSV file"),
    "null bytes": (b"g\n1\n\x00\n", "line 3 holds NUL characters"),
}


@pytest.mark.parametrize(("text", "words"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_measurement_files_are_refused(tmp_path, text, words):
    path = write(tmp_path / "noise.csv", text)
    with pytest.raises(InputError, match=words) as caught:
        read_measurements(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_measurement_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv: No such file"):
        read_measurements(tmp_path / "none.csv")
    with pytest.raises(InputError, match="expected a CSV file"):
        read_measurements(tmp_path)


def test_column_and_condition_choose_rows(tmp_path):
    rows = "".join(f"{k % 2},{k},{k * 0.5}\n" for k in range(200))
    path = write(tmp_path / "noise.csv", "range,k,conductance_uS\n" + rows)
    values, column = read_measurements(path, where={"range": 1})
    assert column == "conductance_uS"
    np.testing.assert_array_equal(values, 0.5 * np.arange(1, 200, 2))
    values, column = read_measurements(path, "k")
    np.testing.assert_array_equal(values, np.arange(200))
    with pytest.raises(InputError, match="no single column 'x'"):
        read_measurements(path, "x")
    with pytest.raises(InputError, match="0 values in column 'k' where range = 7"):
        read_measurements(path, "k", {"range": 7})


def test_the_number_of_rows_is_limited(tmp_path, monkeypatch):
    path = write(tmp_path / "noise.csv", f"g\n{NUMBERS}\n")
    monkeypatch.setattr(measurements, "MAX_ROWS", 100)
    assert read_measurements(path)[0].size == 100
    monkeypatch.setattr(measurements, "MAX_ROWS", 99)
    with pytest.raises(InputError, match="more than 99 rows"):
        read_measurements(path, where={"g": 3})


def test_a_pipe_and_a_byte_order_mark_are_read(tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    rows = "".join(f"{k}\n" for k in range(20_000))
    writer = threading.Thread(target=write, args=(fifo, "\ufeffg\n" + rows))
    writer.start()
    values, column = read_measurements(fifo)
    writer.join()
    assert column == "g"
    np.testing.assert_array_equal(values, np.arange(20_000))


def test_gzip_is_recognised_by_content(tmp_path):
    path = write(tmp_path / "noise.csv", gzip.compress(f"g\n{NUMBERS}\n".encode()))
    values, _ = read_measurements(path)
    assert values.size == 100
