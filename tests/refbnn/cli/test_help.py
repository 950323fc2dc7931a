"""Help, suggestions and names: what a user meets before anything is computed."""

import subprocess
import sys
from pathlib import Path

import pytest

import refbnn
from refbnn import cli
from refbnn.errors import MissingPackageError, naming_the_extra

HEAVY = {"numpy", "scipy", "numba", "tvm", "matplotlib", "jinja2", "tqdm", "importlib.metadata"}


def run(capsys, *words):
    """Exit code, standard output and standard error of one command."""
    code: object
    try:
        code = cli.main(words)
    except SystemExit as exit_:
        code = exit_.code
    return code, *capsys.readouterr()


def python(code):
    """Run code in a new process; its exit code, output and errors."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_help_lists_every_command_by_purpose(capsys):
    code, out, err = run(capsys, "--help")
    assert (code, err) == (0, "")
    for title, commands in cli.GROUPS.items():
        section = out.partition(f"\n{title}:\n")[2].partition("\n\n")[0]
        assert [line.split()[0] for line in section.splitlines()] == list(commands)
    assert max(map(len, out.splitlines())) <= 100


def test_help_of_every_command_imports_nothing_heavy():
    code = (
        "import sys, refbnn.cli\n"
        "for name in refbnn.cli.COMMANDS:\n"
        "    try: refbnn.cli.main([name, '--help'])\n"
        "    except SystemExit as end: assert end.code == 0\n"
        f"sys.exit(','.join({HEAVY!r} & set(sys.modules)) or 0)\n"
    )
    code, out, err = python(code)
    assert code == 0, err
    assert all(f"usage: refbnn {name} " in out for name in cli.COMMANDS)


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"refbnn {refbnn.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "refbnn: no command 'trian'; did you mean 'train'? (see refbnn --help)"),
        (["trian", "--epochs", "3"], "refbnn: no command 'trian'; did you mean 'train'?"),
        (["trian", "--help"], "refbnn: no command 'trian'; did you mean 'train'?"),
        (["evaluate", "m.npz", "--id", "mnist", "--method", "boht"], "did you mean 'both'?"),
        (["--versoin"], "refbnn: no option '--versoin'; did you mean '--version'?"),
        ([], "refbnn: no command; expected one of those that --help lists"),
        (
            ["train", "--epoch", "3"],
            "refbnn train: no option '--epoch'; did you mean '--epochs'? (see refbnn train --help)",
        ),
        (["compare", "m.npz", "--ids=mnist"], "no option '--ids'; did you mean '--id'?"),
        (["noise", "fit", "x.csv", "--colum", "g"], "refbnn noise fit: no option '--colum'; did"),
        (["noise", "fti"], "did you mean 'fit'?"),
        (["train", "--dtype", "flaot64"], "did you mean 'float64'?"),
        (["data", "fetch", "mnits"], "refbnn data: no data set 'mnits' to fetch; expected some of"),
        (["figures", "fit"], "; did you mean 'fits'?"),
    ],
)
def test_misspelt_words_name_the_nearest_one(capsys, words, said):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_options_are_not_abbreviated(capsys):
    """--js is not --json: a script would break when another option gets that beginning."""
    code, _, err = run(capsys, "noise", "fit", "x.csv", "--js", "f.json")
    assert code == 2
    assert "no option '--js'" in err


ROOT = str(Path(refbnn.__file__).parents[1])
BLOCK = f"""
import sys
from importlib.abc import MetaPathFinder

sys.path.insert(0, {ROOT!r})  # wherever the process works

BLOCKED = set()

