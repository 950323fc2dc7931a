import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from refbnn.errors import InputError
from refbnn.files.atomic import require_writable, temporary_names, write_text, written_atomically


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


def test_the_next_write_removes_what_a_killed_one_left(tmp_path):
    path = tmp_path / "a.npz"
    path.write_text("before")
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", LEFT, path], check=False)
        assert done.returncode == -signal.SIGKILL
        assert path.read_text() == "before"
        assert len(os.listdir(tmp_path)) == 2
    write_text(tmp_path / "b.npz", "another target")
    assert len(os.listdir(tmp_path)) == 3
    write_text(path, "short")
    assert path.read_text() == "short"
    assert sorted(os.listdir(tmp_path)) == ["a.npz", "b.npz"]


def test_two_processes_do_not_disturb_each_other(tmp_path):
    """The file of a process that still writes is no leftover; the last one wins."""
    path = tmp_path / "a.npz"
    words = [sys.executable, "-c", LEFT, str(path), "wait"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        assert first.stdout.readline() == "writing\n"
        write_text(path, "second")
        assert path.read_text() == "second"
        first.stdin.write("\n")
        first.stdin.flush()
        assert first.wait() == 0
    assert path.read_text() == "half of something long"
    assert os.listdir(tmp_path) == ["a.npz"]


def test_only_own_leftovers_are_removed(tmp_path):
    """A link, a folder, or another's name that looks alike stays, and what a link points to."""
    path, other = tmp_path / "a.npz", tmp_path / "other"
    other.write_text("precious")
    start, end = temporary_names(path)
    (tmp_path / f"{start}abcdefgh{end}").symlink_to(other)
    (tmp_path / f"{start}folder00{end}").mkdir()
    (tmp_path / f"{start}too-long-a-word{end}").write_text("kept")
    os.mkfifo(tmp_path / f"{start}pipe0000{end}")
    (tmp_path / f"{start}12345678{end}").write_text("left")
    before = set(os.listdir(tmp_path))
    write_text(path, "new")
    assert other.read_text() == "precious"
    assert before - set(os.listdir(tmp_path)) == {f"{start}12345678{end}"}


def test_a_planted_link_is_never_written_through(tmp_path, monkeypatch):
    """Whoever guesses the temporary name and plants a link there gets nothing written."""
    path, other = tmp_path / "a.txt", tmp_path / "other"
    other.write_text("precious")
    start, end = temporary_names(path)
    names = iter(["guessed0", "another0"])
    monkeypatch.setattr(tempfile, "_get_candidate_names", lambda: names)
    (tmp_path / f"{start}guessed0{end}").symlink_to(other)
    write_text(path, "new")
    assert (path.read_text(), other.read_text()) == ("new", "precious")


def test_a_file_that_takes_the_place_of_the_temporary_one_is_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")

    def swapped():
        with written_atomically(path) as temporary:
            temporary.unlink()
            temporary.symlink_to(tmp_path / "other")

    with pytest.raises(InputError, match="took the place"):
        swapped()
    assert path.read_text() == "before"


def test_links_to_the_target_are_followed(tmp_path):
    (tmp_path / "folder").mkdir()
    real, link = tmp_path / "folder" / "real.txt", tmp_path / "link.txt"
    link.symlink_to(real)
    require_writable(link)
    write_text(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs Linux's /proc")
def test_a_folder_in_which_no_file_can_be_made_is_found_before_long_work():
    """Permissions of /proc look writable to root."""
    with pytest.raises(InputError, match="not writable"):
        require_writable("/proc/a.npz")
    require_writable("/dev/full")  # no regular file: written directly
    with pytest.raises(InputError, match="No space left on device"):
        write_text("/dev/full", "text")


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """Writing beyond the limit of a file's size fails as writing to a full disk does."""
    path = tmp_path / "a.txt"
    path.write_text("before")
    code = (
        "import resource, signal, sys\n"
        "from refbnn.files.atomic import write_text\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_text(sys.argv[1], 'x' * 2000)\n"
    )
    words = [sys.executable, "-c", code, path]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "InputError" in done.stderr.splitlines()[-1]
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
def test_names_that_no_file_can_have_are_refused(name):
    for refused in (require_writable, lambda path: write_text(path, "x")):
        with pytest.raises(InputError, match="no name of a file"):
            refused(name)


def test_names_of_other_targets_are_other_ones(tmp_path):
    names = [tmp_path / name for name in ("x" * 60 + "1.npz", "x" * 60 + "2.npz", "x.npz", "x.png")]
    temporary = [temporary_names(path) for path in names]
    assert len(set(temporary)) == len(names)
    assert [end for _, end in temporary] == [path.suffix for path in names]


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
