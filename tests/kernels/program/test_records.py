"""Files of records from elsewhere; other faults of one record stand in the tests of tuning."""

import json

import pytest

from kernels.program import records
from refbnn import InputError

RECORD = {
    "workload": "dense 6x5 batch 1",
    "processor": {"mcpu": "cortex-a72", "lanes": 4, "registers": 32},
    "decisions": {"rows": 1},
    "seconds": 1e-6,
    "seconds_by_hand": 2e-6,
    "trials": 7,
    "tvm": "0",
}
TEXT = json.dumps({"version": 1, "records": [RECORD]})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TEXT.replace('{"rows": 1}', "[" * 900 + "]" * 900), "nests deeper"),
        (TEXT.replace('{"rows": 1}', '{"rows": ' + "[" * 50 + "]" * 50 + "}"), "decision 'rows'"),
        (TEXT.replace("1e-06", "NaN"), "not JSON"),
        (TEXT.replace("2e-06", "1e999"), "not JSON"),
        (TEXT.replace('"trials": 7', '"trials": 7, "trials": 8'), "holds 'trials' twice"),
        (TEXT.replace('"tvm": "0"', '"tvm": ' + "9" * 5000), "not JSON"),
        (TEXT.replace('"tvm": "0"', f'"tvm": ["{"y" * 5000}"]'), "record 0: tvm is"),
    ],
)
def test_hostile_files_are_one_short_line(text, words, tmp_path):
    file = tmp_path / "host.json"
    file.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        records.read(file)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < len(str(file)) + 200


def test_a_byte_order_mark_is_no_fault(tmp_path):
    file = tmp_path / "host.json"
    file.write_text(TEXT, encoding="utf-8-sig")
    assert records.read(file)[0].decisions == {"rows": 1}
