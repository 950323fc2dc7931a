"""Mutated files of every kind: a result, or InputError; see `tests.helpers.fuzz` for the claim."""

import json
import subprocess
import sys

import pytest

from tests.helpers import fuzz

_CHUNK = 3000


def run(first, count, folder, *kinds):
    words = [
        sys.executable,
        "-m",
        "tests.helpers.fuzz",
        str(first),
        str(count),
        str(folder),
        *kinds,
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["bytes"] < fuzz.MOST_MEMORY
    # Neither is everything refused, nor is everything read: then mutations would miss their aim.
    assert 0.3 * count < sum(found["refused"].values()) < 0.97 * count


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory by Linux's means")
def test_some_mutated_files_are_read_or_refused(tmp_path):
    run(0, 200, tmp_path)


@pytest.mark.fuzz
@pytest.mark.parametrize("first", range(0, 27_000, _CHUNK))
def test_many_mutated_files_are_read_or_refused(first, tmp_path):
    run(first, _CHUNK, tmp_path)


@pytest.mark.fuzz
def test_many_mutated_records_are_read_or_refused(tmp_path):
    run(27_000, _CHUNK, tmp_path, "records")
