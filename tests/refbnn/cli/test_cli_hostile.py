"""Commands and the places they run in: one line and exit code 2, or none and the usual output."""

import os
import subprocess
import sys

import numpy as np
import pytest

from refbnn import Network, cli, save
from refbnn.layers import Dense


def run(capsys, *words):
    code: object
    try:
        code = cli.main([str(word) for word in words])
    except SystemExit as exit_:
        code = exit_.code
    return code, capsys.readouterr().err


@pytest.fixture
def model(tmp_path):
    save(tmp_path / "m.npz", Network([Dense(3, 2)]))
    return tmp_path / "m.npz"


@pytest.mark.parametrize("method", ["pfp", "svi"])
def test_inputs_that_overflow_are_one_line(method, model, tmp_path, capsys, recwarn):
    np.save(tmp_path / "x.npy", np.full((2, 3), 1e308))
    words = ("predict", model, tmp_path / "x.npy", "--method", method, "-o", tmp_path / "o.csv")
    code, error = run(capsys, *words)
    assert code == 2
    assert error.count("\n") == 1
    assert "expected" in error
    assert not recwarn.list
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("data list >&-", "standard output is closed"),
        ("data list >/dev/full", "No space left on device"),
        ("data nothing 2>&-", ""),
        ("data show nothing -o none.png 2>/dev/full", ""),
    ],
)
def test_closed_and_full_outputs_are_no_traceback(line, words):
    words_of_shell = ["bash", "-c", f"'{sys.executable}' -m refbnn {line}"]
    done = subprocess.run(words_of_shell, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == (words != "")


def test_a_user_without_a_home_and_without_a_cache_can_work(tmp_path):
    """Numba refuses to load functions whose compiled form it can keep nowhere."""
    code = (
        "import os, pathlib, sys\n"
        "def no_home(cls): raise RuntimeError('Could not determine home directory.')\n"
        "pathlib.Path.home = classmethod(no_home)\n"
        "import refbnn\n"
        "folder = os.environ['NUMBA_CACHE_DIR']\n"
        "assert os.stat(folder).st_mode & 0o777 == 0o700, folder\n"
        "print(folder)\n"
    )
    environment = {n: v for n, v in os.environ.items() if n != "NUMBA_CACHE_DIR"}
    for cache in ("", "relative", "/dev/null"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment | {"XDG_CACHE_HOME": cache, "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        assert done.stdout.startswith(str(tmp_path))
        assert os.listdir(tmp_path) == []  # removed when the process has ended
