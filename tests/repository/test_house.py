"""Standards of the house: import directions, sizes, docstrings, and examples that run."""

import ast
import doctest
import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("refbnn", "kernels", "verification", "figures", "tests")
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
FOLDERS = sorted({path.parent for path in SOURCES})
PACKAGES = ("refbnn", "refbnn.layers", "refbnn.noise", "refbnn.prior", "kernels")

MOST_AT_THE_TOP = 14  # modules and folders of a package
MOST_FILES = 20
MOST_LINES = 80  # of a function
# Words that leave a docstring's subject to the reader.
UNNAMED = ("As", "Of", "That", "Those of", "What")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def public_names() -> list[tuple[str, str]]:
    """Every public name, with the first package that hands it on."""
    homes: dict[int, tuple[str, str]] = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            if isinstance(getattr(module, name), ModuleType):
                continue  # its names are public, not itself
            homes.setdefault(id(getattr(module, name)), (package, name))
    return sorted(homes.values())


def test_imports_point_down():
    """The contracts in `setup.cfg`: floors of the packages, no circles, no TVM below the top."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", ["refbnn", "kernels"])
def test_the_top_of_a_package_is_a_table_of_contents(package):
    shown = [
        path.name
        for path in (ROOT / package).iterdir()
        if (path.suffix == ".py" and not path.name.startswith("__"))
        or (path.is_dir() and any(path.rglob("*.py")))
    ]
    assert len(shown) <= MOST_AT_THE_TOP, sorted(shown)


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_a_folder_holds_few_files(folder):
    files = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= MOST_FILES, sorted(files)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_functions_are_short(path):
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= MOST_LINES
    ]
    assert not long


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_docstrings_name_their_subject_first(path):
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    openings = [
        ast.get_docstring(node)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, kinds)
    ]
    unnamed = [
        text.splitlines()[0]
        for text in openings
        if text and text.startswith(tuple(f"{words} " for words in UNNAMED))
    ]
    assert not unnamed


@pytest.mark.parametrize(("package", "name"), public_names())
def test_a_public_name_has_an_example_that_runs(package, name):
    module = importlib.import_module(package)
    # What a user has after `from package import *`, and NumPy.
    names = {"np": np} | {public: getattr(module, public) for public in module.__all__}
    found = doctest.DocTestFinder().find(names[name], f"{package}.{name}", globs=names)
    assert any(test.examples for test in found), "no example"
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in found:
        runner.run(test, out=said.append)
    assert not said, "".join(said)
