"""The documents: paths that they name exist, and commands are those of the command line."""

import argparse
import re
import shlex
import shutil
from pathlib import Path

import pytest

from refbnn import cli
from refbnn.cli import figures
from refbnn.data import packaged

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for path in (*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/**/*.md"))
    if not {"build", "report"} & set(path.relative_to(ROOT).parts)
)
every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=str)


def text_of(document):
    return (ROOT / document).read_text(encoding="utf-8")


def named_paths(text):
    """Backquoted folders and source files, all that begins in this tree, and targets of links."""
    for word in re.findall(r"`([\w./-]+/[\w.-]*)`", text):
        if word.endswith(("/", ".py")) or (ROOT / word.split("/")[0]).exists():
            yield word
    for target in re.findall(r"\]\(([^)]*)\)", text):
        if "://" not in target:
            yield target.partition("#")[0].strip()


def code_of(text):
    """Text in backquotes, and lines of blocks of code."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from (" ".join(words.split()) for words in re.findall(r"`([^`]+)`", rest))
    yield from re.findall(r"^ {4}(.*)$", rest, re.MULTILINE)
    for block in blocks:
        yield from block.splitlines()


def commands_in(text):
    """Words of each call of refbnn."""
    for line in code_of(text):
        for call in re.split(r"&&|\|", line):
            words = shlex.split(call, comments=True) if "refbnn" in call else []
            while words and not words[0].endswith("refbnn"):
                words = words[1:]
            if len(words) > 1 and words[0] in ("refbnn", ".venv/bin/refbnn") and words[1][0] != "-":
                yield words[1:]


def parser_of(words):
    """Parser of a command, and its words after the name; KeyError if there is none."""
    command, *words = words
    if command not in cli.COMMANDS:
        raise KeyError(command)
    parser = cli.parser_of(command)
    actions = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if actions and words:
        parser, words = actions[0].choices[words[0]], words[1:]
    return parser, words


@every_document
def test_paths_exist(document):
    folders = (ROOT, (ROOT / document).parent)
    for path in named_paths(text_of(document)):
        assert any((folder / path).exists() for folder in folders), path


@every_document
def test_commands_are_commands(document):
    for words in commands_in(text_of(document)):
        parser, arguments = parser_of(words)
        options = [word.partition("=")[0] for word in arguments if re.match(r"--?[a-z]", word)]
        assert set(options) <= set(parser._option_string_actions), words
        if words[0] == "figures" and arguments and not arguments[0].startswith("-"):
            assert arguments[0] in (*figures.NAMES, "NAME"), words


def test_what_is_checked_is_found():
    text = "See `kernels/no/such.py`, [this](no.md).\n\n    refbnn noise fit --no x  # here\n"
    assert list(named_paths(text)) == ["kernels/no/such.py", "no.md"]
    assert list(commands_in(text)) == [["noise", "fit", "--no", "x"]]
    parser, _ = parser_of(["noise", "fit"])
    assert "--column" in parser._option_string_actions
    assert "--no" not in parser._option_string_actions
    with pytest.raises(KeyError):
        parser_of(["prophesy"])


def test_two_commands_set_up_everything():
    (block,) = re.findall(r"```sh\n(.*?)```", text_of("README.md"), re.DOTALL)
    main_job, tests = block.strip().splitlines()
    assert main_job.endswith("refbnn reproduce")
    assert tests.endswith("-m pytest")


def test_rooms_have_documents():
    for room in ("refbnn", "kernels", "verification", "figures"):
        assert Path(room, "README.md") in DOCUMENTS


def test_the_example_in_python_runs(tmp_path, monkeypatch):
    """On the packaged measurements, trained for one epoch."""
    (example,) = re.findall(r"```python\n(.*?)```", text_of("README.md"), re.DOTALL)
    shutil.copy(packaged("mtj_conductance.csv"), tmp_path / "values.csv")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(example.replace("epochs=30", "epochs=1"), names)
    assert names["fast"](names["x"][:1]).var.shape == (1, 10)