class Blocker(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError("No module named " + name, name=name)

sys.meta_path.insert(0, Blocker())
"""
OPTIONAL = {"tvm", "tvm_ffi", "matplotlib", "jinja2", "pooch", "requests", "PIL", "psutil"}


def command(blocked, *words):
    """Exit code, output and errors of a command in a process without some packages."""
    run = f"from refbnn.cli import main\nsys.exit(main({words!r}))"
    return python(f"{BLOCK}\nBLOCKED |= {blocked!r}\n{run}")


@pytest.mark.parametrize(
    ("words", "blocked", "said"),
    [
        (["compile", "m.npz", "-o", "d"], {"tvm"}, "apache-tvm: pip install 'refbnn[kernels]'"),
        (["verify"], {"tvm"}, "apache-tvm: pip install 'refbnn[kernels]'"),
        (["figures", "fits"], {"matplotlib"}, "matplotlib: pip install 'refbnn[figures]'"),
        (
            ["noise", "fit", "values.csv", "--plot", "fit.png"],
            {"matplotlib"},
            "matplotlib: pip install 'refbnn[figures]'",
        ),
        (["data", "fetch", "mnist"], {"pooch"}, "pooch: pip install 'refbnn[data]'"),
    ],
)
def test_a_package_that_is_absent_is_named_with_its_extra(
    tmp_path, monkeypatch, words, blocked, said
):
    monkeypatch.chdir(tmp_path)
    assert command(blocked, *words) == (2, "", f"refbnn {words[0]}: needs {said}\n")


def test_base_commands_need_no_extra(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = "\n".join(str((i * 7919 % 1009) / 1009) for i in range(300))
    (tmp_path / "values.csv").write_text(f"g\n{values}\n")
    data = "mnist-subset"
    for words in (
        ["noise", "fit", "values.csv", "--family", "device", "-o", "law.json"],
        ["noise", "sample", "law.json", "-n", "5", "-o", "x.npy"],
        ["data", "list"],
        ["train", "--arch", "mlp", "--data", data, "--epochs", "1", "-o", "m.npz"],
        ["evaluate", "m.npz", "--id", data, "--ood", "fashion-subset", "--samples", "2"],
        ["predict", "m.npz", "x.npy"],
    ):
        code, out, err = command(OPTIONAL, *words)
        if words[0] == "predict":  # x.npy is no input
            assert "expected numbers (N, ...)" in err
        else:
            assert (code, err) == (0, ""), words
    code, out, err = command(OPTIONAL, "noise", "show", "law.json")
    assert (code, "skewness" in out) == (0, True)
    assert "no picture, which needs matplotlib: pip install 'refbnn[figures]'" in err
    code, _, err = command(OPTIONAL, "noise", "show", "law.json", "-o", "law.png")
    assert (code, err) == (2, "refbnn noise: needs matplotlib: pip install 'refbnn[figures]'\n")


def test_kernels_without_tvm_say_what_to_install():
    code, _, err = python(f"{BLOCK}\nBLOCKED.add('tvm')\nfrom kernels import compile_network")
    assert code == 1
    said = "needs apache-tvm: pip install 'refbnn[kernels]'"
    assert err.splitlines()[-1] == f"refbnn.errors.MissingPackageError: {said}"
    assert issubclass(MissingPackageError, ImportError)


def test_other_modules_that_are_absent_stay_errors():
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), naming_the_extra():
        import no_such_module  # type: ignore[import-not-found] # noqa: F401
    with pytest.raises(ModuleNotFoundError, match="tvm"), naming_the_extra():
        import tvm.no_such_module  # noqa: F401


def test_public_names_load_on_first_use():
    code = (
        "import sys, refbnn\n"
        f"assert not {HEAVY!r} & set(sys.modules)\n"
        "assert set(dir(refbnn)) >= {*refbnn.__all__, '__version__'}\n"
        "for name in refbnn.__all__: getattr(refbnn, name)\n"
        "assert refbnn.layers.Dense and refbnn.noise.fit and refbnn.prior and refbnn.data.load\n"
        "assert refbnn.__version__\n"
        "assert not hasattr(refbnn, 'nothing')\n"
    )
    assert python(code) == (0, "", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["noise", "fit", "w.csv", "-o", "w.csv"], "--out w.csv: this is file too"),
        (
            ["noise", "fit", "w.csv", "-o", "a.json", "--json", "a.json"],
            "--out a.json: this is json too",
        ),
        (["predict", "m.npz", "x.npy", "-o", "m.npz"], "--out m.npz: this is model too"),
        (
            ["evaluate", "m.npz", "--id", "mnist", "--json", "m.npz"],
            "--json m.npz: this is model too",
        ),
        (["noise", "show", "law.json", "-o", "law"], "law: expected a name that ends in .png"),
        (["noise", "show", "law.json", "-o", "no/law.png"], "there is no folder no"),
    ],
)
def test_outputs_replace_no_input_and_no_other_output(capsys, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    for name in ("w.csv", "m.npz", "law.json"):
        (tmp_path / name).write_text("kept")
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert {path.read_text() for path in tmp_path.iterdir()} == {"kept"}
