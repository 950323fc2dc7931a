import errno
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from refbnn import cli
from refbnn.cli import report
from refbnn.cli.output import as_json
from refbnn.errors import InputError
from refbnn.files.atomic import write_text
from tests.helpers.command import run
from tests.helpers.short_turns import shorten_turns

QUICK = ["--epochs", "2", "--mc-samples", "50000"]


def test_help_imports_nothing_heavy():
    code = (
        "import sys, refbnn.cli\n"
        "try: refbnn.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'scipy', 'numba', 'tvm', 'matplotlib', 'jinja2'} & set(sys.modules)\n"
        "sys.exit(','.join(heavy) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("reproduce", "verify"):
        assert command in done.stdout


@pytest.fixture(scope="module")
def two_reports(tmp_path_factory):
    """Two runs with one seed, short enough for a test: their exit codes and folders.

    Without the checks of kernels: a minute of compiling, which the tests of verification have.
    """
    import verification

    folder = tmp_path_factory.mktemp("reports")
    all_steps = verification.steps

    def steps(laws, target, device):
        compiled = "kernel", "compiled"
        every = all_steps(laws, target, device)
        return [step for step in every if not any(word in step.name for word in compiled)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "steps", steps)
        shorten_turns(patch)
        codes = [cli.main(["reproduce", "-o", str(folder / name), *QUICK]) for name in ("a", "b")]
    return codes, folder


def test_two_runs_with_one_seed_give_the_same_numbers(two_reports):
    _, folder = two_reports
    first, second = (json.loads((folder / name / "report.json").read_text()) for name in "ab")
    assert first.pop("timings") != second.pop("timings")
    assert first == second
    for picture in ("noise_fit.png", "predictive_moments.png", "uncertainty.png"):
        data = [(folder / name / picture).read_bytes() for name in "ab"]
        assert data[0].startswith(b"\x89PNG")
        assert data[0] == data[1]


def test_the_page_shows_every_section_picture_and_check(two_reports):
    codes, folder = two_reports
    page = (folder / "a" / "index.html").read_text()
    numbers = json.loads((folder / "a" / "report.json").read_text())
    for title in ("Overview", "Noise", "Train", "Propagate", "Compile", "Verify"):
        assert f"<h2>{title}</h2>" in page
    for picture in (folder / "a").glob("*.png"):
        assert f'src="{picture.name}"' in page
    for check in numbers["checks"]:
        assert check["name"] in page
    failed = [check["name"] for check in numbers["checks"] if not check["holds"]]
    assert codes == [int(bool(failed))] * 2


def test_no_temporary_folder_is_left(two_reports):
    _, folder = two_reports
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]


def test_a_check_that_fails_is_named_and_the_exit_code_is_1(capsys, monkeypatch, tmp_path):
    import verification
    from verification import Check, Step

    bad = Check("a wrong thing", "how", 2.0, 1.0, "unit", 1, 0)
    monkeypatch.setattr(verification, "steps", lambda *_: [Step("only", lambda *_: [bad])])
    code, out, err = run(capsys, "verify", "--json", tmp_path / "v.json")
    assert code == 1
    assert err == "refbnn verify: check failed: a wrong thing\n"
    assert "NO" in out
    (row,) = json.loads((tmp_path / "v.json").read_text())["checks"]
    assert row["holds"] is False


