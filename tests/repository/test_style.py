"""The linter, the formatter and the type checker hold over the whole tree."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("words", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]])
def test_tool_is_content(words):
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_compiled_functions_are_kept_outside_the_package():
    """Files beside the sources would outlive an uninstall, and hide the package's next install."""
    program = (
        "import os, refbnn.training.optimise, numba; print(numba.config.CACHE_DIR);"
        "print(os.path.dirname(refbnn.__file__))"
    )
    environment = {n: v for n, v in os.environ.items() if n != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    cache, package = done.stdout.splitlines()
    assert cache
    assert not cache.startswith(package)
