import os

import pytest

from refbnn.errors import InputError
from refbnn.files import require_writable, write_text, written_atomically


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")

    def fail():
        with written_atomically(path) as temporary:
            temporary.write_text("half")
            assert temporary.suffix == ".txt"
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_finished_file_has_usual_permissions(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "after")
    (tmp_path / "usual").touch()
    assert path.read_text() == "after"
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_places_that_cannot_be_written_are_refused(tmp_path):
    for target in (tmp_path / "none" / "a.txt", tmp_path):
        with pytest.raises(InputError, match="expected a file to write to"):
            write_text(target, "x")
        with pytest.raises(InputError, match="not writable"):
            require_writable(target)
