"""The README's commands exist and are the ones that CI runs."""

import re
from pathlib import Path

import pytest

from refbnn import cli

ROOT = Path(__file__).resolve().parents[2]


def test_two_commands_set_up_everything():
    readme = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
    main_job, tests = block.strip().splitlines()
    assert main_job.endswith("refbnn reproduce")
    assert tests.endswith("-m pytest")


def test_pictures_in_the_readme_are_there():
    readme = (ROOT / "README.md").read_text()
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", readme)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).is_file()


def test_every_command_in_the_readme_is_a_command(capsys):
    readme = (ROOT / "README.md").read_text()
    for command in set(re.findall(r"`refbnn (\w+)", readme)):
        with pytest.raises(SystemExit) as end:
            cli.main([command, "--help"])
        assert end.value.code == 0, command
    capsys.readouterr()
