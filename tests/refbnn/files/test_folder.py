"""A folder is replaced whole, whatever moment a run is killed at."""

import os
import signal
import subprocess
import sys

import pytest

from refbnn import InputError
from refbnn.files import folder as module
from refbnn.files.atomic import leftovers, temporary_names
from refbnn.files.folder import write_folder

NAMES = {"a.h", "b.c"}
OLD, NEW = {"a.h": b"old", "b.c": b"old"}, {"a.h": b"new"}
# Kills itself at the n-th call that changes names or removes files; the fallback has no exchange.
KILLED = """
import os, pathlib, shutil, signal, sys
from refbnn.files import folder as module
count = 0

def counted(function):
    def call(*arguments, **named):
        global count
        count += 1
        if count == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return call

exchanged = counted(module._exchanged) if sys.argv[3] == "exchange" else lambda *_: False
module._exchanged = exchanged
pathlib.Path.rename = counted(pathlib.Path.rename)
module.sync_folder = counted(module.sync_folder)
module.write_folder(pathlib.Path(sys.argv[1]), {"a.h": b"new"}, {"a.h", "b.c"})
"""


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def killed_at(target, moment, how):
    words = [sys.executable, "-c", KILLED, target, str(moment), how]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs renameat2")
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_folder(tmp_path):
    target = tmp_path / "built"
    write_folder(target, OLD, NAMES)
    for moment in (1, 2, 3, 4):  # the files are there, before and after the exchange, the end
        assert killed_at(target, moment, "exchange") == (moment < 4)
        assert content(target) == (OLD if moment < 3 else NEW)
        write_folder(target, OLD, NAMES)
        assert os.listdir(tmp_path) == ["built"]


def test_without_an_exchange_the_next_run_puts_the_old_folder_back(tmp_path, monkeypatch):
    target = tmp_path / "built"
    write_folder(target, OLD, NAMES)
    assert killed_at(target, 3, "no exchange")  # moved aside, the new one not yet in its place
    assert not target.exists()

    def refused(*_):
        raise OSError("no space")

    # Even if that run cannot write.
    monkeypatch.setattr(module, "_switch", refused)
    with pytest.raises(InputError, match="no space"):
        write_folder(target, NEW, NAMES)
    assert content(target) == OLD
    assert os.listdir(tmp_path) == ["built"]


def test_a_folder_of_a_living_process_is_no_leftover(tmp_path):
    target = tmp_path / "built"
    with module._temporary_folder(target) as work:
        (work / "new").mkdir()
        assert list(leftovers(target, folders=True)) == []
        write_folder(target, NEW, NAMES)
        assert (work / "new").is_dir()
    start, end = temporary_names(target)
    (tmp_path / f"{start}linkkkkk{end}").symlink_to(target)
    assert list(leftovers(target, folders=True)) == []
    assert content(target) == NEW


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux's /proc")
def test_a_folder_that_cannot_be_made_is_refused_before_work(tmp_path):
    with pytest.raises(InputError, match="not writable"):
        module.require_replaceable(module.Path("/proc/built"), NAMES)
