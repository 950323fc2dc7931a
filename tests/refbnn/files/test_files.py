import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from refbnn.errors import InputError
from refbnn.files.atomic import require_writable, temporary_name, write_text, written_atomically


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


LEFT = """
import os, signal, sys
from refbnn.files.atomic import written_atomically
with written_atomically(sys.argv[1]) as path:
    path.write_text("half of something long")
    if len(sys.argv) > 2:
        print("writing", flush=True)
        sys.stdin.readline()
    else:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_write_leaves_is_used_by_the_next(tmp_path):
    path = tmp_path / "a.npz"
    path.write_text("before")
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", LEFT, path], check=False)
        assert done.returncode == -signal.SIGKILL
        assert path.read_text() == "before"
        assert len(os.listdir(tmp_path)) == 2
    write_text(path, "short")
    assert path.read_text() == "short"
    assert os.listdir(tmp_path) == ["a.npz"]


def test_two_processes_wait_for_each_other(tmp_path):
    """The second begins only when the first has ended; each file is whole, the last one wins."""
    path = tmp_path / "a.npz"
    words = [sys.executable, "-c", LEFT, str(path), "wait"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        assert first.stdout.readline() == "writing\n"
        thread = threading.Thread(target=write_text, args=(path, "second"))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()  # waits
        assert not path.exists()
        first.stdin.write("\n")
        first.stdin.flush()
        assert first.wait() == 0
        thread.join(30)
    assert path.read_text() == "second"
    assert os.listdir(tmp_path) == ["a.npz"]


def test_names_of_other_targets_are_other_ones(tmp_path):
    names = [tmp_path / name for name in ("x" * 60 + "1.npz", "x" * 60 + "2.npz", "x.npz", "x.png")]
    temporary = [temporary_name(path) for path in names]
    assert len(set(temporary)) == len(names)
    assert [path.suffix for path in temporary] == [path.suffix for path in names]


def test_content_reaches_the_disk_before_the_name(tmp_path, monkeypatch):
    """The order that survives a loss of power: the file, its name, the folder."""
    done = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle):
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
        done.append((kind, os.fstat(handle).st_size if kind == "file" else None))
        fsync(handle)

    def noted_replace(source, target):
        done.append(("name", None))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_text(tmp_path / "a.txt", "12345")
    assert done == [("file", 5), ("name", None), ("folder", None)]