@pytest.fixture
def noise_files(tmp_path):
    good = "\n".join(str(v) for v in np.random.default_rng(0).random(200))
    texts = {
        "empty.csv": "",
        "words.csv": f"g\n{good}\nbroken\n",
        "nan.csv": f"g\n{good}\nnan\n",
        "constant.csv": "g\n" + "3\n" * 100,
        "few.csv": "g\n1\n2\n",
        "three.csv": "g\n" + "1\n2\n3\n" * 50,
        "two.csv": "a,b\n" + "1,2\n" * 100,
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return tmp_path


BAD_CALLS = {
    "missing file": (["--noise-data", "none.csv"], "none.csv: No such file"),
    "empty file": (["--noise-data", "empty.csv"], "empty.csv: no rows"),
    "words": (["--noise-data", "words.csv"], "words.csv: line 202, column 'g' holds 'broken'"),
    "nan": (["--noise-data", "nan.csv"], "nan.csv: column 'g': 1 missing of 201 values (line 202"),
    "constant": (["--noise-data", "constant.csv"], "constant.csv: every value"),
    "too few": (["--noise-data", "few.csv"], "few.csv: 2 values"),
    "three values": (["--noise-data", "three.csv"], "three.csv: 3 distinct values"),
    "which column": (["--noise-data", "two.csv"], "two.csv: columns 'a', 'b'"),
    "no such column": (["--noise-data", "two.csv", "--column", "c"], "no single column 'c'"),
    "column of nothing": (["--column", "g"], "expected --noise-data FILE"),
    "bad condition": (["--where", "range"], "expected NAME=VALUE"),
    "unknown target": (["--target", "abacus"], "target 'abacus' is unknown"),
    "epochs": (["--epochs", "0"], "expected an integer, at least 1"),
    "seed": (["--seed", "x"], "expected an integer, at least 0"),
    "samples": (["--mc-samples", "1000000000000"], "expected an integer, 50000 to 50000000"),
    "current folder": (["-o", "."], "is the current folder"),
    "long name": (["-o", "x" * 300], "File name too long"),
    "unknown option": (["--colour"], "no option '--colour'"),
}


@pytest.mark.parametrize(("words", "message"), BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_bad_calls_end_with_one_line_and_code_2(noise_files, monkeypatch, capsys, words, message):
    monkeypatch.chdir(noise_files)
    before = sorted(noise_files.iterdir())
    code, out, err = run(capsys, "reproduce", *QUICK, *words)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert sorted(noise_files.iterdir()) == before


def test_no_command_and_an_unknown_one(capsys):
    assert run(capsys)[0] == 2
    code, _, err = run(capsys, "destroy")
    assert code == 2
    assert err.count("\n") == 1


def test_an_interrupt_leaves_nothing(capsys, monkeypatch, tmp_path):
    from refbnn.cli.reproduce.stages import training

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "run", interrupted)
    code, _, err = run(capsys, "reproduce", "-o", tmp_path / "report", *QUICK)
    assert code == 130
    assert err == "refbnn reproduce: interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_report_is_kept(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    code, _, err = run(capsys, "reproduce", "-o", tmp_path, *QUICK)
    assert code == 2
    assert "exists and is not a report" in err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_with_anybody_elses_files_is_kept(tmp_path):
    """Neither another program's report.json nor a file beside our own report is ours to delete."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "report.json").write_text('{"jest": 1}')
    with report.folder(tmp_path / "ours") as work:
        report.write(work, "title", [], {})
    (tmp_path / "ours" / "notes.txt").write_text("years of work")
    for name in ("other", "ours"):
        with pytest.raises(InputError, match="not a report"), report.folder(tmp_path / name):
            pass
    # Also if the files come while the work is under way.
    with pytest.raises(InputError, match="not a report"), report.folder(tmp_path / "late"):
        shutil.copytree(tmp_path / "ours", tmp_path / "late")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["late", "other", "ours"]


def test_what_is_no_number_is_null():
    text = as_json({"a": [float("nan"), 1.5], "b": {"c": float("inf")}})
    assert json.loads(text) == {"a": [None, 1.5], "b": {"c": None}}


def test_json_goes_through_links_and_into_pipes(tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    write_text(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE, text=True)
    write_text(tmp_path / "pipe", "through")
    assert reader.communicate()[0] == "through"
    assert (tmp_path / "pipe").is_fifo()


def test_a_broken_kernel_is_named(capsys, monkeypatch):
    """Wrong weights, negative variances and NaN are failed checks, not wrong input."""
    import verification
    from kernels.program.program import Program
    from verification.kernels import layers, networks

    exact = Program.weight
    # The other operators of this step take their time to compile, and their weights the same way.
    for check in ("conv2d", "pooling"):
        monkeypatch.setattr(layers, f"_check_{check}", lambda *_: [])
    monkeypatch.setattr(networks, "_check_lenet5", networks._check_network)
    steps = [step for step in verification.steps({}, "host", "local") if step.name == "kernels"]
    monkeypatch.setattr(verification, "steps", lambda *_: steps)
    for factor in (1.001, -1.0, float("nan")):

        def broken(program, name, values, *dtype, factor=factor):
            tensor = exact(program, name, values, *dtype)
            program.weights[-1] = tensor, np.float32(factor) * program.weights[-1][1]
            return tensor

        monkeypatch.setattr(Program, "weight", broken)
        code, _, err = run(capsys, "verify", "--mc-samples", 50_000)
        assert code == 1
        for schedule in ("default", "hand"):
            for case in ("dense, random input", "dense, known input", "network 784-100-100-10"):
                assert f"check failed: kernel: {case} ({schedule})\n" in err


def test_a_report_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "report"
    with report.folder(target) as work:
        report.write(work, "title", [report.Section("One", ["<b>text</b>"])], {"n": 1})
        (work / "old.png").write_text("old")
    assert "&lt;b&gt;text" in (target / "index.html").read_text()
    with pytest.raises(ZeroDivisionError), report.folder(target) as work:
        raise ZeroDivisionError
    assert json.loads((target / "report.json").read_text())["n"] == 1
    with report.folder(target) as work:
        report.write(work, "title", [], {"n": 2})
    assert sorted(path.name for path in target.iterdir()) == ["index.html", "report.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_full_disk_leaves_the_earlier_report(tmp_path):
    target = tmp_path / "report"
    with report.folder(target) as work:
        report.write(work, "title", [], {"n": 1})
    message = "No space left on device; expected a folder to write to"
    with pytest.raises(InputError, match=message), report.folder(target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert json.loads((target / "report.json").read_text())["n"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_reader_that_leaves_ends_the_command_quietly():
    code = (
        "import sys, verification\n"
        "verification.steps = lambda *_: []\n"
        "verification.as_text = lambda _: 'x' * 1_000_000\n"
        "from refbnn.cli import main\n"
        "sys.exit(main(['verify']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 128 + signal.SIGPIPE


def test_unwritable_places_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="expected a folder to write to"),
        report.folder(tmp_path / "file" / "report"),
    ):
        pass
    with pytest.raises(InputError, match="expected a file to write to"):
        write_text(tmp_path / "none" / "v.json", "{}")
